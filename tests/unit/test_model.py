"""The business rules on bare values: what products, orders and users can be, and what may be bought."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benefits_core import (
    InsufficientBalanceError,
    InvalidUserIdError,
    InvalidValueError,
    MemoryStore,
    OfferProducts,
    Order,
    OrderLine,
    OrderRefusedError,
    PlaceOrder,
    PriceChangedError,
    Product,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    User,
)
from benefits_core.model import basket
from benefits_core.values import MAX_MONEY, from_cents, to_cents

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NETFLIX = Product("netflix", "Netflix", Decimal("75.99"))
SPOTIFY = Product("spotify", "Spotify", Decimal("45.99"))
BIKE = Product("bike", "Bike", Decimal(500))
VACCINATION = Product("vaccination", "Flu vaccination", Decimal(0))
ON_OFFER = {product.product_id: product for product in (NETFLIX, SPOTIFY, BIKE, VACCINATION)}
LINE = OrderLine("netflix", Decimal("75.99"))

VALID: dict[Callable[..., Any], dict[str, Any]] = {
    Product: {"product_id": "netflix", "name": "Netflix", "price": Decimal("75.99")},
    OrderLine: {"product_id": "netflix", "price": Decimal("75.99")},
    Order: {"order_id": "1", "user_id": "johndoe", "lines": (LINE,), "placed_at": NOW},
    User: {
        "user_id": "johndoe",
        "opening_balance": Decimal(500),
        "balance": Decimal("424.01"),
        "product_ids": ("netflix",),
    },
}


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (Product, "product_id", ""),
        (Product, "product_id", "x" * 65),
        (Product, "product_id", "a\nb"),
        (Product, "product_id", 7),
        (Product, "name", ""),
        (Product, "name", "x" * 201),
        (Product, "name", "a\x00b"),
        (Product, "price", 75.99),
        (Product, "price", Decimal("-0.01")),
        (Product, "price", Decimal("75.995")),
        (OrderLine, "product_id", ""),
        (OrderLine, "price", 76),
        (Order, "order_id", ""),
        (Order, "order_id", 1),
        (Order, "user_id", " "),
        (Order, "lines", ()),
        (Order, "lines", None),
        (Order, "lines", ("netflix",)),
        (Order, "lines", (LINE, LINE)),
        (Order, "lines", (LINE, OrderLine("netflix", Decimal(1)))),
        (Order, "placed_at", NOW.replace(tzinfo=None)),
        (User, "user_id", "a\nb"),
        (User, "user_id", "x" * 65),
        (User, "opening_balance", 500),
        (User, "opening_balance", Decimal(10_000_000_000)),
        (User, "balance", 500.0),
        (User, "balance", Decimal("-0.01")),
        (User, "balance", Decimal("500.01")),
        (User, "product_ids", ("netflix", "netflix")),
        (User, "product_ids", ("netflix", 7)),
        (User, "product_ids", None),
    ],
)
def test_a_bad_value_is_impossible_to_hold(kind: Callable[..., Any], field: str, value: object) -> None:
    """Neither when it is made nor when it is made of another; the error says which field, and what was given."""
    with pytest.raises(InvalidValueError, match=rf"^{field} must be ") as refusal:
        kind(**VALID[kind] | {field: value})
    assert (refusal.value.field, refusal.value.value) == (field, value)
    assert str(refusal.value).endswith(f"not {refusal.value.value!r}")
    with pytest.raises(InvalidValueError):
        attrs.evolve(kind(**VALID[kind]), **{field: value})


@pytest.mark.parametrize("kind", [Order, User])
def test_a_bad_user_id_has_an_error_of_its_own(kind: Callable[..., Any]) -> None:
    with pytest.raises(InvalidUserIdError):
        kind(**VALID[kind] | {"user_id": ""})


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, fields in VALID.items() for field in fields]
)
def test_a_value_never_changes(kind: Callable[..., Any], field: str) -> None:
    value = kind(**VALID[kind])
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, field, VALID[kind][field])


def test_the_longest_product_fits() -> None:
    product = Product("😀" * 64, "😀" * 200, MAX_MONEY)
    assert (len(product.product_id), len(product.name), product.price) == (64, 200, MAX_MONEY)


def test_an_order_costs_the_sum_of_its_lines() -> None:
    lines = [OrderLine("netflix", Decimal("75.99")), OrderLine("spotify", Decimal("45.99"))]
    with localcontext(Context(prec=3)):
        order = Order("1", "johndoe", tuple(lines), NOW)
    assert (order.items, order.total) == (("netflix", "spotify"), Decimal("121.98"))


def test_an_order_may_not_cost_more_than_money_can_be() -> None:
    with pytest.raises(InvalidValueError, match=r"^total must be "):
        Order("1", "johndoe", (OrderLine("a", MAX_MONEY), OrderLine("b", Decimal("0.01"))), NOW)


def test_the_total_of_an_order_can_not_be_passed() -> None:
    with pytest.raises(TypeError):
        Order("1", "johndoe", (LINE,), NOW, Decimal(1))  # type: ignore[call-arg] # it is the sum, whatever is said


def test_a_list_that_an_order_was_made_of_may_change_afterwards() -> None:
    lines: Any = [LINE]
    order = Order("1", "johndoe", lines, NOW)
    lines.clear()
    assert order.lines == (LINE,)


def test_an_order_is_placed_in_utc() -> None:
    order = Order("1", "johndoe", (LINE,), datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=2))))
    assert order.placed_at.isoformat() == "2026-01-02T03:00:00+00:00"


def test_names_are_kept_in_their_one_spelling() -> None:
    assert User.new(" Jose\u0301 ") == User.new("José")
    assert Order("1", " Jose\u0301 ", (LINE,), NOW).user_id == "José"


@pytest.mark.parametrize("balance", [Decimal(-1), Decimal("0.001"), 1.5, 500])
def test_a_newcomer_begins_with_money(balance: Any) -> None:
    with pytest.raises(InvalidValueError, match="opening_balance"):
        User.new("johndoe", balance)


def test_a_newcomer_has_all_of_the_opening_balance_and_owns_nothing() -> None:
    assert User.new("johndoe") == User("johndoe", Decimal(500), Decimal(500), ())
    assert User.new("johndoe", Decimal("0.5")).balance == Decimal("0.50")


def test_buying_debits_the_balance_and_adds_to_what_is_owned() -> None:
    user = User("johndoe", Decimal(500), Decimal(200), ("vaccination",))
    richer, order = user.buy((SPOTIFY, NETFLIX), order_id="7", placed_at=NOW)
    assert richer == User("johndoe", Decimal(500), Decimal("78.02"), ("vaccination", "spotify", "netflix"))
    assert order == Order(
        "7", "johndoe", (OrderLine("spotify", Decimal("45.99")), OrderLine("netflix", Decimal("75.99"))), NOW
    )


def test_an_order_of_exactly_the_balance_leaves_nothing() -> None:
    user, _ = User.new("johndoe", Decimal(500)).buy((BIKE,), order_id="1", placed_at=NOW)
    assert str(user.balance) == "0.00"


def test_an_order_of_one_cent_more_than_the_balance_is_refused() -> None:
    with pytest.raises(InsufficientBalanceError) as refusal:
        User.new("johndoe", Decimal("499.99")).buy((BIKE,), order_id="1", placed_at=NOW)
    assert (refusal.value.balance, refusal.value.total) == (Decimal("499.99"), Decimal(500))


@pytest.mark.parametrize("expected", [Decimal("499.99"), Decimal("500.01"), Decimal(0), Decimal(-500)])
@pytest.mark.parametrize("balance", [Decimal(1), Decimal(1000)])
def test_an_order_that_does_not_cost_what_is_expected_is_refused_whatever_the_balance(
    expected: Decimal, balance: Decimal
) -> None:
    with pytest.raises(PriceChangedError) as refusal:
        User.new("johndoe", balance).buy((BIKE,), order_id="1", placed_at=NOW, expected_total=expected)
    assert (refusal.value.expected, refusal.value.total) == (expected, Decimal(500))


def test_what_was_bought_before_is_refused_first_whatever_total_is_expected() -> None:
    user = User("johndoe", Decimal(500), Decimal(0), ("bike",))
    with pytest.raises(ProductsAlreadyPurchasedError):
        user.buy((BIKE,), order_id="1", placed_at=NOW, expected_total=Decimal(1))


def test_an_order_that_costs_what_is_expected_is_placed_or_refused_as_any_other() -> None:
    _, order = User.new("johndoe").buy((BIKE,), order_id="1", placed_at=NOW, expected_total=Decimal(500))
    assert order.total == 500
    with pytest.raises(InsufficientBalanceError):
        User.new("johndoe", Decimal(1)).buy((BIKE,), order_id="1", placed_at=NOW, expected_total=Decimal(500))


def test_what_is_free_can_be_had_without_money() -> None:
    user, order = User.new("johndoe", Decimal(0)).buy((VACCINATION,), order_id="1", placed_at=NOW)
    assert (user.product_ids, order.total) == (("vaccination",), Decimal(0))


def test_an_order_beyond_all_money_is_beyond_the_balance_too() -> None:
    products = [Product(product_id, "Gold", MAX_MONEY) for product_id in ("a", "b")]
    with pytest.raises(InsufficientBalanceError) as refusal:
        User.new("johndoe", MAX_MONEY).buy(products, order_id="1", placed_at=NOW)
    assert refusal.value.total == 2 * MAX_MONEY


def test_what_was_bought_before_is_refused_by_name_even_if_it_could_not_be_paid_for() -> None:
    user = User("johndoe", Decimal(500), Decimal(0), ("netflix", "spotify"))
    with pytest.raises(ProductsAlreadyPurchasedError) as refusal:
        user.buy((SPOTIFY, BIKE, NETFLIX), order_id="1", placed_at=NOW)
    assert refusal.value.product_ids == ("spotify", "netflix")


@pytest.mark.parametrize("products", [(), (NETFLIX, NETFLIX)])
def test_what_is_no_basket_makes_no_order(products: Sequence[Product]) -> None:
    with pytest.raises(InvalidValueError, match=r"^lines must be "):
        User.new("johndoe").buy(products, order_id="1", placed_at=NOW)


def test_an_order_that_a_user_can_not_have_placed_leaves_no_valid_user() -> None:
    order = Order("1", "johndoe", (LINE,), NOW)
    with pytest.raises(InvalidValueError, match=r"^balance must be "):
        User.new("johndoe", Decimal("75.98")).with_order(order)
    with pytest.raises(InvalidValueError, match=r"^product_ids must be "):
        User("johndoe", Decimal(500), Decimal(500), ("netflix",)).with_order(order)
    with pytest.raises(InvalidValueError, match=r"^user_id must be 'jane'"):
        User.new("jane").with_order(order)


def test_a_basket_holds_each_product_once_in_the_order_sent() -> None:
    assert basket(["spotify", "netflix", "spotify"], ON_OFFER) == (SPOTIFY, NETFLIX)


def test_a_basket_is_refused_for_what_is_not_on_offer_alone() -> None:
    with pytest.raises(ProductsNotFoundError) as refusal:
        basket(["yacht", "netflix", "", "NETFLIX", "yacht"], ON_OFFER)
    assert refusal.value.product_ids == ("yacht", "", "NETFLIX")


def test_an_empty_basket_is_refused_and_no_product_to_blame() -> None:
    with pytest.raises(ProductsNotFoundError) as refusal:
        basket([], ON_OFFER)
    assert refusal.value.product_ids == ()


# Stories: a few products, a balance that buys some of them, and orders that repeat, overlap and name what is not there.
ids = st.sampled_from("abcd")
stories = st.tuples(
    st.dictionaries(ids, st.integers(0, 300_00), min_size=1),
    st.integers(0, 600_00),
    st.lists(st.lists(st.sampled_from("abcd?"), max_size=4), max_size=8),
)
Story = tuple[dict[str, int], int, list[list[str]]]


def _product(product_id: str, cents: int) -> Product:
    return Product(product_id, product_id.upper(), from_cents(cents))


@given(stories)
def test_whatever_people_order_no_money_is_lost_and_nothing_owned_twice(story: Story) -> None:
    prices, opening_cents, orders = story
    on_offer = {product_id: _product(product_id, price) for product_id, price in prices.items()}
    user = User.new("johndoe", from_cents(opening_cents))
    placed: list[Order] = []
    for items in orders:
        try:
            user, order = user.buy(basket(items, on_offer), order_id=str(len(placed) + 1), placed_at=NOW)
        except OrderRefusedError:
            continue
        placed.append(order)
    assert to_cents(user.balance) + sum(to_cents(order.total) for order in placed) == opening_cents
    assert user.product_ids == tuple(product_id for order in placed for product_id in order.items)
    assert len(set(user.product_ids)) == len(user.product_ids)
    assert all(to_cents(order.total) == sum(prices[item] for item in order.items) for order in placed)


def _expected_refusal(
    items: list[str], prices: Mapping[str, int], owned: set[str], cents_left: int
) -> type[OrderRefusedError] | None:
    wanted = set(items)
    if not wanted or wanted - set(prices):
        return ProductsNotFoundError
    if wanted & owned:
        return ProductsAlreadyPurchasedError
    return InsufficientBalanceError if sum(prices[item] for item in wanted) > cents_left else None


@given(stories)
def test_an_order_is_refused_for_the_first_reason_that_applies_and_then_changes_nothing(story: Story) -> None:
    prices, opening_cents, orders = story
    store = MemoryStore()
    OfferProducts(store)(_product(product_id, price) for product_id, price in prices.items())
    place_order = PlaceOrder(store, from_cents(opening_cents), lambda: NOW)
    owned: set[str] = set()
    cents_left = opening_cents
    for items in orders:
        before = (store.users.get("johndoe"), store.orders.of_user("johndoe"))
        refusal = _expected_refusal(items, prices, owned, cents_left)
        if refusal is None:
            order = place_order("johndoe", items)
            owned.update(items)
            cents_left -= sum(prices[item] for item in set(items))
            assert store.orders.of_user("johndoe") == (*before[1], order)
        else:
            with pytest.raises(refusal):
                place_order("johndoe", items)
            assert (store.users.get("johndoe"), store.orders.of_user("johndoe")) == before
    user = store.users.get("johndoe")
    assert (set(user.product_ids), to_cents(user.balance)) == (owned, cents_left) if user else not owned


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 7, 1, 12),  # noqa: DTZ001 - that it is naive is the point
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        "2026-07-01",
    ],
)
def test_the_time_of_an_order_needs_a_timezone(moment: Any) -> None:
    with pytest.raises(InvalidValueError, match="placed_at"):
        Order("1", "johndoe", [OrderLine("a", Decimal(1))], moment)


@pytest.mark.parametrize("product_ids", ["abc", ["a", "a"], [1], None])
def test_what_a_user_owns_is_a_sequence_of_distinct_ids(product_ids: Any) -> None:
    with pytest.raises(InvalidValueError, match="product_ids"):
        User("johndoe", Decimal(1), Decimal(1), product_ids)
