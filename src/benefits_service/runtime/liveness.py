"""Liveness: which worker processes still do their work, and whether any does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Thread
from typing import Final

from benefits_service.runtime.inheritance import InheritedDescriptor

# Time is counted in ticks of the watching thread and not read from a clock: while the machine sleeps, nothing ticks.
_TICK: Final = 1.0

SILENCE: Final = 10
"""The parent kills a worker whose event loop stands still for this number of seconds."""

START: Final = 30
"""The parent kills a worker that does not begin to serve within this number of seconds."""

HOPELESS: Final = 20
"""The service ends if for so many seconds no worker has lived longer than a moment, and another one dies."""

_PID_BYTES: Final = 4
_READ: Final = 65_536

_log = logging.getLogger(__name__)


def beat(pulse: InheritedDescriptor) -> None:
    """Show from now on that the event loop of this worker turns. The loop is the current one of this thread."""
    loop = asyncio.get_event_loop()
    process = os.getpid().to_bytes(_PID_BYTES)

    def show() -> None:
        with suppress(OSError):  # the parent is gone, or stopped and its pipe is full
            os.write(pulse.number, process)
        loop.call_later(_TICK, show)

    loop.call_soon(show)


class Liveness:
    """What the parent process knows of its workers.

    :param workers: returns the process ids of the workers.
    """

    def __init__(self, workers: Callable[[], Iterable[int]]) -> None:
        self._workers = workers
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        self.pulse = InheritedDescriptor(writer)
        """What workers show by :func:`beat` that they are alive."""
        self._beats: dict[int, int] = {}
        self._silence: dict[int, int] = {}
        self._ticks_without_worker = 0

    @property
    def hopeless(self) -> bool:
        """Whether no worker has lived longer than a moment for so long that none can be expected to."""
        return self._ticks_without_worker >= HOPELESS

    def watch(self) -> None:
        """Begin to watch, in a thread of its own."""
        Thread(target=self._watch, name="benefits-liveness", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_TICK)
            self._tick(set(self._workers()), self._heard())

    def _heard(self) -> set[int]:
        try:
            text = os.read(self._reader, _READ)
        except BlockingIOError:
            return set()
        return {int.from_bytes(text[at : at + _PID_BYTES]) for at in range(0, len(text), _PID_BYTES)}

    def _tick(self, workers: set[int], heard: set[int]) -> None:
        self._beats = {worker: self._beats.get(worker, 0) + (worker in heard) for worker in workers}
        self._silence = {
            worker: 0 if worker in heard else self._silence.get(worker, 0) + 1 for worker in workers
        }
        for worker, silence in self._silence.items():
            limit = SILENCE if self._beats[worker] else START
            if silence >= limit:
                _log.error("worker %s has done nothing for %s s; it is killed", worker, limit)
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        # By its second beat, a worker has lived longer than a moment.
        kept = any(beats > 1 and self._silence[worker] < SILENCE for worker, beats in self._beats.items())
        self._ticks_without_worker = 0 if kept else self._ticks_without_worker + 1
