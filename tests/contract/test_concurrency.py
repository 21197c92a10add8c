"""What every store promises when many use it at once: waiting, one after the other, and reading all the while."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    Store,
    UnitOfWork,
    User,
)
from contract.builders import CATALOGUE, NOON, add_user, order, stocked
from contract.stores import LASTING, StoreKind

Result = TypeVar("Result")

THREADS = 20
# How long something that must not happen is given to happen, and something that must, in seconds.
A_MOMENT = 0.3
A_LONG_TIME = 300

spawn = multiprocessing.get_context("spawn")
lasting = pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.name)


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


def buy_netflix(work: UnitOfWork, user: User) -> None:
    """Buy Netflix for a user within a unit of work."""
    [netflix] = work.products.find(["netflix"]).values()
    _, bought = user.buy([netflix], order_id=work.orders.next_id(), placed_at=NOON)
    work.orders.add(bought)


class TestWaiting:
    def test_a_second_buyer_waits_until_the_first_has_ended_and_is_then_refused(self, store: Store) -> None:
        stocked(store)
        trying, passed = Event(), Event()

        def second() -> str:
            trying.set()
            with store.unit_of_work() as work:
                user = work.users.get_or_add(User.newcomer("jo"))
                passed.set()
                return "refused" if "netflix" in user.product_ids else "sold twice"

        with ThreadPoolExecutor() as pool:
            with store.unit_of_work() as work:
                user = work.users.get_or_add(User.newcomer("jo"))
                answer = pool.submit(second)
                assert trying.wait(A_LONG_TIME)
                assert not passed.wait(A_MOMENT)
                buy_netflix(work, user)
                assert not passed.is_set()
            assert answer.result(A_LONG_TIME) == "refused"

    def test_a_second_buyer_goes_on_when_the_first_has_failed(self, store: Store) -> None:
        stocked(store)
        trying = Event()

        def second() -> str:
            trying.set()
            return outcome(store, "jo", ["netflix"])

        with ThreadPoolExecutor() as pool:
            with pytest.raises(ZeroDivisionError), store.unit_of_work() as work:
                user = work.users.get_or_add(User.newcomer("jo"))
                answer = pool.submit(second)
                assert trying.wait(A_LONG_TIME)
                buy_netflix(work, user)
                1 / 0  # noqa: B018 - the division is the failure
            assert answer.result(A_LONG_TIME) == "placed"

    @lasting
    def test_a_buyer_in_another_process_waits_too(self, kind: StoreKind, tmp_path: Path) -> None:
        with kind.open(tmp_path) as store:
            stocked(store)
            trying, passed, answers = spawn.Event(), spawn.Event(), spawn.Queue()
            other = spawn.Process(target=buy_elsewhere, args=(kind, tmp_path, trying, passed, answers))
            with store.unit_of_work() as work:
                user = work.users.get_or_add(User.newcomer("jo"))
                other.start()
                assert trying.wait(A_LONG_TIME)
                assert not passed.wait(A_MOMENT)
                buy_netflix(work, user)
                assert not passed.is_set()
            assert answers.get(timeout=A_LONG_TIME) == "ProductsAlreadyPurchasedError"
            other.join(A_LONG_TIME)
            assert other.exitcode == 0


class TestReadingBesideAWriter:
    def test_reading_never_waits_for_a_unit_of_work(self, store: Store) -> None:
        order(stocked(store), "jo", "netflix")
        known = store.users.get("jo")

        with store.unit_of_work() as work, ThreadPoolExecutor() as pool:
            work.users.get_or_add(User.newcomer("jo"))
            work.products.put([Product("new", "New", Decimal(1))])

            assert pool.submit(GetUser(store), "jo").result(A_LONG_TIME) == known
            assert pool.submit(ListProducts(store)).result(A_LONG_TIME) == CATALOGUE
            assert pool.submit(store.orders.get, "1").result(A_LONG_TIME) is not None
            assert len(pool.submit(store.orders.of_user, "jo").result(A_LONG_TIME)) == 1
            pool.submit(store.ping).result(A_LONG_TIME)

    def test_whoever_sees_what_a_user_owns_finds_the_order_of_it(self, store: Store) -> None:
        catalogue = [Product(f"p{number}", "P", Decimal(1)) for number in range(50)]
        OfferProducts(store)(catalogue)
        add_user(store, "jo")
        done = Event()

        def read() -> None:
            while not done.is_set():
                user = store.users.get("jo")
                assert user is not None
                orders = store.orders.of_user("jo")
                assert {item for one in orders for item in one.items} >= set(user.product_ids)
                assert user.balance == user.opening_balance - len(user.product_ids)

        with ThreadPoolExecutor() as pool:
            reader = pool.submit(read)
            for product in catalogue:
                order(store, "jo", product.product_id)
            done.set()
            reader.result(A_LONG_TIME)


class TestRacingThreads:
    def test_of_identical_orders_exactly_one_wins(self, store: Store) -> None:
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
        assert {item for one in store.orders.of_user("jo") for item in one.items} == set(user.product_ids)

    def test_orders_of_many_users_all_succeed_under_ids_of_their_own(self, store: Store) -> None:
        stocked(store)

        def place(name: str) -> Order:
            return order(store, name, "netflix")

        placed = all_at_once([partial(place, f"user-{number}") for number in range(THREADS)])

        assert len({one.order_id for one in placed}) == THREADS
        assert all(store.orders.get(one.order_id) == one for one in placed)

    def test_a_user_seen_first_by_many_is_created_once(self, store: Store) -> None:
        users = all_at_once([partial(GetUser(store, Decimal(number)), "jo") for number in range(THREADS)])

        assert users == [store.users.get("jo")] * THREADS


class TestRacingProcesses:
    @lasting
    def test_processes_that_start_together_on_a_new_store_share_it(
        self, kind: StoreKind, tmp_path: Path
    ) -> None:
        processes = 4
        answers = race(kind, tmp_path, [["netflix", "spotify"]] * processes, stock=True)

        assert answers == {"placed": 1, "ProductsAlreadyPurchasedError": processes * THREADS_PER_PROCESS - 1}
        with kind.open(tmp_path) as store:
            user = store.users.get("jo")
            assert user == User("jo", Decimal(500), Decimal("378.02"), ("netflix", "spotify"))

    @lasting
    def test_different_orders_of_one_user_never_overdraw_the_balance(
        self, kind: StoreKind, tmp_path: Path
    ) -> None:
        with kind.open(tmp_path) as store:
            OfferProducts(store)([Product(f"p{number}", "P", Decimal(200)) for number in range(4)])

        answers = race(kind, tmp_path, [[f"p{number}"] for number in range(4)], stock=False)

        assert answers["placed"] == 2
        with kind.open(tmp_path) as store:
            user = store.users.get("jo")
            assert user is not None
            assert user.balance == 100
            assert len(store.orders.of_user("jo")) == len(user.product_ids)


THREADS_PER_PROCESS = 5


def buy_elsewhere(
    kind: StoreKind, folder: Path, trying: ProcessEvent, passed: ProcessEvent, answers: Queue[str]
) -> None:
    """Buy Netflix for jo in this process."""
    with kind.open(folder) as store:
        trying.set()
        answer = outcome(store, "jo", ["netflix"])
        passed.set()
        answers.put(answer)


def race(kind: StoreKind, folder: Path, baskets: list[list[str]], *, stock: bool) -> Counter[str]:
    """Let a process for each basket order it for jo in several threads, all released together; return the outcomes."""
    barrier, answers = spawn.Barrier(len(baskets)), spawn.Queue()
    processes = [
        spawn.Process(target=race_in_process, args=(kind, folder, basket, stock, barrier, answers))
        for basket in baskets
    ]
    for process in processes:
        process.start()
    outcomes = Counter(outcome for _ in processes for outcome in answers.get(timeout=A_LONG_TIME))
    for process in processes:
        process.join(A_LONG_TIME)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    return outcomes


def race_in_process(  # noqa: PLR0913, PLR0917 - what a process is told at its start
    kind: StoreKind,
    folder: Path,
    basket: list[str],
    stock: bool,  # noqa: FBT001 - the same
    barrier: ProcessBarrier,
    answers: Queue[list[str]],
) -> None:
    """Be one process of a race."""
    barrier.wait(A_LONG_TIME)
    with kind.open(folder) as store:
        if stock:
            stocked(store)
        answers.put(all_at_once([partial(outcome, store, "jo", basket)] * THREADS_PER_PROCESS))
