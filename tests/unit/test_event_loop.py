"""Use cases on an event loop: reading there, with one look for all; changing in batches, told when they are kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace
from typing import Any, TypeVar

import attrs
import pytest

from benefits_core import (
    MemoryStore,
    OfferProducts,
    Order,
    OrderRefusedError,
    PlaceOrder,
    Product,
    ProductsNotFoundError,
    StorageUnavailableError,
    Store,
    UseCases,
    User,
)
from benefits_http.service.event_loop import on_event_loop
from benefits_http.service.suspension import Suspendable
from benefits_sqlite import SqliteStore

_Result = TypeVar("_Result")


@contextmanager
def _batch(*, since: float) -> Iterator[None]:
    assert 0 <= time.monotonic() - since < 60
    yield


class View:
    """A look at a store."""

    def __init__(self, store: MemoryStore) -> None:
        self.users, self.products, self.orders = store.users, store.products, store.orders
        self.closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class BatchingMemoryStore(MemoryStore):
    """A store in memory that remembers how it was looked at, and whose batches are what a test makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[View] = []
        self.batch: Callable[..., AbstractContextManager[None]] = _batch

    def snapshot(self) -> View:
        self.views.append(View(self))
        return self.views[-1]


@pytest.fixture
def store() -> BatchingMemoryStore:
    store = BatchingMemoryStore()
    OfferProducts(store)([Product("netflix", "Netflix", Decimal("75.99"))])
    return store


def use_cases(
    store: BatchingMemoryStore, batch: Callable[..., AbstractContextManager[None]] = _batch
) -> UseCases:
    store.batch = batch
    return on_event_loop(UseCases.over, store)


def run(function: Callable[[], _Result]) -> _Result:
    return asyncio.run(Suspendable(function)())


async def order(use_cases: UseCases, user_id: str, *items: str) -> Order:
    return await Suspendable(use_cases.place_order)(user_id, items)


def test_an_order_is_placed_by_another_thread_and_returned(store: BatchingMemoryStore) -> None:
    threads: list[int] = []

    def over(store: Store) -> UseCases:
        place_order = PlaceOrder(store)

        def placing(user_id: str, items: object) -> Order:
            threads.append(get_ident())
            return place_order(user_id, items)  # type: ignore[arg-type] # it is passed on

        return attrs.evolve(UseCases.over(store), place_order=placing)

    placed = run(lambda: on_event_loop(over, store).place_order("jo", ["netflix"]))

    assert store.orders.get(placed.order_id) == placed
    assert get_ident() not in threads
    assert len(threads) == 1


def test_a_refusal_is_raised_to_who_has_ordered(store: BatchingMemoryStore) -> None:
    with pytest.raises(ProductsNotFoundError):
        run(lambda: use_cases(store).place_order("jo", ["yacht"]))


def test_who_is_known_is_read_on_the_event_loop_and_who_is_not_is_created_in_a_batch(
    store: BatchingMemoryStore,
) -> None:
    batches: list[float] = []

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        batches.append(since)
        yield

    cases = use_cases(store, batch)

    def twice() -> None:
        assert cases.get_user("jo").balance == 500
        assert len(batches) == 1
        assert cases.get_user("jo").balance == 500
        assert len(batches) == 1

    run(twice)
    assert store.users.get("jo") is not None


def test_what_only_reads_is_read_on_the_event_loop(store: BatchingMemoryStore) -> None:
    cases = use_cases(store)

    assert run(cases.list_products) == store.products.list_all()
    run(cases.ping)


def test_a_use_case_may_read_orders_there(store: BatchingMemoryStore) -> None:
    placed = PlaceOrder(store)("jo", ["netflix"])
    found: list[Order | None] = []

    def over(store: Store) -> UseCases:
        return attrs.evolve(
            UseCases.over(store), ping=lambda: found.append(store.orders.get(placed.order_id))
        )

    run(on_event_loop(over, store).ping)

    assert found == [placed]


def test_all_that_is_read_in_a_turn_of_the_loop_takes_one_look_which_ends_with_it(
    store: BatchingMemoryStore,
) -> None:
    PlaceOrder(store)("jo", ["netflix"])

    async def read() -> None:
        cases = use_cases(store)
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
            reading = Suspendable(on_event_loop(UseCases.over, store).get_user)
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
        reading = Suspendable(on_event_loop(UseCases.over, store).get_user)

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
        listing = Suspendable(on_event_loop(UseCases.over, store).list_products)
        await listing()
        await asyncio.sleep(0)
        del store.snapshot  # from now on it works again
        await listing()
        assert len(store.views) == 1

    asyncio.run(read())
    assert [type(complaint) for complaint in complaints] == [LookupError]


