"""Processes that change the same users, orders and products at once: all ends as if one came after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Barrier as ProcessBarrier
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import pytest

from benefits_core import (
    CancelOrders,
    EraseUser,
    GrantMoney,
    GrantOutcome,
    ListUsers,
    OfferProducts,
    RetireProducts,
    ShowUser,
    Store,
    User,
    UsersNotFoundError,
)
from benefits_sqlite import audit_database
from contract.builders import GYM, SIGNED, add_user, opening, order, stocked
from contract.processes import forked
from contract.stores import LASTING, StoreKind
from contract.test_concurrency import outcome
from waiting import A_LONG_TIME

Result = TypeVar("Result")
AtOnce = Callable[[Sequence[Callable[[Store], Result]]], list[Result]]

PROCESSES = 24

_barriers: Final[list[ProcessBarrier]] = []


def share(barrier: ProcessBarrier) -> None:
    """Keep what releases all processes together; each begins with it."""
    _barriers.append(barrier)


def run(kind: StoreKind, folder: Path, call: Callable[[Store], Result]) -> Result:
    """Make a call at the same moment as all other processes."""
    with kind.open(folder, patience=A_LONG_TIME) as store:
        _barriers[0].wait(A_LONG_TIME)
        return call(store)


def nothing(_: Store) -> None:
    """Do nothing."""


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    """Return processes for all tests."""
    with forked.Pool(PROCESSES, share, [forked.Barrier(PROCESSES)]) as pool:
        yield pool
    pool.join()


@pytest.fixture(params=LASTING, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    """Return each kind of store that processes can share."""
    found: StoreKind = request.param
    return found


@pytest.fixture
def at_once(kind: StoreKind, tmp_path: Path, processes: Pool) -> AtOnce[Any]:
    """Return what makes each call in a process of its own, all at the same moment, and returns their results."""

    def make(calls: Sequence[Callable[[Store], Result]]) -> list[Result]:
        idle = [nothing] * (PROCESSES - len(calls))
        jobs = [(kind, tmp_path, call) for call in (*calls, *idle)]
        return processes.starmap_async(run, jobs, chunksize=1).get(A_LONG_TIME)[: len(calls)]

    return make


def assert_sound(store: Store, folder: Path) -> None:
    """Assert that the books balance, as the reports show them and as the audit of a database finds them."""
    for account in ListUsers(store)():
        user = account.user
        bought = [one for one in store.orders.of_user(user.user_id) if one.cancelled is None]
        assert ShowUser(store)(user.user_id)[-1].balance == user.balance
        assert sum(one.total for one in bought) == account.spent
        assert [item for one in bought for item in one.items] == list(user.product_ids)
    for database in folder.glob("*.db"):
        assert audit_database(str(database)).findings == ()


def grant(
    store: Store, amount: int, user_ids: Sequence[str], create_with: Decimal | None = None
) -> GrantOutcome | str:
    """Grant a bonus; return the outcome, or the name of the refusal."""
    amounts = dict.fromkeys(user_ids, Decimal(amount))
    try:
        return GrantMoney(store)("bonus", amounts, SIGNED, create_with=create_with)
    except UsersNotFoundError as refusal:
        return type(refusal).__name__


def buy_for_each(store: Store, user_ids: Sequence[str], item: str) -> list[str]:
    """Order something for one user after the other; return how each order ended."""
    return [outcome(store, user_id, [item]) for user_id in user_ids]


def buy_until_refused(store: Store, user_ids: Sequence[str], item: str) -> list[str]:
    """Order something for one user after the other until an order is refused; return how each ended."""
    ended: list[str] = []
    for user_id in user_ids:
        ended.append(outcome(store, user_id, [item]))
        if ended[-1] != "placed":
            break
    return ended


def cancel(store: Store, order_ids: Sequence[str]) -> list[str]:
    """Cancel orders; return the ids of those that were not cancelled until now."""
    return [one.order_id for one in CancelOrders(store)(order_ids, SIGNED)]


def retire(store: Store, product_id: str) -> tuple[str, ...]:
    """Retire a product; return it if it was in the catalogue until now."""
    return RetireProducts(store)([product_id], SIGNED)


def erase(store: Store, user_id: str) -> str:
    """Erase a user; return the new id, or the name of the refusal."""
    try:
        return EraseUser(store)(user_id)
    except UsersNotFoundError as refusal:
        return type(refusal).__name__


class TestGrants:
    def test_of_many_who_grant_the_same_while_others_order_each_user_gets_it_once(
        self, kind: StoreKind, tmp_path: Path, at_once: AtOnce[Any]
    ) -> None:
        """Half of the users are unknown: a grant or an order creates them."""
        names = [f"user-{number:03}" for number in range(1000)]
        with kind.open(tmp_path) as store:
            stocked(store).change(lambda work: [work.users.get_or_add(opening(name)) for name in names[:500]])

        ended = at_once(
            [
                *[partial(grant, amount=10, user_ids=names, create_with=Decimal(450))] * 20,
                *[partial(buy_for_each, user_ids=names[::-20], item="gym")] * 4,
            ]
        )

        grants, orders = ended[:20], ended[20:]
        assert Counter(name for one in grants for name in one.given) == dict.fromkeys(names, 1)
        assert Counter(name for one in grants for name in one.had) == dict.fromkeys(names, 19)
        for outcomes in zip(*orders, strict=True):
            assert Counter(outcomes) == {"placed": 1, "ProductsAlreadyPurchasedError": 3}
        created = {name for one in grants for name in one.created}
        with kind.open(tmp_path) as store:
            assert_sound(store, tmp_path)
            assert {account.user.user_id: account.granted for account in ListUsers(store)()} == {
                name: 460 if name in created else 510 for name in names
            }

    def test_a_grant_comes_before_the_order_that_it_makes_affordable_or_after_its_refusal(
        self, kind: StoreKind, tmp_path: Path, at_once: AtOnce[Any]
    ) -> None:
        names = [f"user-{number}" for number in range(PROCESSES // 2)]
        with kind.open(tmp_path) as store:
            stocked(store).change(lambda work: [work.users.get_or_add(opening(name, 350)) for name in names])

        ended = at_once(
            [
                *[partial(grant, amount=100, user_ids=[name]) for name in names],
                *[partial(outcome, user_id=name, items=["gym"]) for name in names],
            ]
        )

        left = {"placed": (Decimal(50), ("gym",)), "InsufficientBalanceError": (Decimal(450), ())}
        with kind.open(tmp_path) as store:
            assert_sound(store, tmp_path)
            for name, granted, bought in zip(names, ended[: len(names)], ended[len(names) :], strict=True):
                assert granted.given == (name,)
                assert store.users.get(name) == User(name, *left[bought])


class TestCancellations:
    def test_of_many_who_cancel_the_same_order_one_credits_it(
        self, kind: StoreKind, tmp_path: Path, at_once: AtOnce[list[str]]
    ) -> None:
        with kind.open(tmp_path) as store:
            ids = [order(stocked(store), "jo", item).order_id for item in ("gym", "netflix", "flu-shot")]
            of_another = order(store, "al", "gym").order_id

        ended = at_once([partial(cancel, order_ids=[ids[0], of_another, ids[2]])] * 10)

        assert sorted(ended) == [*[[]] * 9, [ids[0], of_another, ids[2]]]
        with kind.open(tmp_path) as store:
            assert_sound(store, tmp_path)
            assert store.users.page(9) == (
                User("al", Decimal(500)),
                User("jo", Decimal("424.01"), ("netflix",)),
            )

    def test_an_order_of_the_same_product_is_refused_before_a_cancellation_and_placed_after_it(
        self, kind: StoreKind, tmp_path: Path, at_once: AtOnce[Any]
    ) -> None:
        names = [f"user-{number}" for number in range(PROCESSES // 2)]
        with kind.open(tmp_path) as store:
            ids = [order(stocked(store), name, "gym").order_id for name in names]

        ended = at_once(
            [
                *[partial(cancel, order_ids=[order_id]) for order_id in ids],
                *[partial(outcome, user_id=name, items=["gym"]) for name in names],
            ]
        )

        left = {"placed": (Decimal(100), ("gym",)), "ProductsAlreadyPurchasedError": (Decimal(500), ())}
        assert ended[: len(names)] == [[order_id] for order_id in ids]
        with kind.open(tmp_path) as store:
            assert_sound(store, tmp_path)
            for name, bought in zip(names, ended[len(names) :], strict=True):
                assert store.users.get(name) == User(name, *left[bought])
                assert len(store.orders.of_user(name)) == 1 + (bought == "placed")


class TestRetiring:
    def test_a_product_is_sold_until_it_is_retired_and_never_again(
        self, kind: StoreKind, tmp_path: Path, at_once: AtOnce[Any]
    ) -> None:
        buyers = [[f"user-{process}-{number}" for number in range(200)] for process in range(PROCESSES - 2)]
        with kind.open(tmp_path) as store:
            stocked(store)

        *bought, first, second = at_once(
            [
                *[partial(buy_until_refused, user_ids=names, item="gym") for names in buyers],
                *[partial(retire, product_id="gym")] * 2,
            ]
        )

        assert sorted([first, second]) == [(), ("gym",)]
        assert {outcomes[-1] for outcomes in bought} == {"ProductsNotFoundError"}
        with kind.open(tmp_path) as store:
            assert_sound(store, tmp_path)
            assert list(store.products.retired()) == ["gym"]
            assert {user.user_id for user in store.users.page(9999)} == {
                name
                for names, outcomes in zip(buyers, bought, strict=True)
                for name in names[: len(outcomes) - 1]
            }


class TestErasing:
    def test_orders_and_grants_are_those_of_the_erased_user_or_of_a_new_one(
        self, kind: StoreKind, tmp_path: Path, at_once: AtOnce[Any]
    ) -> None:
        items = [f"p{number}" for number in range(10)]
        with kind.open(tmp_path) as store:
            OfferProducts(store)([attrs.evolve(GYM, product_id=item, price=Decimal(1)) for item in items])
            add_user(store, "jo")

        ended = at_once(
            [
                *[partial(outcome, user_id="jo", items=[item]) for item in items],
                *[partial(grant, amount=100, user_ids=["jo"])] * 5,
                *[partial(erase, user_id="jo")] * 5,
            ]
        )

        with kind.open(tmp_path) as store:
            assert_sound(store, tmp_path)
            users = store.users.page(9)
            erased = {new_id for new_id in ended[15:] if new_id != "UsersNotFoundError"}
            assert erased
            assert {user.user_id for user in users} - {"jo"} == erased
            assert ended[:10] == ["placed"] * 10
            assert sorted(item for user in users for item in user.product_ids) == items
            given = [one for one in ended[10:15] if isinstance(one, GrantOutcome) and one.given]
            assert sum(store.grants.sums(user.user_id for user in users).values()) == (
                500 * len(users) + 100 * len(given)
            )
