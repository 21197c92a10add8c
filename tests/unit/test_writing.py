"""Writing for workers: by one thread, in batches, told when they are kept."""

from __future__ import annotations

import asyncio
import gc
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import get_ident
from typing import Any

import attrs
import pytest

from benefits_core import (
    InvalidUserIdError,
    Order,
    OrderRefusedError,
    PlaceOrder,
    ProductsNotFoundError,
    StorageUnavailableError,
    Store,
    UseCases,
)
from benefits_service.runtime.suspension import Suspendable
from benefits_service.runtime.writing import UnforeseenError, Writer, writing
from unit.looping import BatchingMemoryStore, a_few_turns, connected, order, run, worker


@pytest.fixture
def store() -> BatchingMemoryStore:
    return BatchingMemoryStore()


def test_an_order_is_placed_by_another_thread_and_returned(store: BatchingMemoryStore) -> None:
    threads: list[int] = []

    def over(store: Store) -> UseCases:
        place_order = PlaceOrder(store)

        def placing(user_id: str, items: object) -> Order:
            threads.append(get_ident())
            return place_order(user_id, items)  # type: ignore[arg-type] # it is passed on

        return attrs.evolve(UseCases.over(store), place_order=placing)

    placed = run(store, lambda cases: cases.place_order("jo", ["netflix"]), over)

    assert store.orders.get(placed.order_id) == placed
    assert get_ident() not in threads
    assert len(threads) == 1


def test_a_refusal_is_raised_to_who_has_ordered(store: BatchingMemoryStore) -> None:
    with pytest.raises(ProductsNotFoundError) as refused:
        run(store, lambda cases: cases.place_order("jo", ["yacht"]))

    assert refused.value.product_ids == ("yacht",)


def test_a_name_that_nobody_can_have_is_refused_there_as_well(store: BatchingMemoryStore) -> None:
    with pytest.raises(InvalidUserIdError, match="user_id must be"):
        run(store, lambda cases: cases.place_order("\0", ["netflix"]))


def test_what_nobody_has_foreseen_is_raised_as_it_was_there(store: BatchingMemoryStore) -> None:
    def over(store: Store) -> UseCases:
        def placing(*_: object) -> Order:
            raise LookupError("nobody has thought of it")  # this line is to be shown

        return attrs.evolve(UseCases.over(store), place_order=placing)

    with pytest.raises(UnforeseenError, match="this line is to be shown(.|\n)*LookupError: nobody has"):
        run(store, lambda cases: cases.place_order("jo", ["netflix"]), over)


def test_workers_share_batches_and_each_is_told_what_is_its_own(store: BatchingMemoryStore) -> None:
    store.go_on.clear()

    async def ask() -> None:
        with writing(UseCases.over(store), store) as connect:
            async with connected(connect) as one, connected(connect) as other:
                asking = [
                    asyncio.create_task(Suspendable(writer.do)("get_user", name))
                    for writer, name in zip([one, other] * 3, "abcdef", strict=True)
                ]
                await a_few_turns()
                store.go_on.set()
                assert [user.user_id for user in await asyncio.gather(*asking)] == list("abcdef")

    asyncio.run(ask())
    assert len(store.since_when) <= 2  # what comes while the first is kept is the second


def test_a_worker_that_has_gone_keeps_nobody_from_their_order(store: BatchingMemoryStore) -> None:
    store.go_on.clear()

    async def ask() -> None:
        with writing(UseCases.over(store), store) as connect:
            async with connected(connect) as gone, connected(connect) as writer:
                asking = [
                    asyncio.create_task(Suspendable(each.do)("get_user", name))
                    for each, name in ((gone, "gone"), (writer, "here"))
                ]
                await a_few_turns()
                gone.end()
                store.go_on.set()
                assert (await asking[1]).user_id == "here"
                with pytest.raises(StorageUnavailableError):
                    await asking[0]
                assert (await Suspendable(writer.do)("get_user", "later")).user_id == "later"

    asyncio.run(ask())
    assert store.users.get("gone")  # what was asked for is done


