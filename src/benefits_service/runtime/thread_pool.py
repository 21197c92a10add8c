"""Adapts a blocking store to an event loop: threads wait in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import get_ident
from typing import Final, TypeVar

from benefits_core import StorageUnavailableError, Store, UnitOfWork
from benefits_core.ports import View

_Result = TypeVar("_Result")

# How many requests of a worker process read at once; the others wait in line.
READER_THREADS: Final = 16

PATIENCE: Final = 5.0
"""How long a change waits in line, in seconds, unless another patience is given."""


class ThreadPoolStore:
    """A :class:`~benefits_core.ports.NonBlockingStore` over any store.

    One thread runs all changes that are submitted, in their order; others read.

    :param store: what does the work; any number of threads may use it.
    :param patience: how long a change waits for those submitted before it, in seconds; then it waits within the store.
    """

    reads_inline = False

    def __init__(self, store: Store, *, patience: float = PATIENCE) -> None:
        self._store = store
        self._patience = patience
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="benefits-changes")
        self._readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="benefits-reads")
        self._changing: set[int] = set()  # the threads that run a change
        self.users, self.grants = store.users, store.grants
        self.products, self.orders = store.products, store.orders
        self.ping = store.ping

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """See :class:`~benefits_core.ports.Store`."""
        return self._store.change(partial(self._run, do))

    def _run(self, do: Callable[[UnitOfWork], _Result], work: UnitOfWork) -> _Result:
        self._changing.add(get_ident())
        try:
            return do(work)
        finally:
            self._changing.discard(get_ident())

    def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`."""
        if get_ident() in self._changing:
            raise RuntimeError("a change submitted inside a change could wait for itself")
        deadline = time.monotonic() + self._patience
        return self._writer.submit(copy_context().run, self._change_unless_late, deadline, do)

    def _change_unless_late(self, deadline: float, do: Callable[[UnitOfWork], _Result]) -> _Result:
        if time.monotonic() > deadline:
            raise StorageUnavailableError(f"other changes have been running for {self._patience} s")
        return self.change(do)

    def submit_read(self, query: Callable[[View], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`."""
        return self._readers.submit(query, self._store)

    def close(self) -> None:
        """Finish the work that was submitted, then end the threads."""
        self._writer.shutdown()
        self._readers.shutdown()
