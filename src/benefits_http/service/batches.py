"""Orders, placed in batches: one thread does all that changes something, and one commit keeps what has waited together.

Reading waits for nobody, so the event loop does it. What changes something waits for the disk; while it does, more of it comes, and
the thread does all of that next. It is handed use cases and not requests: what is HTTP's is done before and after, where the file
is not locked meanwhile. A thread for each order would have to be woken up and put to sleep, which took more time than the order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol, TypeVar

import attrs

from benefits_core import Order, StorageUnavailableError, Store, UnitOfWork, UseCases, User
from benefits_http.service.suspension import wait_for

# More of them would make the first ones wait for long.
MOST_TOGETHER: Final = 64

_Result = TypeVar("_Result")
_Outcome = tuple[Any, Exception | None]


class Batch(Protocol):
    """Opens a block in which units of work are kept together, when it is left; nobody is told of any before."""

    def __call__(self, *, since: float) -> AbstractContextManager[None]:
        """Open it; ``since`` is when the first of those for whom it is began to wait, by ``time.monotonic()``."""
        ...


def in_batches(over: Callable[[Store], UseCases], store: Store, batch: Batch) -> UseCases:
    """Return use cases for an event loop, to be called by what a ``Suspendable`` calls.

    :param over: returns use cases over a store.
    :param store: the store.
    :param batch: what is around those that are done together.
    """
    batches = _Batches(batch)
    here, there = over(_ReadOnly(store)), over(store)

    def get_user(user_id: str) -> User:
        try:
            return here.get_user(user_id)
        except _ReadOnlyError:  # somebody new
            return batches.do(partial(there.get_user, user_id))

    def place_order(user_id: str, items: Sequence[str]) -> Order:
        return batches.do(partial(there.place_order, user_id, items))

    return attrs.evolve(here, get_user=get_user, place_order=place_order)


class _ReadOnlyError(Exception):
    """Something wants to change what this store does not let it change."""


class _ReadOnly:
    """A store as far as it waits for nobody."""

    def __init__(self, store: Store) -> None:
        self.users, self.products, self.orders = store.users, store.products, store.orders
        self.ping = store.ping

    def unit_of_work(self) -> AbstractContextManager[UnitOfWork]:
        raise _ReadOnlyError


@attrs.frozen
class _Call:
    function: Callable[[], Any]
    outcome: asyncio.Future[_Outcome]
    since: float = attrs.field(factory=time.monotonic)


class _Batches:
    """A thread, and what waits for it."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._waiting: SimpleQueue[_Call] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def do(self, function: Callable[[], _Result]) -> _Result:
        """Return what a function returns, or raise what it raises, once that is kept."""
        call = _Call(function, asyncio.get_running_loop().create_future())
        self._waiting.put(call)
        result: _Result
        result, error = wait_for(call.outcome)
        if error is not None:
            raise error
        return result

    def _work(self) -> None:
        while True:
            calls = [self._waiting.get()]
            with suppress(Empty):
                while len(calls) < MOST_TOGETHER:
                    calls.append(self._waiting.get_nowait())
            loop = calls[0].outcome.get_loop()
            loop.call_soon_threadsafe(_tell, calls, self._outcomes(calls))

    def _outcomes(self, calls: list[_Call]) -> list[_Outcome]:
        try:
            with self._batch(since=calls[0].since):
                return [_outcome(call.function) for call in calls]
        except Exception as error:  # noqa: BLE001 - whatever it is, this thread has to go on
            # None of it was kept, so none of it may be told. Each is told in an error of its own: it will have a traceback.
            unavailable = isinstance(error, StorageUnavailableError)
            return [(None, StorageUnavailableError(str(error)) if unavailable else error) for _ in calls]


def _outcome(function: Callable[[], Any]) -> _Outcome:
    try:
        return function(), None
    except Exception as error:  # noqa: BLE001 - it is for who has called, and not for the others of the batch
        return None, error


def _tell(calls: list[_Call], outcomes: list[_Outcome]) -> None:
    for call, outcome in zip(calls, outcomes, strict=True):
        if not call.outcome.done():  # its client may have gone
            call.outcome.set_result(outcome)
