"""What every store promises to threads and processes that use it together: waiting, patience, and reading during a change."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier as ProcessBarrier
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from threading import Barrier, Event
from typing import TypeVar

import pytest

from benefits_core import (
    GetUser,
    ListProducts,
    OfferProducts,
    Order,
    OrderRefusedError,
    PlaceOrder,
    Product,
    StorageUnavailableError,
    Store,
    UnitOfWork,
    User,
)
from contract.builders import CATALOGUE, NETFLIX, add_user, buy, opening, order, stocked
from contract.stores import LASTING, StoreKind
from waiting import A_LONG_TIME

Result = TypeVar("Result")

THREADS = 20
# How long a change that must wait is given to go wrong, in seconds. If it does wait, as it must, no length is too short.
A_MOMENT = 0.3

spawn = multiprocessing.get_context("spawn")
lasting = pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.name)


class DeliberateError(Exception):
    """Something that goes wrong in a change."""


def outcome(store: Store, user_id: str, items: Sequence[str]) -> str:
    """Return how an order ended: "placed", or the name of its refusal."""
    try:
        PlaceOrder(store)(user_id, items)
    except OrderRefusedError as refusal:
        return type(refusal).__name__
    return "placed"


def all_at_once(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run each call in a thread of its own, released together, and return their results."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Result]) -> Result:
        barrier.wait(A_LONG_TIME)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@contextmanager
def running_change(store: Store) -> Iterator[Callable[[], None]]:
    """Have a change of another thread run during the block, or until what is given is called."""
    has_begun, may_end = Event(), Event()

    def wait(_: UnitOfWork) -> None:
        has_begun.set()
        assert may_end.wait(A_LONG_TIME)

    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(store.change, wait)

        def end() -> None:
            may_end.set()
            change.result(A_LONG_TIME)

        try:
            assert has_begun.wait(A_LONG_TIME)
            yield end
        finally:
            end()


class TestWaiting:
    def test_second_buyer_waits_until_the_first_change_is_kept_and_is_then_refused(
        self, store: Store
    ) -> None:
        stocked(store)
        trying, passed = Event(), Event()

        def look(work: UnitOfWork) -> str:
            user = work.users.get_or_add(opening("jo"))
            passed.set()
            return "refused" if "netflix" in user.product_ids else "sold twice"

        def second() -> str:
            trying.set()
            return store.change(look)

        with ThreadPoolExecutor() as pool:

            def first(work: UnitOfWork) -> None:
                work.users.get_or_add(opening("jo"))
                waiting.append(pool.submit(second))
                assert trying.wait(A_LONG_TIME)
                assert not passed.wait(A_MOMENT)
                buy(work, "jo", NETFLIX)
                assert not passed.is_set()

            waiting: list[Future[str]] = []
            store.change(first)
            assert waiting[0].result(A_LONG_TIME) == "refused"

    def test_second_buyer_continues_when_the_first_change_has_failed(self, store: Store) -> None:
        stocked(store)
        trying = Event()

        def second() -> str:
            trying.set()
            return outcome(store, "jo", ["netflix"])

        with ThreadPoolExecutor() as pool:

            def first(work: UnitOfWork) -> None:
                work.users.get_or_add(opening("jo"))
                waiting.append(pool.submit(second))
                assert trying.wait(A_LONG_TIME)
                buy(work, "jo", NETFLIX)
                raise DeliberateError

            waiting: list[Future[str]] = []
            with pytest.raises(DeliberateError):
                store.change(first)
            assert waiting[0].result(A_LONG_TIME) == "placed"

    @lasting
    def test_a_buyer_in_another_process_waits_too(self, kind: StoreKind, tmp_path: Path) -> None:
        with kind.open(tmp_path) as store:
            stocked(store)
            ready, may_try, trying, passed = events = [spawn.Event() for _ in range(4)]
            outcomes = spawn.Queue()
            other = spawn.Process(target=buy_elsewhere, args=(kind, tmp_path, events, outcomes))

            def first(work: UnitOfWork) -> None:
                work.users.get_or_add(opening("jo"))
                may_try.set()
                assert trying.wait(A_LONG_TIME)
                assert not passed.wait(A_MOMENT)
                buy(work, "jo", NETFLIX)
                assert not passed.is_set()

            other.start()
            assert ready.wait(A_LONG_TIME)  # now, for a server may end a change that is idle for 10 s
            store.change(first)
            assert outcomes.get(timeout=A_LONG_TIME) == "ProductsAlreadyPurchasedError"
            other.join(A_LONG_TIME)
            assert other.exitcode == 0


class TestPatience:
    def test_a_change_that_can_not_begin_in_time_raises_and_is_never_run(
        self, kind: StoreKind, tmp_path: Path
    ) -> None:
        runs: list[str] = []

        def run(_: UnitOfWork) -> None:
            runs.append("run")

        with kind.open(tmp_path, patience=1) as store:
            with running_change(store):
                for _ in range(2):
                    with pytest.raises(StorageUnavailableError, match="for 1 s"):
                        store.change(run)
            store.change(lambda _: runs.append("later"))

        assert runs == ["later"]

    def test_a_change_that_has_begun_is_not_abandoned(self, kind: StoreKind, tmp_path: Path) -> None:
        """Its own patience, and that of a change which waits for it, run out while it runs."""
        with kind.open(tmp_path, patience=1) as store:
            stocked(store)

            def slow(work: UnitOfWork) -> Order:
                with ThreadPoolExecutor() as pool, pytest.raises(StorageUnavailableError):
                    pool.submit(add_user, store, "al").result(A_LONG_TIME)
                return buy(work, "jo", NETFLIX)

            placed = store.change(slow)

            assert store.orders.of_user("jo") == (placed,)
            assert store.users.get("al") is None

    def test_a_change_that_has_waited_is_not_abandoned(self, kind: StoreKind, tmp_path: Path) -> None:
        """It begins in time, behind another one, and then takes longer than the patience."""
        with kind.open(tmp_path, patience=1) as store, ThreadPoolExecutor() as pool:
            has_begun, may_end = Event(), Event()

            def slow(work: UnitOfWork) -> User:
                has_begun.set()
                assert may_end.wait(A_LONG_TIME)
                return work.users.get_or_add(opening("jo"))

            waiting = []
            while not has_begun.is_set():  # on a busy machine, its patience may run out before it can begin
                with running_change(store) as end:
                    waiting.append(pool.submit(store.change, slow))
                    end()
                while not (has_begun.wait(0.01) or waiting[-1].done()):
                    pass
            with pytest.raises(StorageUnavailableError):
                add_user(store, "al")
            may_end.set()

            assert waiting[-1].result(A_LONG_TIME) == store.users.get("jo")


class TestReadingBesideAChange:
    def test_reading_never_waits_for_a_change(self, store: Store) -> None:
        order(stocked(store), "jo", "netflix")
        known = store.users.get("jo")

        def read_elsewhere(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo"))
            work.products.put([Product("new", "New", Decimal(1))])
            with ThreadPoolExecutor() as pool:
                assert pool.submit(GetUser(store), "jo").result(A_LONG_TIME) == known
                assert pool.submit(ListProducts(store)).result(A_LONG_TIME) == CATALOGUE
                assert pool.submit(store.products.find, ["netflix"]).result(A_LONG_TIME) == {
                    "netflix": NETFLIX
                }
                assert pool.submit(store.orders.get, "1").result(A_LONG_TIME) is not None
                assert len(pool.submit(store.orders.of_user, "jo").result(A_LONG_TIME)) == 1
                pool.submit(store.ping).result(A_LONG_TIME)

        store.change(read_elsewhere)

    def test_a_reader_sees_an_order_and_its_buyer_together(self, store: Store) -> None:
        catalogue = [Product(f"p{number}", "P", Decimal(1)) for number in range(50)]
        OfferProducts(store)(catalogue)
        add_user(store, "jo")
        done = Event()

        def bought() -> tuple[list[str], list[str]]:
            user = store.users.get("jo")
            assert user is not None
            assert user.balance == 500 - len(user.product_ids)
            orders = store.orders.of_user("jo")
            return list(user.product_ids), [item for one in orders for item in one.items]

        def read() -> None:
            while not done.is_set():
                owned_before, ordered = bought()
                owned_after, _ = bought()
                # Whatever is read later holds what was read before, in whichever of the two it was.
                assert ordered[: len(owned_before)] == owned_before
                assert owned_after[: len(ordered)] == ordered

        with ThreadPoolExecutor() as pool:
            reader = pool.submit(read)
            for product in catalogue:
                order(store, "jo", product.product_id)
            done.set()
            reader.result(A_LONG_TIME)


class TestRacingThreads:
    def test_of_identical_orders_exactly_one_is_placed(self, store: Store) -> None:
        stocked(store)

        outcomes = Counter(all_at_once([partial(outcome, store, "jo", ["netflix", "spotify"])] * THREADS))

        assert outcomes == {"placed": 1, "ProductsAlreadyPurchasedError": THREADS - 1}
        user = store.users.get("jo")
        assert user is not None
        assert user.balance == Decimal("378.02")

    def test_different_orders_of_one_user_never_overdraw_the_balance(self, store: Store) -> None:
        OfferProducts(store)([Product(f"p{number}", "P", Decimal(100)) for number in range(THREADS)])

        outcomes = Counter(all_at_once([partial(outcome, store, "jo", [f"p{n}"]) for n in range(THREADS)]))

        assert outcomes == {"placed": 5, "InsufficientBalanceError": THREADS - 5}
        user = store.users.get("jo")
        assert user is not None
        assert user.balance == 0
        assert [item for one in store.orders.of_user("jo") for item in one.items] == list(user.product_ids)

    def test_orders_of_many_users_all_succeed_with_different_ids(self, store: Store) -> None:
        stocked(store)

        def place(name: str) -> Order:
            return order(store, name, "netflix")

        placed = all_at_once([partial(place, f"user-{number}") for number in range(THREADS)])

        assert len({one.order_id for one in placed}) == THREADS
        assert all(store.orders.get(one.order_id) == one for one in placed)

    def test_a_user_whom_many_threads_look_up_first_is_created_once(self, store: Store) -> None:
        users = all_at_once([partial(GetUser(store, Decimal(number)), "jo") for number in range(THREADS)])

        assert users == [store.users.get("jo")] * THREADS


class TestRacingProcesses:
    @lasting
    def test_processes_that_start_together_on_a_new_store_share_it(
        self, kind: StoreKind, tmp_path: Path
    ) -> None:
        processes = 4
        outcomes = race(kind, tmp_path, [["netflix", "spotify"]] * processes, stock=True)

        refused = processes * THREADS_PER_PROCESS - 1
        assert outcomes == {"placed": 1, "ProductsAlreadyPurchasedError": refused}
        with kind.open(tmp_path) as store:
            user = store.users.get("jo")
            assert user == User("jo", Decimal("378.02"), ("netflix", "spotify"))

    @lasting
    def test_different_orders_of_one_user_never_overdraw_the_balance(
        self, kind: StoreKind, tmp_path: Path
    ) -> None:
        with kind.open(tmp_path) as store:
            OfferProducts(store)([Product(f"p{number}", "P", Decimal(200)) for number in range(4)])

        outcomes = race(kind, tmp_path, [[f"p{number}"] for number in range(4)], stock=False)

        assert outcomes["placed"] == 2
        with kind.open(tmp_path) as store:
            user = store.users.get("jo")
            assert user is not None
            assert user.balance == 100
            assert len(store.orders.of_user("jo")) == len(user.product_ids)


THREADS_PER_PROCESS = 5


def buy_elsewhere(
    kind: StoreKind, folder: Path, events: Sequence[ProcessEvent], outcomes: Queue[str]
) -> None:
    """Buy Netflix for jo in this process."""
    ready, may_try, trying, passed = events
    with kind.open(folder) as store:
        ready.set()
        assert may_try.wait(A_LONG_TIME)
        trying.set()
        ended = outcome(store, "jo", ["netflix"])
        passed.set()
        outcomes.put(ended)


def race(kind: StoreKind, folder: Path, baskets: list[list[str]], *, stock: bool) -> Counter[str]:
    """Let a process for each basket order it for jo in several threads, all released together; return the outcomes."""
    barrier, outcomes = spawn.Barrier(len(baskets)), spawn.Queue()
    processes = [
        spawn.Process(target=race_in_process, args=(kind, folder, basket, stock, barrier, outcomes))
        for basket in baskets
    ]
    for process in processes:
        process.start()
    counted = Counter(outcome for _ in processes for outcome in outcomes.get(timeout=A_LONG_TIME))
    for process in processes:
        process.join(A_LONG_TIME)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    return counted


def race_in_process(  # noqa: PLR0913, PLR0917 - what a process is given at its start
    kind: StoreKind,
    folder: Path,
    basket: list[str],
    stock: bool,  # noqa: FBT001 - the same
    barrier: ProcessBarrier,
    outcomes: Queue[list[str]],
) -> None:
    """Be one process of a race."""
    barrier.wait(A_LONG_TIME)
    with kind.open(folder) as store:
        if stock:
            stocked(store)
        outcomes.put(all_at_once([partial(outcome, store, "jo", basket)] * THREADS_PER_PROCESS))
