"""A thread that handles the calls of all others: those that wait together, together."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_ident
from typing import Any, Final

from benefits_core.calls import Call, Place

# More new calls at once would make the first ones wait for long.
MAX_BATCH: Final = 100

# How long calls that were given back wait for new ones, in seconds.
_PAUSE: Final = 0.003


class Worker:
    """Takes calls and handles them.

    :param name: that of the thread.
    :param patience: how long a call waits, in seconds.
    :param handle: sets the outcome of each call; returns those to be handled again, with the next ones.
    """

    def __init__(self, name: str, patience: float, handle: Callable[[list[Call]], list[Call]]) -> None:
        self._name = name
        self._patience = patience
        self._handle = handle
        self._queue: SimpleQueue[Call | None] = SimpleQueue()  # None ends the thread
        self._working = Lock()  # held by the thread while it lives
        self._thread: int | None = None
        self._calls: list[Call] = []  # those that are being handled
        self._closing = Lock()  # once a thread closes this, it is held for ever
        self.closed = False

    def require_outside(self) -> None:
        """Raise an error if this is the thread itself: it would wait for itself.

        :raises RuntimeError: it is.
        """
        if self._thread == get_ident():
            raise RuntimeError("a change inside a change would wait for itself")

    def require_open(self) -> None:
        """Raise an error if the store is closed.

        :raises RuntimeError: it is.
        """
        if self.closed:
            raise RuntimeError("the store is closed")

    def put(self, do: Callable[[Any], Any], place: Future[Any] | Place[Any]) -> None:
        """Queue a call.

        :raises RuntimeError: the store is closed, or the caller is inside a call.
        """
        self.require_outside()
        self.require_open()
        if not self._working.locked():
            Thread(target=self._work, name=self._name, daemon=True).start()
        self._queue.put(Call(do, time.monotonic() + self._patience, copy_context(), place))
        if self.closed and place.cancel():  # the thread may have ended before it found this call
            self.require_open()

    def too_long(self) -> str:
        """Return why a call has ended that waited for longer than its patience."""
        return f"other changes have been running for {self._patience} s"

    def _work(self) -> None:
        if not self._working.acquire(blocking=False):
            return  # another thread is the one
        try:
            self._handle_calls()
        finally:
            self._working.release()

    def _handle_calls(self) -> None:
        self._thread = get_ident()
        try:
            waiting: list[Call] = []
            while self._take(waiting) or waiting:
                waiting = self._handled(self._begun(waiting))
        finally:
            self._thread = None

    def _handled(self, calls: list[Call]) -> list[Call]:
        self._calls = [*calls]
        try:
            return self._handle(calls)
        except Exception as error:  # noqa: BLE001 - a bug of this package, which must not end the thread
            for call in self._calls:
                with suppress(Exception):  # it may have ended
                    call.end(f"{type(error).__name__}: {error}")
            return []
        finally:
            self._calls = []

    def _take(self, calls: list[Call]) -> bool:
        """Take the calls that wait; wait for one if there is none. Return False if no other will come."""
        enough = len(calls) + MAX_BATCH  # however many were given back
        try:
            call = self._queue.get(timeout=_PAUSE if calls else None)
            while call is not None:
                calls.append(call)
                if len(calls) >= enough:
                    return True
                call = self._queue.get_nowait()
        except Empty:
            return True
        self._queue.put(None)
        if calls:  # they may have been given back
            time.sleep(_PAUSE)
        return False

    def _begun(self, calls: list[Call]) -> list[Call]:
        now, begun = time.monotonic(), []
        while calls:
            call = calls.pop(0)
            if not call.begin():
                continue  # it was cancelled
            if now <= call.deadline:
                begun.append(call)
            elif call.outcome[1] is not None:  # why it is to be run again
                call.end(None)
            else:
                call.end(self.too_long())
        return begun

    def close(self) -> bool:
        """Handle the calls that wait, refuse later ones, and end the thread.

        Return False at once if another thread does that, or it was done.
        """
        self.require_outside()
        if not self._closing.acquire(blocking=False):
            return False
        self.closed = True
        self._queue.put(None)
        self._working.acquire()  # for ever: the thread has ended, and no other begins
        self._handle_calls()  # those for which a thread was started that has not begun
        return True
