"""The reports for operators: lists of users and orders, what happened to a balance, and what was spent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal

import pytest

from benefits_core import (
    Account,
    CancelOrders,
    Entry,
    EraseUser,
    GetUser,
    Grant,
    GrantMoney,
    InvalidUserIdError,
    InvalidValueError,
    ListOrders,
    ListUsers,
    MemoryStore,
    OfferProducts,
    Order,
    PlaceOrder,
    Product,
    ReportSpending,
    ShowUser,
    Signature,
    Spending,
    User,
    UsersNotFoundError,
)
from benefits_core.ports import GrantReader
from contract.builders import NETFLIX, SIGNED, SPOTIFY, add_user, opening, order, stocked

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TOKYO = timezone(9 * HOUR)
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
# The last half an hour of November in UTC, which is December in Tokyo.
LATE = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)


def order_at(store: MemoryStore, moment: datetime, user_id: str, *items: str) -> Order:
    """Place an order at a moment."""
    return PlaceOrder(store, now=lambda: moment)(user_id, items)


class TestListUsers:
    def test_all_users_are_listed_in_the_sequence_of_their_ids_however_many_there_are(self) -> None:
        store = MemoryStore()
        names = [f"user {number:04}" for number in range(1101)]
        for name in reversed(names):
            add_user(store, name)

        assert [account.user.user_id for account in ListUsers(store)()] == names
        assert list(ListUsers(MemoryStore())()) == []

    def test_each_is_listed_with_what_was_granted_and_spent(self) -> None:
        store = MemoryStore()
        order(stocked(store), "jo", "netflix", "spotify")
        order(store, "al", "gym")
        CancelOrders(store)(["2"], SIGNED)
        GrantMoney(store)("budget-2027", {"jo": Decimal("0.5"), "al": Decimal(-100)}, SIGNED)

        al, jo = ListUsers(store)()
        assert al == Account(User("al", Decimal(400)), Decimal(400))
        assert jo == Account(User("jo", Decimal("378.52"), ("netflix", "spotify")), Decimal("500.50"))
        assert (str(al.spent), str(jo.spent)) == ("0.00", "121.98")

    def test_a_user_who_is_erased_while_the_list_is_read_is_left_out(self) -> None:
        store = MemoryStore()
        for name in ("al", "jo", "mo"):
            add_user(store, name)

        class View:
            """The store, in which jo is erased after the users were read and before the grants are."""

            users, products, orders = store.users, store.products, store.orders

            @property
            def grants(self) -> GrantReader:
                EraseUser(store)("jo")
                return store.grants

        assert [account.user.user_id for account in ListUsers(View())()] == ["al", "mo"]


def with_orders(*moments: datetime) -> MemoryStore:
    """Return a store with an order by a user of its own at each moment; the first user has ordered twice."""
    store = MemoryStore()
    stocked(store)
    for number, moment in enumerate(moments):
        order_at(store, moment, f"user {number}", "netflix")
    order_at(store, moments[0], "user 0", "spotify")
    return store


class TestListOrders:
    def test_all_orders_are_listed_in_the_sequence_of_their_ids_however_many_there_are(self) -> None:
        store = with_orders(*[NOON] * 1101)

        assert [order.order_id for order in ListOrders(store)()] == [str(number) for number in range(1, 1103)]
        assert list(ListOrders(MemoryStore())()) == []

    def test_the_orders_of_one_user_are_listed(self) -> None:
        store = with_orders(NOON, NOON)

        [first, second] = ListOrders(store)(user_id=" user 0 ")
        assert (first.items, second.items) == ((NETFLIX.product_id,), (SPOTIFY.product_id,))
        assert list(ListOrders(store)(user_id="unknown")) == []
        assert store.users.get("unknown") is None

    def test_the_orders_of_a_time_are_listed_with_its_first_and_without_its_last_moment(self) -> None:
        moments = [NOON + hours * HOUR for hours in range(4)]
        listed = ListOrders(with_orders(*moments))

        def placed(**limits: datetime) -> list[int]:
            return [moments.index(order.placed_at) for order in listed(**limits)]  # type: ignore[arg-type]

        assert placed(since=moments[1], before=moments[3]) == [1, 2]
        assert placed(since=moments[1]) == [1, 2, 3]
        assert placed(before=moments[1]) == [0, 0]
        in_tokyo = moments[1].astimezone(TOKYO)
        assert placed(since=in_tokyo, before=in_tokyo + timedelta(microseconds=1)) == [1]

    def test_those_that_are_cancelled_and_those_that_are_not_can_be_listed_alone(self) -> None:
        store = with_orders(NOON, NOON)
        CancelOrders(store)(["1", "2"], SIGNED)
        listed = ListOrders(store)

        def ids(*, cancelled: bool | None, user_id: str | None = None) -> list[str]:
            return [order.order_id for order in listed(cancelled=cancelled, user_id=user_id)]

        assert ids(cancelled=True) == ["1", "2"]
        assert ids(cancelled=False) == ["3"]
        assert ids(cancelled=None) == ["1", "2", "3"]
        assert ids(cancelled=True, user_id="user 0") == ["1"]
        assert ids(cancelled=False, user_id="user 1") == []

    @pytest.mark.parametrize("limit", ["since", "before"])
    def test_a_moment_without_a_timezone_is_refused_at_once(self, limit: str) -> None:
        with pytest.raises(InvalidValueError, match=f"{limit} must be a timezone-aware datetime"):
            ListOrders(MemoryStore())(**{limit: datetime(2026, 1, 1)})  # type: ignore[arg-type] # noqa: DTZ001

    def test_an_invalid_user_id_is_refused_at_once(self) -> None:
        with pytest.raises(InvalidUserIdError):
            ListOrders(MemoryStore())(user_id=" ")


class TestShowUser:
    def test_all_that_has_changed_the_balance_is_shown_with_what_was_left(self) -> None:
        store = MemoryStore()
        stocked(store)
        signed = [Signature("Al", NOON + hours * HOUR) for hours in range(5)]
        GetUser(store, now=lambda: NOON)("jo")
        order_at(store, NOON + HOUR, "jo", "netflix", "spotify")
        GrantMoney(store)("budget-2027", {"jo": Decimal(100)}, signed[2])
        [cancelled] = CancelOrders(store)(["1"], signed[3])
        bought = order_at(store, NOON + 4 * HOUR, "jo", "gym")
        order(store, "al", "netflix")

        budget = Grant("jo", "budget-2027", Decimal(100), signed[2])
        assert ShowUser(store)(" jo ") == (
            Entry(NOON, "grant", Grant.opening("jo", Decimal(500), NOON), Decimal(500), Decimal(500)),
            Entry(NOON + HOUR, "order", cancelled, Decimal("-121.98"), Decimal("378.02")),
            Entry(NOON + 2 * HOUR, "grant", budget, Decimal(100), Decimal("478.02")),
            Entry(NOON + 3 * HOUR, "cancellation", cancelled, Decimal("121.98"), Decimal(600)),
            Entry(NOON + 4 * HOUR, "order", bought, Decimal(-400), Decimal(200)),
        )
        assert store.users.get("jo") == User("jo", Decimal(200), ("gym",))

    def test_the_sequence_follows_the_clock(self) -> None:
        store = MemoryStore()
        stocked(store)
        add_user(store, "jo")
        granted = opening("jo").signature.at
        order_at(store, granted - HOUR, "jo", "netflix")
        order_at(store, granted - 2 * HOUR, "jo", "spotify")

        assert [(entry.at, str(entry.balance)) for entry in ShowUser(store)("jo")] == [
            (granted - 2 * HOUR, "-45.99"),
            (granted - HOUR, "-121.98"),
            (granted, "378.02"),
        ]

    def test_at_one_moment_a_grant_comes_first_and_a_cancellation_last(self) -> None:
        store = with_orders(NOON)
        CancelOrders(store)(["1"], Signature("Al", NOON))

        entries = ShowUser(store)("user 0")
        assert [entry.kind for entry in entries] == ["grant", "order", "order", "cancellation"]
        assert entries[-1].balance == Decimal("454.01")

    def test_what_was_free_takes_nothing(self) -> None:
        store = MemoryStore()
        order(stocked(store), "jo", "flu-shot")

        _, free = ShowUser(store)("jo")
        assert (str(free.amount), str(free.balance)) == ("0.00", "500.00")

    def test_an_unknown_user_is_named_and_not_created(self) -> None:
        store = MemoryStore()
        with pytest.raises(UsersNotFoundError) as refusal:
            ShowUser(store)(" nobody ")

        assert refusal.value.user_ids == ("nobody",)
        assert store.users.get("nobody") is None
        with pytest.raises(InvalidUserIdError):
            ShowUser(store)("")


class TestReportSpending:
    def test_orders_of_a_month_are_counted_and_added_up_by_product(self) -> None:
        store = MemoryStore()
        stocked(store)
        order_at(store, NOON, "jo", "spotify", "netflix")
        order_at(store, NOON + timedelta(days=7), "al", "netflix", "flu-shot")
        OfferProducts(store)([Product("netflix", "Netflix", Decimal("0.01"))])
        order_at(store, NOON, "mo", "netflix")

        assert ReportSpending(store)(timezone=UTC) == (
            Spending(NOVEMBER, "netflix", "Netflix", 2, Decimal("76.00")),
            Spending(NOVEMBER, "spotify", "Spotify", 1, Decimal("45.99")),
            Spending(DECEMBER, "flu-shot", "Flu vaccination", 1, Decimal(0)),
            Spending(DECEMBER, "netflix", "Netflix", 1, Decimal("75.99")),
        )
        assert ReportSpending(MemoryStore())(timezone=UTC) == ()

    @pytest.mark.parametrize(("zone", "month"), [(UTC, NOVEMBER), (TOKYO, DECEMBER)])
    def test_months_are_those_of_the_timezone(self, zone: tzinfo, month: date) -> None:
        store = MemoryStore()
        stocked(store)
        order_at(store, LATE, "jo", "netflix")

        [spending] = ReportSpending(store)(timezone=zone)
        assert spending == Spending(month, "netflix", "Netflix", 1, Decimal("75.99"))

    @pytest.fixture
    def tokyo(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Set the timezone of the machine."""
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
        monkeypatch.undo()
        time.tzset()

    @pytest.mark.usefixtures("tokyo")
    def test_without_a_timezone_months_are_those_of_the_machine(self) -> None:
        store = MemoryStore()
        stocked(store)
        order_at(store, LATE, "jo", "netflix")

        assert [spending.month for spending in ReportSpending(store)()] == [DECEMBER]

    def test_cancelled_orders_do_not_count(self) -> None:
        store = with_orders(NOON, NOON)
        CancelOrders(store)(["1", "3"], SIGNED)

        assert ReportSpending(store)(timezone=UTC) == (
            Spending(NOVEMBER, "netflix", "Netflix", 1, Decimal("75.99")),
        )

    def test_a_product_has_the_name_under_which_it_was_bought_last_in_the_month(self) -> None:
        store = MemoryStore()
        moments = [NOON, NOON + HOUR, LATE + HOUR, LATE + 2 * HOUR]
        for number, moment in enumerate(moments):
            OfferProducts(store)([Product("netflix", f"Netflix {number}", Decimal(number))])
            order_at(store, moment, f"user {number}", "netflix")
        OfferProducts(store)([Product("netflix", "Netflix 4", Decimal(4))])

        assert ReportSpending(store)(timezone=UTC) == (
            Spending(NOVEMBER, "netflix", "Netflix 1", 2, Decimal(1)),
            Spending(DECEMBER, "netflix", "Netflix 3", 2, Decimal(5)),
        )

    def test_the_orders_of_a_time_are_counted_with_its_first_and_without_its_last_moment(self) -> None:
        report = ReportSpending(with_orders(NOON, NOON + HOUR, NOON + 2 * HOUR))

        [spending] = report(since=NOON + HOUR, before=NOON + 2 * HOUR, timezone=UTC)
        assert spending == Spending(NOVEMBER, "netflix", "Netflix", 1, Decimal("75.99"))

    @pytest.mark.parametrize("limit", ["since", "before"])
    def test_a_moment_without_a_timezone_is_refused(self, limit: str) -> None:
        with pytest.raises(InvalidValueError, match=f"{limit} must be a timezone-aware datetime"):
            ReportSpending(MemoryStore())(**{limit: datetime(2026, 1, 1)})  # type: ignore[arg-type] # noqa: DTZ001
