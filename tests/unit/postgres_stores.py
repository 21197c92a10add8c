"""What tests of a store on PostgreSQL do with its threads and its connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from benefits_postgres.connection import Database
from waiting import A_LONG_TIME


class Waiting:
    """A change, or a query, that does something, waits until it is released, and does something else."""

    def __init__(
        self, *first: Callable[[Any], object], then: Callable[[Any], object] = lambda _: None
    ) -> None:
        self._first, self._then = first, then
        self.has_begun, self._may_end = Event(), Event()

    def __call__(self, unit: Any) -> object:
        for do in self._first:
            do(unit)
        self.has_begun.set()
        assert self._may_end.wait(A_LONG_TIME)
        return self._then(unit)

    def release(self) -> None:
        self._may_end.set()


@contextmanager
def running(submit: Callable[[Any], Future[Any]], waiting: Waiting) -> Iterator[Future[Any]]:
    """Submit what waits, and have it wait during the block.

    :param submit: ``submit`` of a store, or ``submit_read``.
    """
    future = submit(waiting)
    try:
        assert waiting.has_begun.wait(A_LONG_TIME)
        yield future
    finally:
        waiting.release()
    future.result(A_LONG_TIME)


def round_trips(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the statements of each later round trip of a connection are added."""
    sent: list[str] = []
    run = database.run

    def noting(statements: str, *arguments: Any, **options: Any) -> Any:
        sent.append(statements)
        return run(statements, *arguments, **options)

    monkeypatch.setattr(database, "run", noting)
    return sent
