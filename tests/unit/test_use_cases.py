"""The use cases, over the memory store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from benefits_core import (
    CancelOrders,
    GetUser,
    Grant,
    InsufficientBalanceError,
    InvalidUserIdError,
    InvalidValueError,
    ListOwnOrders,
    ListProducts,
    MemoryStore,
    OfferProducts,
    Order,
    OrderLine,
    OrdersNotFoundError,
    PlaceOrder,
    Product,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    UseCases,
    User,
)
from contract.builders import SIGNED

NETFLIX = Product("netflix", "Netflix", Decimal("75.99"))
SPOTIFY = Product("spotify", "Spotify", Decimal("45.99"))
BIKE = Product("bike", "Bike", Decimal("500.01"))


@pytest.fixture
def store() -> MemoryStore:
    """Return a store with three products."""
    store = MemoryStore()
    OfferProducts(store)([NETFLIX, SPOTIFY, BIKE])
    return store


def test_a_user_is_created_with_500_at_the_first_look_up(store: MemoryStore) -> None:
    user = GetUser(store)("johndoe")
    assert user == User("johndoe", Decimal(500))
    assert store.users.get("johndoe") == user


def test_the_employer_decides_on_the_opening_balance(store: MemoryStore) -> None:
    assert GetUser(store, Decimal("12.5"))("johndoe").balance == Decimal("12.50")


def test_another_opening_balance_changes_no_existing_user(store: MemoryStore) -> None:
    GetUser(store)("johndoe")
    PlaceOrder(store, Decimal(9))("johndoe", ["netflix"])
    assert GetUser(store, Decimal(7))("johndoe") == User("johndoe", Decimal("424.01"), ("netflix",))


def test_the_opening_balance_is_a_grant_of_the_moment(store: MemoryStore) -> None:
    moment = datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=2)))
    GetUser(store, Decimal(7), now=lambda: moment)("johndoe")
    PlaceOrder(store, Decimal(100), now=lambda: moment)("janedoe", ["netflix"])
    assert store.grants.of_user("johndoe") == (Grant.opening("johndoe", Decimal(7), moment),)
    assert store.grants.of_user("janedoe") == (Grant.opening("janedoe", Decimal(100), moment),)


def test_a_clock_without_a_timezone_creates_no_user(store: MemoryStore) -> None:
    with pytest.raises(InvalidValueError, match=r"^at must be "):
        GetUser(store, now=lambda: datetime(2026, 1, 2))("johndoe")  # noqa: DTZ001 - naive is the point
    assert store.users.get("johndoe") is None


@pytest.mark.parametrize("typed", [" José", "Jose\u0301\n"])
def test_one_person_is_one_user_on_every_keyboard(store: MemoryStore, typed: str) -> None:
    PlaceOrder(store)(typed, ["netflix"])
    assert GetUser(store)("José").product_ids == ("netflix",)
    assert GetUser(store)(typed).product_ids == ("netflix",)


def test_user_ids_are_case_sensitive(store: MemoryStore) -> None:
    PlaceOrder(store)("John", ["netflix"])
    assert GetUser(store)("john").product_ids == ()


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 65])
def test_an_invalid_user_id_creates_no_user(store: MemoryStore, name: str) -> None:
    with pytest.raises(InvalidUserIdError):
        GetUser(store)(name)
    with pytest.raises(InvalidUserIdError):
        PlaceOrder(store)(name, ["netflix"])
    assert store.users.get(name) is None


def test_there_is_nothing_to_list_before_something_is_offered() -> None:
    assert ListProducts(MemoryStore())() == ()


def test_products_are_listed_as_they_were_offered(store: MemoryStore) -> None:
    assert ListProducts(store)() == (NETFLIX, SPOTIFY, BIKE)


def test_what_is_offered_later_comes_first_and_replaces_what_had_its_id(store: MemoryStore) -> None:
    gym = Product("gym", "Gym", Decimal(60))
    cheaper = Product("bike", "Bicycle", Decimal(300))
    OfferProducts(store)(product for product in (gym, cheaper))
    assert ListProducts(store)() == (gym, cheaper, NETFLIX, SPOTIFY)


def test_an_offer_of_nothing_changes_nothing(store: MemoryStore) -> None:
    OfferProducts(store)([])
    assert ListProducts(store)() == (NETFLIX, SPOTIFY, BIKE)


def test_an_offer_with_a_repeated_id_is_refused_whole(store: MemoryStore) -> None:
    gym = Product("gym", "Gym", Decimal(60))
    with pytest.raises(InvalidValueError, match=r"^product_id must be in the list once, not 'gym'"):
        OfferProducts(store)([gym, Product("gym", "Gymnasium", Decimal(70))])
    assert ListProducts(store)() == (NETFLIX, SPOTIFY, BIKE)


def test_a_later_name_or_price_changes_no_order(store: MemoryStore) -> None:
    order = PlaceOrder(store)("johndoe", ["netflix"])
    OfferProducts(store)([Product("netflix", "Netflix 4K", Decimal(90))])
    assert store.orders.get(order.order_id) == order
    assert GetUser(store)("johndoe").balance == Decimal("424.01")
    assert PlaceOrder(store)("janedoe", ["netflix"]).total == Decimal(90)


def test_an_order_is_kept_and_paid_for(store: MemoryStore) -> None:
    GetUser(store)("johndoe")
    order = PlaceOrder(store)("johndoe", ["spotify", "netflix"])
    assert order.lines == (
        OrderLine("spotify", "Spotify", Decimal("45.99")),
        OrderLine("netflix", "Netflix", Decimal("75.99")),
    )
    assert store.orders.of_user("johndoe") == (order,)
    assert store.users.get("johndoe") == User("johndoe", Decimal("378.02"), ("spotify", "netflix"))


def test_no_two_orders_share_an_id(store: MemoryStore) -> None:
    place_order = PlaceOrder(store)
    orders = [
        place_order("johndoe", ["netflix"]),
        place_order("johndoe", ["spotify"]),
        place_order("jane", ["netflix"]),
    ]
    assert [store.orders.get(order.order_id) for order in orders] == orders


def test_an_unknown_user_is_created_with_the_order(store: MemoryStore) -> None:
    PlaceOrder(store, Decimal(100))("johndoe", ["netflix"])
    assert store.users.get("johndoe") == User("johndoe", Decimal("24.01"), ("netflix",))


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], ProductsNotFoundError),
        ([""], ProductsNotFoundError),
        (["netflix", "yacht"], ProductsNotFoundError),
        (["yacht", "bike"], ProductsNotFoundError),
        (["bike"], InsufficientBalanceError),
    ],
)
def test_a_refused_order_creates_no_user(
    store: MemoryStore, items: list[str], reason: type[Exception]
) -> None:
    with pytest.raises(reason):
        PlaceOrder(store)("johndoe", items)
    assert store.users.get("johndoe") is None
    assert store.orders.of_user("johndoe") == ()


def test_a_product_is_bought_once_in_a_life(store: MemoryStore) -> None:
    PlaceOrder(store)("johndoe", ["netflix"])
    before = store.users.get("johndoe")
    with pytest.raises(ProductsAlreadyPurchasedError) as refusal:
        PlaceOrder(store)("johndoe", ["spotify", "netflix"])
    assert refusal.value.product_ids == ("netflix",)
    assert store.users.get("johndoe") == before


def test_two_users_can_buy_the_same_product(store: MemoryStore) -> None:
    PlaceOrder(store)("johndoe", ["netflix"])
    assert PlaceOrder(store)("janedoe", ["netflix"]).items == ("netflix",)


def test_an_id_repeated_is_bought_charged_and_listed_once(store: MemoryStore) -> None:
    order = PlaceOrder(store)("johndoe", ["spotify", "netflix", "spotify"])
    assert (order.items, order.total) == (("spotify", "netflix"), Decimal("121.98"))


def test_items_may_come_from_an_iterator(store: MemoryStore) -> None:
    assert PlaceOrder(store)("johndoe", iter(["netflix", "spotify"])).items == ("netflix", "spotify")


@pytest.mark.parametrize(
    "items", ["netflix", "", ["netflix", 7], [None], [["netflix"]], b"netflix"], ids=repr
)
def test_what_is_no_collection_of_strings_is_no_order(store: MemoryStore, items: Any) -> None:
    """A lone string above all: taken for a list of its letters, its products would merely not be found."""
    with pytest.raises(InvalidValueError, match=r"^items must be a collection of str values") as refusal:
        PlaceOrder(store)("johndoe", items)
    assert refusal.value.value == items
    assert store.users.get("johndoe") is None


def test_the_clock_can_be_chosen(store: MemoryStore) -> None:
    moment = datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=2)))
    order = PlaceOrder(store, now=lambda: moment)("johndoe", ["netflix"])
    assert order.placed_at.isoformat() == "2026-01-02T03:00:00+00:00"


def test_an_order_is_placed_now(store: MemoryStore) -> None:
    begin = datetime.now(UTC)
    order = PlaceOrder(store)("johndoe", ["netflix"])
    assert begin <= order.placed_at <= datetime.now(UTC)


def test_a_clock_without_a_timezone_places_no_order(store: MemoryStore) -> None:
    with pytest.raises(InvalidValueError, match=r"^at must be "):
        PlaceOrder(store, now=lambda: datetime(2026, 1, 2))("johndoe", ["netflix"])  # noqa: DTZ001 - naive is the point
    assert store.users.get("johndoe") is None


def test_an_invalid_opening_balance_creates_no_user(store: MemoryStore) -> None:
    with pytest.raises(InvalidValueError, match=r"^opening_balance must be "):
        GetUser(store, Decimal(-1))("johndoe")
    with pytest.raises(InvalidValueError, match=r"^opening_balance must be "):
        PlaceOrder(store, Decimal(-1))("johndoe", ["netflix"])
    assert store.users.get("johndoe") is None


class TestListOwnOrders:
    @pytest.fixture
    def orders(self, store: MemoryStore) -> list[Order]:
        """Return twelve orders of José, between which Jane has placed two."""
        OfferProducts(store)(Product(f"p{number}", "P", Decimal(1)) for number in range(12))
        placed = []
        for number in range(12):
            placed.append(PlaceOrder(store)("José", [f"p{number}"]))
            if number in {3, 8}:
                PlaceOrder(store)("jane", [f"p{number}"])
        return placed

    def test_the_last_orders_of_the_user_come_first(self, store: MemoryStore, orders: list[Order]) -> None:
        own = ListOwnOrders(store)

        assert own("José", 100) == tuple(reversed(orders))
        assert own(" Jose\u0301", 3) == (orders[11], orders[10], orders[9])

    def test_the_list_goes_on_before_any_order_of_it(self, store: MemoryStore, orders: list[Order]) -> None:
        own = ListOwnOrders(store)

        assert own("José", 2, orders[9].order_id) == (orders[8], orders[7])
        assert own("José", 100, orders[1].order_id) == (orders[0],)
        assert own("José", 100, orders[0].order_id) == ()

    def test_cancelled_orders_stay_in_it(self, store: MemoryStore, orders: list[Order]) -> None:
        [cancelled] = CancelOrders(store)([orders[11].order_id], SIGNED)

        assert ListOwnOrders(store)("José", 2) == (cancelled, orders[10])

    @pytest.mark.usefixtures("orders")
    @pytest.mark.parametrize("before", ["5", "99", "x", "", "01", "\ud800"])
    def test_it_begins_before_no_order_but_an_own_one(self, store: MemoryStore, before: str) -> None:
        with pytest.raises(OrdersNotFoundError) as refusal:
            ListOwnOrders(store)("José", 10, before)
        assert refusal.value.order_ids == (before,)

    def test_an_unknown_user_has_none_and_is_not_created(self, store: MemoryStore) -> None:
        assert ListOwnOrders(store)("nobody", 10) == ()
        assert store.users.get("nobody") is None
        with pytest.raises(InvalidUserIdError):
            ListOwnOrders(store)(" ", 10)


def test_all_use_cases_work_over_one_store(store: MemoryStore) -> None:
    use_cases = UseCases.over(store, opening_balance=Decimal(100))
    order = use_cases.place_order("johndoe", ["netflix"], NETFLIX.price)
    assert use_cases.list_products() == (NETFLIX, SPOTIFY, BIKE)
    assert use_cases.list_own_orders("johndoe", 10, None) == (order,)
    assert use_cases.get_user("johndoe") == User("johndoe", Decimal("24.01"), ("netflix",))
    assert use_cases.get_user("janedoe") == User("janedoe", Decimal(100))
    use_cases.ping()


@pytest.mark.parametrize("use_case", [GetUser, PlaceOrder])
def test_an_invalid_opening_balance_is_refused_at_construction(use_case: Any) -> None:
    with pytest.raises(InvalidValueError, match="opening_balance"):
        use_case(MemoryStore(), opening_balance=Decimal("0.001"))


def test_items_that_are_no_collection_are_refused() -> None:
    items: Any = None
    with pytest.raises(InvalidValueError, match="items"):
        PlaceOrder(MemoryStore())("johndoe", items)
