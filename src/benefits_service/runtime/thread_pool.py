"""Non-blocking methods for a store that has none: a pool of threads waits in its place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, TypeVar

from benefits_core import Store, UnitOfWork
from benefits_core.ports import View

_Result = TypeVar("_Result")

# How many requests of a worker process wait for the store at once; the others wait in line.
THREADS: Final = 16


class ThreadPoolStore:
    """A :class:`~benefits_core.ports.NonBlockingStore` over any store.

    :param store: what does the work; any number of threads may use it.
    """

    reads_inline = False

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="benefits-store")
        self.users, self.products, self.orders = store.users, store.products, store.orders
        self.change, self.ping = store.change, store.ping

    def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`."""
        return self._pool.submit(copy_context().run, self._store.change, do)

    def submit_read(self, query: Callable[[View], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`."""
        return self._pool.submit(query, self._store)

    def close(self) -> None:
        """Run what waits, and end the threads."""
        self._pool.shutdown()
