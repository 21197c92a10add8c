"""A store for an event loop: a request that waits for the store is suspended, and the loop serves other requests.

It wraps the store and not the use cases, so it knows none of them: each runs over it as over any store.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Protocol, TypeVar

import attrs

from benefits_core import (
    NonBlockingStore,
    StorageUnavailableError,
    Store,
    UnitOfWork,
)
from benefits_core.ports import GrantReader, OrderReader, ProductReader, UserReader, View
from benefits_service.runtime.suspension import suspend_until
from benefits_service.runtime.thread_pool import ThreadPoolStore

_Result = TypeVar("_Result")

# How long a change that failed counts as a sign that the next one will fail too, in seconds.
_FAILURE_COUNTS: Final = 60.0

# How long a change that changes nothing may wait to begin until the service counts as unable to keep any, in seconds.
_PROBE_PATIENCE: Final = 1.0

PATIENCE: Final = 6.0
"""How long a request waits for its change to begin, in seconds: longer than stores do by themselves, so that it matters
only if a store can't keep its promise, for example because a disk hangs."""


def on_event_loop(store: Store) -> EventLoopStore:
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
        self._ended: deque[asyncio.Future[None]] = deque()  # the requests to resume
        self._will_resume = False
        self._failed: float | None = None  # when the last change failed, if none has succeeded since
        # The last change that changed nothing, and when it was submitted.
        self._probe: tuple[Future[None], float] | None = None
        view: View = store if store.reads_inline else _SuspendingView(self._read)
        self.users, self.grants, self.products, self.orders = (
            view.users,
            view.grants,
            view.products,
            view.orders,
        )

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """See :class:`~benefits_core.ports.Store`."""
        suspend_until(
            asyncio.sleep(0)
        )  # so that the changes of one iteration of the loop are submitted together
        future = self._store.submit(_in_time(do, self._patience))
        # A store keeps its patience by itself. This is for one whose own thread is stuck.
        timer = asyncio.get_running_loop().call_later(self._patience, future.cancel)
        try:
            result = self._result(future)
        except CancelledError:
            self._failed = time.monotonic()
            raise _too_late(self._patience) from None
        except StorageUnavailableError:
            self._failed = time.monotonic()
            raise
        finally:
            timer.cancel()
            del future  # its error refers to this frame
        self._failed = None
        return result

    def can_change(self) -> bool:
        """Return whether changes can be kept, as far as this process knows. It takes a second at most.

        A change that changes nothing must be able to begin, and the last one that changed something must not have failed
        within the last minute, for example because the disk is full.
        """
        if self._failed is not None and time.monotonic() - self._failed < _FAILURE_COUNTS:
            return False
        if self._probe is None or self._probe[0].done():
            probe = self._store.submit(_in_time(lambda _: None, self._patience))
            self._probe = probe, time.monotonic()
        probe, began = self._probe
        left = began + _PROBE_PATIENCE - time.monotonic()
        if not probe.done() and left > 0:
            suspend_until(asyncio.wait([self._end_of(probe)], timeout=left))
        return probe.done() and probe.exception() is None

    def ping(self) -> None:
        """See :class:`~benefits_core.ports.Store`."""
        if self._store.reads_inline:
            self._store.ping()
        else:
            self._read(lambda _: self._store.ping())

    def _read(self, query: Callable[[View], _Result]) -> _Result:
        return self._result(self._store.submit_read(query))

    def _result(self, future: Future[_Result]) -> _Result:
        try:
            if not future.done():
                suspend_until(self._end_of(future))
            return future.result()
        finally:
            del future  # its error refers to this frame

    def _end_of(self, future: Future[Any]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        end: asyncio.Future[None] = loop.create_future()

        def notify(_: Future[Any]) -> None:
            self._ended.append(end)
            # One call for all changes of a batch: it costs a system call, and the thread the interpreter's lock.
            if not self._will_resume:
                self._will_resume = True
                loop.call_soon_threadsafe(self._resume)

        future.add_done_callback(notify)
        return end

    def _resume(self) -> None:
        self._will_resume = False  # first: what is appended from now on is resumed below, or by another call
        while self._ended:
            end = self._ended.popleft()
            if not end.done():  # the request may have been cancelled
                end.set_result(None)


def _in_time(do: Callable[[UnitOfWork], _Result], patience: float) -> Callable[[UnitOfWork], _Result]:
    """Return a change that refuses to begin when its request has been refused already, or should have been.

    If the process was stopped for a while, no timer has run, and the store does not know how long the change has waited.
    """
    deadline = time.monotonic() + patience
    begun = False

    def begin(unit: UnitOfWork) -> _Result:
        nonlocal begun
        if not begun and time.monotonic() > deadline:
            raise _too_late(patience)
        begun = True  # the store may run it again, and then it is not abandoned
        return do(unit)

    return begin


def _too_late(patience: float) -> StorageUnavailableError:
    return StorageUnavailableError(f"a change could not begin within {patience} s")


class _Read(Protocol):
    def __call__(self, query: Callable[[View], _Result]) -> _Result: ...


class _SuspendingView:
    def __init__(self, read: _Read) -> None:
        self.users: UserReader = _SuspendingReader(read, "users")
        self.grants: GrantReader = _SuspendingReader(read, "grants")
        self.products: ProductReader = _SuspendingReader(read, "products")
        self.orders: OrderReader = _SuspendingReader(read, "orders")


@attrs.frozen
class _SuspendingReader:
    """A reader of the store; the calling request is suspended until its method has returned."""

    _read: _Read
    _name: str

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - those of any method
            return self._read(lambda view: getattr(getattr(view, self._name), method)(*arguments, **options))

        return call
