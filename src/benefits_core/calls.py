"""For authors of stores that queue their changes: what a writer thread runs, and where the caller waits for the outcome."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from threading import Lock
from typing import Any, Generic, TypeVar

import attrs

from benefits_core.errors import StorageUnavailableError
from benefits_core.ports import UnitOfWork

_Result = TypeVar("_Result")
Outcome = tuple[Any, BaseException | None]
"""A result, or an error."""


class Place(Generic[_Result]):
    """Where a thread waits for its change: a future whose methods Ctrl-C can't leave half-way.

    In a ``Future``, both threads take one lock. If Ctrl-C arrives while the waiting thread holds it, the writer hangs.
    """

    def __init__(self) -> None:
        self._claimed, self._ended = Lock(), Lock()
        self._ended.acquire()
        self._outcome: Outcome = (None, None)

    def set_running_or_notify_cancel(self) -> bool:
        """See :class:`concurrent.futures.Future`."""
        return self._claimed.acquire(blocking=False)

    cancel = set_running_or_notify_cancel  # the first of the two succeeds

    def set_result(self, result: _Result) -> None:
        """See :class:`concurrent.futures.Future`."""
        self._end((result, None))

    def set_exception(self, error: BaseException) -> None:
        """See :class:`concurrent.futures.Future`."""
        self._end((None, error))

    def _end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._ended.release()

    def wait(self, patience: float) -> bool:
        """Wait for the end. Return False if the change has not begun within this time; it never will."""
        ended = self._ended.acquire(timeout=patience)
        if not ended and self.cancel():
            return False
        return ended or self._ended.acquire()

    def result(self) -> _Result:
        """Return or raise what the change did, after its end."""
        result: _Result
        (result, error), self._outcome = self._outcome, (None, None)
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # it refers to this frame


@attrs.define(eq=False)
class Call:
    """A change that waits for the writer."""

    do: Callable[[UnitOfWork], Any]
    deadline: float  # until when it may begin, by time.monotonic()
    context: Context
    place: Future[Any] | Place[Any]
    outcome: Outcome = (None, None)
    _begun: bool | None = None

    def begin(self) -> bool:
        """Return False if it has been cancelled; otherwise it can't be cancelled any more."""
        if self._begun is None:
            self._begun = self.place.set_running_or_notify_cancel()
        return self._begun

    def end(self, failure: str | None) -> None:
        """Report the outcome, or why its batch could not be kept."""
        if not self.begin():
            return
        result, error = self.outcome
        if failure is not None:
            error = StorageUnavailableError(failure)  # one for each caller, who adds a traceback to it
        if error is None:
            self.place.set_result(result)
        else:
            self.place.set_exception(error)


def outcome_of(function: Callable[[], object]) -> Outcome:
    """Call a function; return what it returns or raises."""
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
        return None, error
