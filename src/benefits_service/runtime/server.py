"""The production web server: Granian, several worker processes, each with an event loop."""

from __future__ import annotations

import atexit
import ctypes
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from socket import socket
from threading import Thread
from typing import Any, Final, cast

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from benefits_service import logs
from benefits_service.output import protect
from benefits_service.runtime.asgi import ASGIApplication
from benefits_service.runtime.inheritance import InheritedDescriptor
from benefits_service.runtime.liveness import Liveness, beat

# How long requests in flight may take after a signal to stop, in seconds.
GRACE: Final = 8

KEEP_ALIVE: Final = 75
"""How long an idle connection stays open, in seconds, by default: longer than load balancers keep theirs."""

# From Linux's prctl.h.
_PR_SET_PDEATHSIG: Final = 1

# Before a worker that died is replaced again, in seconds.
PAUSE_BETWEEN_RESPAWNS: Final = 0.2


class NoWorkerError(Exception):
    """No worker process could be kept alive; the log says why each of them ended."""


def _begin_work(
    build: Callable[[], ASGIApplication], address: InheritedDescriptor, pulse: InheritedDescriptor
) -> ASGIApplication:
    """Return the application that this worker process serves."""
    protect()
    _continue_with_parent_gone()
    # The thread also keeps the address claimed as long as this process may listen there.
    Thread(target=_end_with_parent, args=[address], daemon=True).start()
    # Granian's threads may still run while the interpreter shuts down, and would abort the process (before Python 3.14).
    # What is registered first runs last.
    atexit.register(os._exit, 0)
    app = build()
    _freeze()
    beat(pulse)
    return app


def _freeze() -> None:
    # Exempt what exists now from garbage collection: each full collection stopped every request for 20 to 30 ms.
    gc.collect()
    gc.freeze()


def _prefer_throughput() -> None:
    # SCHED_BATCH avoids wake-up preemption between our threads (reads: one sixth faster).
    with suppress(AttributeError, OSError):  # another system, or a container that forbids it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _continue_with_parent_gone() -> None:
    # A process that is stopped (SIGSTOP) would not notice that its parent has ended, and would keep the address.
    with suppress(AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def _end_with_parent(_: object) -> None:
    # A worker whose parent was killed would hold the port, and would never be replaced.
    cast("BaseProcess", multiprocessing.parent_process()).join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)  # the parent would enforce it: a stalled client could keep the worker for ever
    os._exit(1)


@contextmanager
def _terminal_signals_blocked() -> Iterator[None]:
    """Start processes that ignore what a terminal sends to all processes of the service: only the parent acts on it.

    It ends its workers by SIGTERM, after which they answer the requests in flight.
    """
    signals = {signal.SIGINT, signal.SIGHUP}
    resource_tracker.ensure_running()  # first, for multiprocessing unblocks SIGINT when it starts this process
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


class _Supervisor(MPServer):
    """Granian, but it replaces a worker that dies, however often, and ends if none can be kept alive.

    Granian ends the whole service when a worker dies twice within seconds, although the other workers are well, and
    although what a worker needs in order to start, such as the database file, may be back in the next moment.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        super().__init__("benefits", **options)
        self.liveness = Liveness(self._worker_ids)
        self.on_startup(self._set_hangup)

    def _worker_ids(self) -> list[int]:
        return [worker.inner.pid for worker in list(self.wrks) if worker.inner.exitcode is None]

    def serve(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        self._hangup_was_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        try:
            super().serve(*arguments, **options)
        except BaseException:
            self._stop_workers()  # else this process would wait for them for ever
            raise

    def _stop_workers(self) -> None:
        super()._stop_workers()  # type: ignore[no-untyped-call] # Granian has no types here
        self.interrupt_children.clear()  # a worker that died just before would be a failure of the service

    def _set_hangup(self) -> None:
        # When a terminal closes, its services end, unless nohup has started them. Granian would replace all workers.
        ends = self.signal_handler_interrupt
        signal.signal(signal.SIGHUP, signal.SIG_IGN if self._hangup_was_ignored else ends)

    def _spawn_workers(self, *arguments: Any) -> None:  # noqa: ANN401 - passed on as they are
        with _terminal_signals_blocked():
            super()._spawn_workers(*arguments)  # type: ignore[no-untyped-call] # Granian has no types here
        self.liveness.watch()

    def _respawn_workers(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        if self.liveness.hopeless:
            raise NoWorkerError
        with _terminal_signals_blocked():
            super()._respawn_workers(*arguments, **options)
        self.respawned_wrks.clear()  # by this record it would end the service
        time.sleep(PAUSE_BETWEEN_RESPAWNS)


def serve(build: Callable[[], ASGIApplication], *, address: socket, workers: int, keep_alive: int) -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C; requests in flight are answered before it returns.

    :param build: builds the application, in each worker process; it is pickled to get there.
    :param address: the socket that :func:`~benefits_service.runtime.address.claim` returns.
    :param workers: the number of worker processes.
    :param keep_alive: how long an idle connection stays open, and how long the headers of a request may take, in seconds.
    :raises NoWorkerError: no worker could be kept alive.
    """
    _prefer_throughput()  # the workers and their threads inherit it
    # A worker that dies is replaced while this process has threads, and a fork would inherit their locks.
    multiprocessing.set_start_method("spawn")
    os.environ["PYTHONSAFEPATH"] = "1"  # workers import nothing from the working folder
    _freeze()
    host, port, *_ = address.getsockname()
    server = _Supervisor(
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        workers=workers,
        # By HTTP/2 one connection could send as many requests at once as a hundred clients.
        http=HTTPModes.http1,
        # Granian waits as long for the header of a request as for its first byte.
        http1_settings=HTTP1Settings(header_read_timeout=keep_alive * 1000),
        websockets=False,
        loop=Loops.asyncio,  # with uvloop, one Ctrl-C in about twenty left a worker that never ended
        log_level=LogLevels.error,
        log_dictconfig=logs.CONFIG,
        respawn_failed_workers=True,
        workers_kill_timeout=GRACE,
    )
    begin = partial(_begin_work, build, InheritedDescriptor(address.fileno()), server.liveness.pulse)
    server.serve(target_loader=begin, wrap_loader=False)
