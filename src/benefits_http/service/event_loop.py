"""Use cases on an event loop: it reads by itself, and has a thread do what changes something, in batches.

Reading waits for nobody, so the loop does it, with one look at the file for all who have come meanwhile. What changes something
waits for the disk; while it does, more of it comes, and the thread does all of that next: one commit keeps what has waited
together. A thread for each order would have to be woken up and put to sleep, which took more time than the order.
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
from benefits_core.ports import OrderReader, ProductReader, UserReader, View
from benefits_http.service.suspension import suspend_until

# More of them would make the first ones wait for long.
MOST_TOGETHER: Final = 64

_Result = TypeVar("_Result")
_Outcome = tuple[Any, Exception | None]


class Snapshot(View, Protocol):
    """A store as it stood at one moment."""

    def close(self) -> None:
        """Let the moment go."""
        ...


class BatchingStore(Store, Protocol):
    """A store that can be read, and written, once for many."""

    def snapshot(self) -> Snapshot:
        """Return the store as it stands now."""
        ...

    def batch(self, *, since: float) -> AbstractContextManager[None]:
        """Open a block. Units of work that its thread opens in it are kept when it is left; nobody is told of any before.

        :param since: when the first of those for whom it is began to wait, by ``time.monotonic()``.
        """
        ...


def on_event_loop(over: Callable[[Store], UseCases], store: BatchingStore) -> UseCases:
    """Return use cases for an event loop, to be called by what a ``Suspendable`` calls.

    :param over: returns use cases over a store.
    :param store: the store.
    """
    batches = _Batches(store)
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
    """Something wants to change what can only be read here."""


class _ReadOnly:
    """A store as far as it waits for nobody, looked at once in each turn of the event loop."""

    def __init__(self, store: BatchingStore) -> None:
        self._store = store
        self._snapshot: Snapshot | None = None
        self.ping = store.ping

    @property
    def users(self) -> UserReader:
        return self._now().users

    @property
    def products(self) -> ProductReader:
        return self._now().products

    @property
    def orders(self) -> OrderReader:
        return self._now().orders

    def _now(self) -> Snapshot:
        if self._snapshot is None:
            # Before it is taken: so whoever is told what it holds stood before this in the loop's queue, had asked before it was
            # taken, and misses nothing that was kept when they asked.
            asyncio.get_running_loop().call_soon(self._let_go)
            self._snapshot = self._store.snapshot()
        return self._snapshot

    def _let_go(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()

    def unit_of_work(self) -> AbstractContextManager[UnitOfWork]:
        raise _ReadOnlyError


@attrs.frozen
class _Call:
    function: Callable[[], Any]
    outcome: asyncio.Future[_Outcome]
    since: float = attrs.field(factory=time.monotonic)


class _Batches:
    """A thread, and what waits for it."""

    def __init__(self, store: BatchingStore) -> None:
        self._store = store
        self._waiting: SimpleQueue[_Call] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def do(self, function: Callable[[], _Result]) -> _Result:
        """Return what a function returns, or raise what it raises, once that is kept."""
        call = _Call(function, asyncio.get_running_loop().create_future())
        self._waiting.put(call)
        result: _Result
        result, error = suspend_until(call.outcome)
        if error is not None:
            raise error
        return result

    def _work(self) -> None:
        while True:
            calls = [self._waiting.get()]
            outcomes = self._outcomes(calls)
            calls[0].outcome.get_loop().call_soon_threadsafe(_tell, calls, outcomes)

    def _outcomes(self, calls: list[_Call]) -> list[_Outcome]:
        """Do what was called, and what is called meanwhile, which is added to the list."""
        outcomes: list[_Outcome] = []
        try:
            with self._store.batch(since=calls[0].since):
                # One after the other is taken from the queue: who comes while the first one waits for the file is in time.
                for call in calls:
                    outcomes.append(_outcome(call.function))
                    # Where the first one has waited for too long, the others have not.
                    in_vain = isinstance(outcomes[-1][1], StorageUnavailableError)
                    if len(calls) < MOST_TOGETHER and not in_vain:
                        with suppress(Empty):
                            calls.append(self._waiting.get_nowait())
        except Exception as error:  # noqa: BLE001 - whatever it is, this thread has to go on
            # None of it was kept, so none of it may be told. What is foreseen is an error of its own for each.
            unavailable = isinstance(error, StorageUnavailableError)
            return [(None, StorageUnavailableError(str(error)) if unavailable else error) for _ in calls]
        return outcomes


def _outcome(function: Callable[[], Any]) -> _Outcome:
    try:
        return function(), None
    except Exception as error:  # noqa: BLE001 - it is for who has called, and not for the others of the batch
        return None, error


def _tell(calls: list[_Call], outcomes: list[_Outcome]) -> None:
    for call, outcome in zip(calls, outcomes, strict=True):
        if not call.outcome.done():  # its client may have gone
            call.outcome.set_result(outcome)