def test_who_has_hardly_waited_is_not_refused_with_the_first_who_has_waited_too_long(
    store: BatchingMemoryStore,
) -> None:
    since_when: list[float] = []
    go_on = threading.Event()

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        since_when.append(since)
        assert go_on.wait(30)
        yield

    def over(store: Store) -> UseCases:
        place_order = PlaceOrder(store)

        def placing(user_id: str, items: Any) -> Order:
            if len(since_when) == 1:
                raise StorageUnavailableError("somebody has it for too long")
            return place_order(user_id, items)

        return attrs.evolve(UseCases.over(store), place_order=placing)

    async def ask() -> None:
        store.batch = batch
        cases = on_event_loop(over, store)
        first, second = (asyncio.create_task(order(cases, name, "netflix")) for name in "ab")
        await asyncio.sleep(0.1)
        go_on.set()
        with pytest.raises(StorageUnavailableError):
            await first
        assert (await second).user_id == "b"

    asyncio.run(ask())
    assert len(since_when) == 2


def test_a_store_that_can_not_be_read_is_looked_at_again_by_the_next(store: BatchingMemoryStore) -> None:
    failing = [True]

    def snapshot() -> View:
        if failing:
            failing.clear()
            raise StorageUnavailableError("gone")
        return View(store)

    store.snapshot = snapshot  # type: ignore[method-assign] # it fails once
    cases = use_cases(store)

    def twice() -> None:
        with pytest.raises(StorageUnavailableError):
            cases.list_products()
        assert len(cases.list_products()) == 1

    run(twice)


def test_what_comes_while_a_batch_is_kept_is_the_next_batch_up_to_a_number(
    store: BatchingMemoryStore,
) -> None:
    first_is_in, go_on = threading.Event(), threading.Event()
    batches: list[int] = []

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        assert since
        before = len(placed())
        yield
        batches.append(len(placed()) - before)
        first_is_in.set()
        assert go_on.wait(30)

    def placed() -> list[str]:
        return [name for name in map(str, range(71)) if store.orders.of_user(name)]

    async def ask_for_many() -> None:
        cases = use_cases(store, batch)
        first = asyncio.create_task(order(cases, "0", "netflix"))
        await asyncio.to_thread(first_is_in.wait, 30)
        others = [asyncio.create_task(order(cases, str(n), "netflix")) for n in range(1, 71)]
        await asyncio.sleep(0.1)
        assert not first.done()  # nobody is told before it is kept
        go_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask_for_many())
    assert batches == [1, 64, 6]
    first = [store.orders.get(number) for number in ("1", "2", "3")]
    assert [order and order.user_id for order in first] == ["0", "1", "2"]


@pytest.mark.parametrize("error", [StorageUnavailableError("the disk is full"), LookupError("a bug")])
def test_a_batch_that_could_not_be_kept_is_told_of_by_none_and_the_next_one_is_done(
    store: BatchingMemoryStore, error: Exception
) -> None:
    failing = [True]

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        assert since
        yield
        if failing:
            failing.clear()
            raise error

    async def ask() -> None:
        cases = use_cases(store, batch)
        outcomes = await asyncio.gather(
            order(cases, "a", "netflix"), order(cases, "b", "yacht"), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} <= {type(error), ProductsNotFoundError}
        assert str(outcomes[0]) == str(error)
        assert (await order(cases, "c", "netflix")).items == ("netflix",)

    asyncio.run(ask())


def test_a_batch_that_could_not_begin_is_told_of_too(store: BatchingMemoryStore) -> None:
    def batch(*, since: float) -> AbstractContextManager[None]:
        raise StorageUnavailableError(f"closed since {since}")

    with pytest.raises(StorageUnavailableError, match="closed"):
        run(lambda: use_cases(store, batch).place_order("jo", ["netflix"]))


def test_each_of_a_batch_that_failed_has_an_error_of_its_own(store: BatchingMemoryStore) -> None:
    go_on = threading.Event()

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        assert since
        assert go_on.wait(30)
        yield
        raise StorageUnavailableError("the disk is full")

    async def ask() -> None:
        cases = use_cases(store, batch)
        orders = [asyncio.create_task(order(cases, name, "netflix")) for name in "abc"]
        await asyncio.sleep(0.1)
        go_on.set()
        outcomes = await asyncio.gather(*orders, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["the disk is full"] * 3
        assert len(set(map(id, outcomes))) == 3

    asyncio.run(ask())


def test_who_is_refused_keeps_nobody_of_the_batch_from_their_order(store: BatchingMemoryStore) -> None:
    async def ask() -> tuple[Order | BaseException, Order | BaseException]:
        cases = use_cases(store)
        return await asyncio.gather(
            order(cases, "a", "yacht"), order(cases, "b", "netflix"), return_exceptions=True
        )

    refused, placed = asyncio.run(ask())
    assert isinstance(refused, OrderRefusedError)
    assert isinstance(placed, Order)


def test_who_has_gone_meanwhile_keeps_nobody_of_the_batch_waiting(store: BatchingMemoryStore) -> None:
    go_on = threading.Event()

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        assert since
        yield
        assert go_on.wait(30)

    async def leave() -> None:
        cases = use_cases(store, batch)
        first, gone, other = (asyncio.create_task(order(cases, name, "netflix")) for name in "abc")
        await asyncio.sleep(0.1)
        gone.cancel()
        go_on.set()
        await asyncio.wait_for(asyncio.gather(first, other), 30)

    asyncio.run(leave())
    assert store.orders.of_user("b")  # what a client has asked for is done, whether it waits or not
