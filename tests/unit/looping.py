"""Use cases as a worker has them, with who writes for it in a thread of the same process: for tests of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from decimal import Decimal
from threading import Event
from typing import TypeVar

from benefits_core import MemoryStore, OfferProducts, Order, Product, Store, UseCases
from benefits_service.runtime.event_loop import on_event_loop
from benefits_service.runtime.suspension import Suspendable
from benefits_service.runtime.writing import Connect, Writer, writing
from benefits_sqlite import SqliteStore

_Result = TypeVar("_Result")


class View:
    """A look at a store."""

    def __init__(self, store: MemoryStore) -> None:
        self.users, self.products, self.orders = store.users, store.products, store.orders
        self.closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class BatchingMemoryStore(MemoryStore):
    """A store in memory that remembers how it was looked at, and whose batches wait until a test lets them go on.

    :ivar begun: whether a batch has begun.
    :ivar go_on: whether batches may go on, which they may unless a test says otherwise.
    :ivar since_when: since when those had waited for whom each batch was opened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.views: list[View] = []
        self.begun, self.go_on = Event(), Event()
        self.go_on.set()
        self.since_when: list[float] = []
        self.batch: Callable[..., AbstractContextManager[None]] = self._batch
        OfferProducts(self)([Product("netflix", "Netflix", Decimal("75.99"))])

    @contextmanager
    def _batch(self, *, since: float) -> Iterator[None]:
        assert 0 <= time.monotonic() - since < 60
        self.since_when.append(since)
        self.begun.set()
        assert self.go_on.wait(30)
        yield

    def snapshot(self) -> View:
        self.views.append(View(self))
        return self.views[-1]


@asynccontextmanager
async def worker(
    store: BatchingMemoryStore | SqliteStore, over: Callable[[Store], UseCases] = UseCases.over
) -> AsyncIterator[UseCases]:
    """Be a worker, on the event loop that runs."""
    with writing(over(store), store) as connect:
        async with connected(connect) as writer:
            yield on_event_loop(over, store, writer)


@asynccontextmanager
async def connected(connect: Connect) -> AsyncIterator[Writer]:
    """Connect a worker, and no more than that."""
    with closing(connect()) as end:
        writer = Writer(end)
        writer.ping()
        await a_few_turns()
        try:
            yield writer
        finally:
            writer.end()
            await a_few_turns()


async def a_few_turns() -> None:
    """Let tasks that have begun come to where they wait for another thread: connected, and what they send is sent."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(
    store: BatchingMemoryStore,
    function: Callable[[UseCases], _Result],
    over: Callable[[Store], UseCases] = UseCases.over,
) -> _Result:
    """Return what a function makes of the use cases, on an event loop."""

    async def running() -> _Result:
        async with worker(store, over) as cases:
            return await Suspendable(function)(cases)

    return asyncio.run(running())


async def order(use_cases: UseCases, user_id: str, *items: str) -> Order:
    """Order something."""
    return await Suspendable(use_cases.place_order)(user_id, items)