def test_a_worker_is_told_when_the_writing_ends(store: BatchingMemoryStore) -> None:
    async def ask() -> None:
        with ExitStack() as ending:
            writer = Writer(ending.enter_context(writing(UseCases.over(store), store))())
            assert (await Suspendable(writer.do)("get_user", "jo")).user_id == "jo"
            writer.ping()
        await a_few_turns()
        with pytest.raises(StorageUnavailableError, match="ended"):
            writer.ping()

    asyncio.run(ask())


def test_what_is_being_written_when_it_ends_is_written_and_told(store: BatchingMemoryStore) -> None:
    store.go_on.clear()

    async def ask() -> None:
        with writing(UseCases.over(store), store) as connect:
            writer = Writer(connect())
            asking = asyncio.create_task(Suspendable(writer.do)("get_user", "jo"))
            await asyncio.to_thread(store.begun.wait, 30)
            threading.Timer(0.1, store.go_on.set).start()
        assert store.users.get("jo") is not None
        assert (await asking).user_id == "jo"

    asyncio.run(ask())


def test_while_the_thread_waits_workers_can_be_connected(store: BatchingMemoryStore) -> None:
    store.go_on.clear()

    async def ask() -> None:
        with writing(UseCases.over(store), store) as connect:
            async with connected(connect) as one:
                first = asyncio.create_task(Suspendable(one.do)("get_user", "a"))
                await asyncio.to_thread(store.begun.wait, 30)
                async with connected(connect) as other:
                    second = asyncio.create_task(Suspendable(other.do)("get_user", "b"))
                    store.go_on.set()
                    assert [(await user).user_id for user in (first, second)] == ["a", "b"]

    asyncio.run(ask())


def test_a_worker_that_does_not_listen_keeps_nobody_waiting(store: BatchingMemoryStore) -> None:
    requests = [
        (number, time.monotonic(), "place_order", ("jo", [str(number) * 100])) for number in range(5000)
    ]
    message = pickle.dumps(requests)

    async def ask() -> None:
        with ExitStack() as deaf, writing(UseCases.over(store), store) as connect:
            ear = deaf.enter_context(connect())
            await asyncio.to_thread(ear.sendall, len(message).to_bytes(4, "big") + message)
            async with connected(connect) as writer:
                assert (await Suspendable(writer.do)("get_user", "jo")).user_id == "jo"

    asyncio.run(ask())
    gc.collect()  # which would complain of a connection that is still open


def test_who_waits_is_told_when_nobody_writes_any_more_and_so_is_who_comes() -> None:
    async def ask() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            writer = Writer(theirs)
            waiting = [asyncio.create_task(Suspendable(writer.do)("get_user", name)) for name in "abc"]
            waiting[1].cancel()
            await a_few_turns()
            ours.close()
            told = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(error) for error in told] == [
                StorageUnavailableError,
                asyncio.CancelledError,
                StorageUnavailableError,
            ]
            with pytest.raises(StorageUnavailableError, match="ended"):
                await Suspendable(writer.do)("get_user", "d")

    asyncio.run(ask())


def test_who_has_hardly_waited_is_not_refused_with_the_first_who_has_waited_too_long(
    store: BatchingMemoryStore,
) -> None:
    store.go_on.clear()

    def over(given: Store) -> UseCases:
        place_order = PlaceOrder(given)

        def placing(user_id: str, items: Any) -> Order:
            if len(store.since_when) == 1:
                raise StorageUnavailableError("somebody has it for too long")
            return place_order(user_id, items)

        return attrs.evolve(UseCases.over(given), place_order=placing)

    async def ask() -> None:
        async with worker(store, over) as cases:
            first, second = (asyncio.create_task(order(cases, name, "netflix")) for name in "ab")
            await a_few_turns()
            store.go_on.set()
            with pytest.raises(StorageUnavailableError):
                await first
            assert (await second).user_id == "b"

    asyncio.run(ask())
    assert len(store.since_when) == 2


