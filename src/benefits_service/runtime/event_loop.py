"""A store for an event loop: a request that waits for the store is suspended, and the loop serves other requests.

It wraps the store and not the use cases, so it knows none of them: each runs over it as over any store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar, cast

import attrs

from benefits_core import NonBlockingStore, StorageUnavailableError, Store, UnitOfWork
from benefits_core.ports import OrderReader, ProductReader, UserReader, View
from benefits_service.runtime.suspension import suspend_until
from benefits_service.runtime.thread_pool import ThreadPoolStore

_Result = TypeVar("_Result")

PATIENCE: Final = 6.0
"""How long a request waits for its change to begin, in seconds: longer than stores do by themselves, so that it matters
only if a store can't keep its promise, for example because a disk hangs."""


def on_event_loop(store: Store) -> Store:
    """Return a store for use cases that a :class:`~benefits_service.runtime.suspension.Suspendable` calls.

    :param store: any store; one that has no non-blocking methods gets them from a pool of threads.
    """
    return EventLoopStore(store if isinstance(store, NonBlockingStore) else ThreadPoolStore(store))


class EventLoopStore:
    """A store whose methods suspend the calling request instead of blocking the thread.

    :param store: what does the work.
    :param patience: how long a change may wait to begin, in seconds.
    """

    def __init__(self, store: NonBlockingStore, *, patience: float = PATIENCE) -> None:
        self._store = store
        self._patience = patience
        self.users = cast("UserReader", _SuspendingReader(self._read, "users"))
        self.products = cast("ProductReader", _SuspendingReader(self._read, "products"))
        self.orders = cast("OrderReader", _SuspendingReader(self._read, "orders"))

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """See :class:`~benefits_core.ports.Store`."""
        future = self._store.submit(do)
        # A store keeps its patience by itself. This is for one whose own thread is stuck.
        timer = asyncio.get_running_loop().call_later(self._patience, future.cancel)
        try:
            return _result(future)
        except CancelledError:
            raise StorageUnavailableError(f"a change could not begin within {self._patience} s") from None
        finally:
            timer.cancel()
            del future  # its error refers to this frame

    def ping(self) -> None:
        """See :class:`~benefits_core.ports.Store`."""
        self._read(lambda _: self._store.ping())

    def _read(self, query: Callable[[View], _Result]) -> _Result:
        return _result(self._store.submit_read(query))


@attrs.frozen
class _SuspendingReader:
    """One of the readers of a view, whatever methods it has."""

    _read: Callable[[Callable[[View], Any]], Any]
    _name: str

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *arguments: self._read(
            lambda view: getattr(getattr(view, self._name), method)(*arguments)
        )


def _result(future: Future[_Result]) -> _Result:
    try:
        if not future.done():
            suspend_until(_end_of(future))
        return future.result()
    finally:
        del future  # its error refers to this frame


def _end_of(future: Future[Any]) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not end.done():  # the request may have been cancelled
            end.set_result(None)

    future.add_done_callback(lambda _: loop.call_soon_threadsafe(wake))
    return end
