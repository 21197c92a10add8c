"""The use cases, over the memory store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from benefits_core import (
    GetUser,
    InsufficientBalanceError,
    InvalidUserIdError,
    InvalidValueError,
    ListProducts,
    MemoryStore,
    OfferProducts,
    OrderLine,
    PlaceOrder,
    Product,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    User,
)

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
    assert user == User("johndoe", Decimal(500), Decimal(500), ())
    assert store.users.get("johndoe") == user


def test_the_employer_decides_on_the_opening_balance(store: MemoryStore) -> None:
    assert GetUser(store, Decimal("12.5"))("johndoe").balance == Decimal("12.50")


def test_another_opening_balance_changes_no_existing_user(store: MemoryStore) -> None:
    GetUser(store)("johndoe")
    PlaceOrder(store, Decimal(9))("johndoe", ["netflix"])
    assert GetUser(store, Decimal(7))("johndoe") == User(
        "johndoe", Decimal(500), Decimal("424.01"), ("netflix",)
    )


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


def test_a_later_price_changes_no_order(store: MemoryStore) -> None:
    order = PlaceOrder(store)("johndoe", ["netflix"])
    OfferProducts(store)([Product("netflix", "Netflix", Decimal(90))])
    assert store.orders.get(order.order_id) == order
    assert GetUser(store)("johndoe").balance == Decimal("424.01")
    assert PlaceOrder(store)("janedoe", ["netflix"]).total == Decimal(90)


def test_an_order_is_kept_and_paid_for(store: MemoryStore) -> None:
    GetUser(store)("johndoe")
    order = PlaceOrder(store)("johndoe", ["spotify", "netflix"])
    assert order.lines == (OrderLine("spotify", Decimal("45.99")), OrderLine("netflix", Decimal("75.99")))
    assert store.orders.of_user("johndoe") == (order,)
    assert store.users.get("johndoe") == User(
        "johndoe", Decimal(500), Decimal("378.02"), ("spotify", "netflix")
    )


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
    assert store.users.get("johndoe") == User("johndoe", Decimal(100), Decimal("24.01"), ("netflix",))


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
    with pytest.raises(InvalidValueError, match=r"^placed_at must be "):
        PlaceOrder(store, now=lambda: datetime(2026, 1, 2))("johndoe", ["netflix"])  # noqa: DTZ001 - naive is the point
    assert store.users.get("johndoe") is None


def test_an_invalid_opening_balance_creates_no_user(store: MemoryStore) -> None:
    with pytest.raises(InvalidValueError, match=r"^opening_balance must be "):
        GetUser(store, Decimal(-1))("johndoe")
    with pytest.raises(InvalidValueError, match=r"^opening_balance must be "):
        PlaceOrder(store, Decimal(-1))("johndoe", ["netflix"])
    assert store.users.get("johndoe") is None


@pytest.mark.parametrize("use_case", [GetUser, PlaceOrder])
def test_an_invalid_opening_balance_is_refused_at_construction(use_case: Any) -> None:
    with pytest.raises(InvalidValueError, match="opening_balance"):
        use_case(MemoryStore(), opening_balance=Decimal("0.001"))


def test_items_that_are_no_collection_are_refused() -> None:
    items: Any = None
    with pytest.raises(InvalidValueError, match="items"):
        PlaceOrder(MemoryStore())("johndoe", items)