def test_what_comes_while_a_batch_is_kept_is_the_next_batch_up_to_a_number(
    store: BatchingMemoryStore,
) -> None:
    first_is_in, go_on = threading.Event(), threading.Event()
    batches: list[int] = []
    since_when: list[float] = []

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        since_when.append(since)
        before = len(placed())
        yield
        batches.append(len(placed()) - before)
        first_is_in.set()
        assert go_on.wait(30)

    def placed() -> list[str]:
        return [name for name in map(str, range(71)) if store.orders.of_user(name)]

    async def ask_for_many() -> tuple[float, float]:
        store.batch = batch
        async with worker(store) as cases:
            first = asyncio.create_task(order(cases, "0", "netflix"))
            await asyncio.to_thread(first_is_in.wait, 30)
            began = time.monotonic()
            others = [asyncio.create_task(order(cases, str(n), "netflix")) for n in range(1, 71)]
            await a_few_turns()
            assert not first.done()  # nobody is told before it is kept
            sent = time.monotonic()
            go_on.set()
            await asyncio.gather(first, *others)
            return began, sent

    began, sent = asyncio.run(ask_for_many())
    assert batches == [1, 64, 6]
    # The others have waited since they came, and not since their batch began.
    assert began <= since_when[1] <= since_when[2] <= sent
    first = [store.orders.get(number) for number in ("1", "2", "3")]
    assert [order and order.user_id for order in first] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StorageUnavailableError("the disk is full"), StorageUnavailableError),
        (LookupError("a bug"), UnforeseenError),
    ],
)
def test_a_batch_that_could_not_be_kept_is_told_of_by_none_and_the_next_one_is_done(
    store: BatchingMemoryStore, error: Exception, told: type[Exception]
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
        store.batch = batch
        async with worker(store) as cases:
            outcomes = await asyncio.gather(
                order(cases, "a", "netflix"), order(cases, "b", "yacht"), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [told, told]
            assert str(error) in str(outcomes[0])
            assert (await order(cases, "c", "netflix")).items == ("netflix",)

    asyncio.run(ask())


def test_a_batch_that_could_not_begin_is_told_of_too(store: BatchingMemoryStore) -> None:
    def batch(*, since: float) -> AbstractContextManager[None]:
        raise StorageUnavailableError(f"closed since {since}")

    store.batch = batch
    with pytest.raises(StorageUnavailableError, match="closed"):
        run(store, lambda cases: cases.place_order("jo", ["netflix"]))


def test_each_of_a_batch_that_failed_has_an_error_of_its_own(store: BatchingMemoryStore) -> None:
    go_on = threading.Event()

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        assert since
        assert go_on.wait(30)
        yield
        raise StorageUnavailableError("the disk is full")

    async def ask() -> None:
        store.batch = batch
        async with worker(store) as cases:
            orders = [asyncio.create_task(order(cases, name, "netflix")) for name in "abc"]
            await a_few_turns()
            go_on.set()
            outcomes = await asyncio.gather(*orders, return_exceptions=True)
            assert [str(outcome) for outcome in outcomes] == ["the disk is full"] * 3
            assert len(set(map(id, outcomes))) == 3

    asyncio.run(ask())


def test_who_is_refused_keeps_nobody_of_the_batch_from_their_order(store: BatchingMemoryStore) -> None:
    async def ask() -> tuple[Order | BaseException, Order | BaseException]:
        async with worker(store) as cases:
            return await asyncio.gather(
                order(cases, "a", "yacht"), order(cases, "b", "netflix"), return_exceptions=True
            )

    refused, placed = asyncio.run(ask())
    assert isinstance(refused, OrderRefusedError)
    assert isinstance(placed, Order)
    assert len(store.since_when) == 1


def test_who_has_gone_meanwhile_keeps_nobody_of_the_batch_waiting(store: BatchingMemoryStore) -> None:
    store.go_on.clear()

    async def leave() -> None:
        async with worker(store) as cases:
            first, gone, other = (asyncio.create_task(order(cases, name, "netflix")) for name in "abc")
            await a_few_turns()
            gone.cancel()
            store.go_on.set()
            await asyncio.wait_for(asyncio.gather(first, other), 30)

    asyncio.run(leave())
    assert store.orders.of_user("b")  # what a client has asked for is done, whether it waits or not
