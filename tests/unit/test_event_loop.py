"""Use cases on an event loop: reading there, with one look for all; the rest is left to who writes."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from benefits_core import (
    OfferProducts,
    Order,
    PlaceOrder,
    Product,
    StorageUnavailableError,
    Store,
    UseCases,
    User,
)
from benefits_service.runtime.suspension import Suspendable
from benefits_sqlite import SqliteStore
from unit.looping import BatchingMemoryStore, View, order, run, worker


@pytest.fixture
def store() -> BatchingMemoryStore:
    return BatchingMemoryStore()


def test_who_is_known_is_read_on_the_event_loop_and_who_is_not_is_created_in_a_batch(
    store: BatchingMemoryStore,
) -> None:
    def twice(cases: UseCases) -> None:
        assert cases.get_user("jo").balance == 500
        assert len(store.since_when) == 1
        assert cases.get_user("jo").balance == 500
        assert len(store.since_when) == 1

    run(store, twice)
    assert store.users.get("jo") is not None


def test_what_only_reads_is_read_on_the_event_loop(store: BatchingMemoryStore) -> None:
    assert run(store, lambda cases: cases.list_products()) == store.products.list_all()
    run(store, lambda cases: cases.ping())


def test_a_use_case_may_read_orders_there(store: BatchingMemoryStore) -> None:
    placed = PlaceOrder(store)("jo", ["netflix"])
    found: list[Order | None] = []

    def over(store: Store) -> UseCases:
        return attrs.evolve(
            UseCases.over(store), ping=lambda: found.append(store.orders.get(placed.order_id))
        )

    run(store, lambda cases: cases.ping(), over)

    assert found == [placed]


def test_all_that_is_read_in_a_turn_of_the_loop_takes_one_look_which_ends_with_it(
    store: BatchingMemoryStore,
) -> None:
    PlaceOrder(store)("jo", ["netflix"])

    async def read() -> None:
        async with worker(store) as cases:
            listing, reading = Suspendable(cases.list_products), Suspendable(cases.get_user)
            _, _, jo = await asyncio.gather(listing(), listing(), reading("jo"))
            assert jo.product_ids == ("netflix",)
            await asyncio.sleep(0)
            assert [view.closed for view in store.views] == [True]
            await listing()
            assert [view.closed for view in store.views] == [True, False]
            await asyncio.sleep(0)
            assert [view.closed for view in store.views] == [True, True]

    asyncio.run(read())


def test_who_asks_after_something_was_kept_is_told_of_it(tmp_path: Path) -> None:
    """Also where somebody has looked in the same turn, but before."""
    with SqliteStore(tmp_path / "benefits.db") as store:
        OfferProducts(store)([Product("netflix", "Netflix", Decimal("75.99"))])

        async def read() -> None:
            async with worker(store) as cases:
                reading = Suspendable(cases.get_user)
                await reading("jo")
                before = await reading("jo")
                placed = PlaceOrder(store)("jo", ["netflix"])
                after = asyncio.create_task(reading("jo"))  # this is how a server begins with a request
                assert before.product_ids == ()
                assert (await after).product_ids == placed.items

        asyncio.run(read())


def test_nor_does_who_asks_while_somebody_looks_miss_it(store: BatchingMemoryStore) -> None:
    PlaceOrder(store)("jo", ["netflix"])
    found: list[asyncio.Task[User]] = []

    async def read() -> None:
        async with worker(store) as cases:
            reading = Suspendable(cases.get_user)

            def snapshot() -> View:
                view, jo = View(store), store.users.get("jo")
                view.users = SimpleNamespace(get=lambda _: jo)  # type: ignore[assignment] # it shows nothing that comes after it
                if not found:  # a server has other threads: before the one who looks goes on, something is kept, and somebody asks
                    PlaceOrder(store)("jo", ["spotify"])
                    found.append(asyncio.create_task(reading("jo")))
                return view

            store.snapshot = snapshot  # type: ignore[method-assign] # it shows what another thread could do meanwhile
            assert (await reading("jo")).product_ids == ("netflix",)
            assert (await found[0]).product_ids == ("netflix", "spotify")

    OfferProducts(store)([Product("spotify", "Spotify", Decimal("45.99"))])
    asyncio.run(read())


def test_a_look_that_can_not_be_ended_is_not_the_last(store: BatchingMemoryStore) -> None:
    class Stuck(View):
        def close(self) -> None:
            raise LookupError

    complaints: list[object] = []
    store.snapshot = lambda: Stuck(store)  # type: ignore[method-assign] # it fails

    async def read() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["exception"])
        )
        async with worker(store) as cases:
            listing = Suspendable(cases.list_products)
            await listing()
            await asyncio.sleep(0)
            del store.snapshot  # from now on it works again
            await listing()
            assert len(store.views) == 1

    asyncio.run(read())
    assert [type(complaint) for complaint in complaints] == [LookupError]


def test_a_store_that_can_not_be_read_is_looked_at_again_by_the_next(store: BatchingMemoryStore) -> None:
    failing = [True]

    def snapshot() -> View:
        if failing:
            failing.clear()
            raise StorageUnavailableError("gone")
        return View(store)

    def twice(cases: UseCases) -> None:
        with pytest.raises(StorageUnavailableError):
            cases.list_products()
        assert len(cases.list_products()) == 1

    store.snapshot = snapshot  # type: ignore[method-assign] # it fails once
    run(store, twice)


def test_it_is_not_well_when_nobody_writes_any_more(store: BatchingMemoryStore) -> None:
    async def read() -> None:
        async with worker(store) as cases:
            await order(cases, "jo", "netflix")
            still = cases
        with pytest.raises(StorageUnavailableError, match="ended"):
            still.ping()
        assert (await Suspendable(still.get_user)("jo")).product_ids == ("netflix",)

    asyncio.run(read())
