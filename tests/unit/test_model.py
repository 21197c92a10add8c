"""The business rules on bare values: what products, grants, orders and users can be, and what may be bought or undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benefits_core import (
    Grant,
    GrantRefusedError,
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
    Signature,
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
LINE = OrderLine("netflix", "Netflix", Decimal("75.99"))
SIGNED = Signature("Al", NOW, "wrong size")

VALID: dict[Callable[..., Any], dict[str, Any]] = {
    Product: {"product_id": "netflix", "name": "Netflix", "price": Decimal("75.99")},
    OrderLine: {"product_id": "netflix", "name": "Netflix", "price": Decimal("75.99")},
    Order: {"order_id": "1", "user_id": "johndoe", "lines": (LINE,), "placed_at": NOW, "cancelled": SIGNED},
    User: {"user_id": "johndoe", "balance": Decimal("424.01"), "product_ids": ("netflix",)},
    Grant: {"user_id": "johndoe", "reference": "budget-2027", "amount": Decimal(-100), "signature": SIGNED},
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
        (OrderLine, "name", ""),
        (OrderLine, "name", "x" * 201),
        (OrderLine, "name", None),
        (OrderLine, "price", 76),
        (Order, "order_id", ""),
        (Order, "order_id", 1),
        (Order, "user_id", " "),
        (Order, "lines", ()),
        (Order, "lines", None),
        (Order, "lines", ("netflix",)),
        (Order, "lines", (LINE, LINE)),
        (Order, "lines", (LINE, OrderLine("netflix", "Netflix", Decimal(1)))),
        (Order, "placed_at", NOW.replace(tzinfo=None)),
        (User, "user_id", "a\nb"),
        (User, "user_id", "x" * 65),
        (User, "balance", 500),
        (User, "balance", 500.0),
        (User, "balance", Decimal("-0.01")),
        (User, "balance", Decimal(10_000_000_000)),
        (User, "product_ids", ("netflix", "netflix")),
        (User, "product_ids", ("netflix", 7)),
        (User, "product_ids", None),
        (Grant, "user_id", " "),
        (Grant, "reference", ""),
        (Grant, "reference", "x" * 65),
        (Grant, "reference", "a\nb"),
        (Grant, "amount", 100),
        (Grant, "amount", Decimal("0.001")),
        (Grant, "amount", Decimal(10_000_000_000)),
        pytest.param(
            *(Grant, "amount", Decimal("-0.001")),
        ),
        *(pytest.param(kind, field, "Al") for kind, field in [(Grant, "signature"), (Order, "cancelled")]),
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


@pytest.mark.parametrize("kind", [Order, User, Grant])
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
    lines = [
        OrderLine("netflix", "Netflix", Decimal("75.99")),
        OrderLine("spotify", "Spotify", Decimal("45.99")),
    ]
    with localcontext(Context(prec=3)):
        order = Order("1", "johndoe", tuple(lines), NOW)
    assert (order.items, order.total) == (("netflix", "spotify"), Decimal("121.98"))


def test_an_order_may_not_cost_more_than_money_can_be() -> None:
    with pytest.raises(InvalidValueError, match=r"^total must be "):
        Order("1", "johndoe", (OrderLine("a", "A", MAX_MONEY), OrderLine("b", "B", Decimal("0.01"))), NOW)


def test_the_total_of_an_order_can_not_be_passed() -> None:
    with pytest.raises(TypeError):
        Order("1", "johndoe", (LINE,), NOW, total=Decimal(1))  # type: ignore[call-arg] # it is the sum, whatever is said


def test_a_list_that_an_order_was_made_of_may_change_afterwards() -> None:
    lines: Any = [LINE]
    order = Order("1", "johndoe", lines, NOW)
    lines.clear()
    assert order.lines == (LINE,)


def test_an_order_is_placed_in_utc() -> None:
    order = Order("1", "johndoe", (LINE,), datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=2))))
    assert order.placed_at.isoformat() == "2026-01-02T03:00:00+00:00"


def test_names_are_kept_in_their_one_spelling() -> None:
    assert User(" Jose\u0301 ", Decimal(500)) == User("José", Decimal(500))
    assert Order("1", " Jose\u0301 ", (LINE,), NOW).user_id == "José"


@pytest.mark.parametrize("amount", [Decimal(-1), Decimal("0.001"), 1.5, 500])
def test_an_opening_grant_is_money(amount: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"^opening_balance must be "):
        Grant.opening("johndoe", amount, NOW)


def test_an_opening_grant_needs_a_timezone() -> None:
    with pytest.raises(InvalidValueError, match=r"^at must be a timezone-aware datetime"):
        Grant.opening("johndoe", Decimal(500), NOW.replace(tzinfo=None))


def test_an_opening_grant_is_signed_by_the_service() -> None:
    at = datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=2)))
    grant = Grant.opening(" Jose\u0301 ", Decimal("0.5"), at)
    assert grant == Grant("José", "opening", Decimal("0.50"), Signature("benefits", at))
    assert (str(grant.amount), grant.signature.note) == ("0.50", "")
    assert grant.signature.at.isoformat() == "2026-01-02T03:00:00+00:00"


@pytest.mark.parametrize("amount", [MAX_MONEY, Decimal(0), MAX_MONEY.copy_negate()])
def test_a_grant_may_be_of_any_money_or_its_negative(amount: Decimal) -> None:
    assert Grant("johndoe", "x" * 64, amount, SIGNED).amount == amount


def test_a_user_owns_nothing_at_first() -> None:
    assert User("johndoe", Decimal("0.5")) == User("johndoe", Decimal("0.50"), ())


def test_buying_debits_the_balance_and_adds_to_what_is_owned() -> None:
    user = User("johndoe", Decimal(200), ("vaccination",))
    richer, order = user.buy((SPOTIFY, NETFLIX), order_id="7", placed_at=NOW)
    assert richer == User("johndoe", Decimal("78.02"), ("vaccination", "spotify", "netflix"))
    assert order == Order(
        "7",
        "johndoe",
        (
            OrderLine("spotify", "Spotify", Decimal("45.99")),
            OrderLine("netflix", "Netflix", Decimal("75.99")),
        ),
        NOW,
    )


def test_an_order_of_exactly_the_balance_leaves_nothing() -> None:
    user, _ = User("johndoe", Decimal(500)).buy((BIKE,), order_id="1", placed_at=NOW)
    assert str(user.balance) == "0.00"


def test_an_order_of_one_cent_more_than_the_balance_is_refused() -> None:
    with pytest.raises(InsufficientBalanceError) as refusal:
        User("johndoe", Decimal("499.99")).buy((BIKE,), order_id="1", placed_at=NOW)
    assert (refusal.value.balance, refusal.value.total) == (Decimal("499.99"), Decimal(500))


@pytest.mark.parametrize("expected", [Decimal("499.99"), Decimal("500.01"), Decimal(0), Decimal(-500)])
@pytest.mark.parametrize("balance", [Decimal(1), Decimal(1000)])
def test_an_order_that_does_not_cost_what_is_expected_is_refused_whatever_the_balance(
    expected: Decimal, balance: Decimal
) -> None:
    with pytest.raises(PriceChangedError) as refusal:
        User("johndoe", balance).buy((BIKE,), order_id="1", placed_at=NOW, expected_total=expected)
    assert (refusal.value.expected, refusal.value.total) == (expected, Decimal(500))


def test_what_was_bought_before_is_refused_first_whatever_total_is_expected() -> None:
    user = User("johndoe", Decimal(0), ("bike",))
    with pytest.raises(ProductsAlreadyPurchasedError):
        user.buy((BIKE,), order_id="1", placed_at=NOW, expected_total=Decimal(1))


def test_an_order_that_costs_what_is_expected_is_placed_or_refused_as_any_other() -> None:
    _, order = User("johndoe", Decimal(500)).buy(
        (BIKE,), order_id="1", placed_at=NOW, expected_total=Decimal(500)
    )
    assert order.total == 500
    with pytest.raises(InsufficientBalanceError):
        User("johndoe", Decimal(1)).buy((BIKE,), order_id="1", placed_at=NOW, expected_total=Decimal(500))


def test_what_is_free_can_be_had_without_money() -> None:
    user, order = User("johndoe", Decimal(0)).buy((VACCINATION,), order_id="1", placed_at=NOW)
    assert (user.product_ids, order.total) == (("vaccination",), Decimal(0))


def test_an_order_beyond_all_money_is_beyond_the_balance_too() -> None:
    products = [Product(product_id, "Gold", MAX_MONEY) for product_id in ("a", "b")]
    with pytest.raises(InsufficientBalanceError) as refusal:
        User("johndoe", MAX_MONEY).buy(products, order_id="1", placed_at=NOW)
    assert refusal.value.total == 2 * MAX_MONEY


def test_what_was_bought_before_is_refused_by_name_even_if_it_could_not_be_paid_for() -> None:
    user = User("johndoe", Decimal(0), ("netflix", "spotify"))
    with pytest.raises(ProductsAlreadyPurchasedError) as refusal:
        user.buy((SPOTIFY, BIKE, NETFLIX), order_id="1", placed_at=NOW)
    assert refusal.value.product_ids == ("spotify", "netflix")


@pytest.mark.parametrize("products", [(), (NETFLIX, NETFLIX)])
def test_what_is_no_basket_makes_no_order(products: Sequence[Product]) -> None:
    with pytest.raises(InvalidValueError, match=r"^lines must be "):
        User("johndoe", Decimal(500)).buy(products, order_id="1", placed_at=NOW)


def _grant(amount: Decimal) -> Grant:
    return Grant("johndoe", "budget-2027", amount, SIGNED)


def _refused(error: GrantRefusedError) -> tuple[str, Decimal, Decimal]:
    return error.user_id, error.balance, error.amount


def test_a_grant_is_added_to_the_balance_and_a_correction_is_taken_from_it() -> None:
    user = User("johndoe", Decimal("424.01"), ("netflix",))
    with localcontext(Context(prec=3)):
        richer = user.receive(_grant(Decimal("1000.5")), Decimal(500))
        poorer = user.receive(_grant(Decimal("-424.01")), Decimal(500))
    assert richer == User("johndoe", Decimal("1424.51"), ("netflix",))
    assert poorer == User("johndoe", Decimal(0), ("netflix",))


def test_a_correction_of_more_than_the_balance_is_refused() -> None:
    with pytest.raises(GrantRefusedError) as refusal:
        User("johndoe", Decimal("424.01")).receive(_grant(Decimal("-424.02")), Decimal(500))
    assert _refused(refusal.value) == ("johndoe", Decimal("424.01"), Decimal("-424.02"))


def test_all_grants_together_can_be_no_more_than_money_whatever_was_spent() -> None:
    user, granted = User("johndoe", Decimal(0)), Decimal(500)
    most = MAX_MONEY - granted
    assert user.receive(_grant(most), granted).balance == most
    with pytest.raises(GrantRefusedError) as refusal:
        user.receive(_grant(Decimal("0.01")), MAX_MONEY)
    assert _refused(refusal.value) == ("johndoe", Decimal(0), Decimal("0.01"))


def test_cancelling_an_order_undoes_it() -> None:
    before = User("johndoe", Decimal(200), ("vaccination",))
    buyer, order = before.buy((SPOTIFY, NETFLIX), order_id="7", placed_at=NOW)
    with localcontext(Context(prec=3)):
        after, cancelled = buyer.cancel(order, SIGNED)
    assert after == before
    assert cancelled == Order("7", "johndoe", order.lines, NOW, SIGNED)
    assert (order.cancelled, cancelled.total) == (None, Decimal("121.98"))


def test_what_was_cancelled_can_be_bought_again_and_stands_last_then() -> None:
    user, first = User("johndoe", Decimal(500)).buy((NETFLIX, VACCINATION), order_id="1", placed_at=NOW)
    user, _ = user.buy((SPOTIFY,), order_id="2", placed_at=NOW)
    user, _ = user.cancel(first, SIGNED)
    assert user == User("johndoe", Decimal("454.01"), ("spotify",))
    user, _ = user.buy((NETFLIX,), order_id="3", placed_at=NOW)
    assert user == User("johndoe", Decimal("378.02"), ("spotify", "netflix"))


@pytest.mark.parametrize(
    "order",
    [
        Order("1", "janedoe", (LINE,), NOW),
        Order("1", "johndoe", (LINE,), NOW, SIGNED),
        Order("1", "johndoe", (LINE, OrderLine("bike", "Bike", Decimal(500))), NOW),
    ],
    ids=["another user's", "cancelled", "not owned"],
)
def test_only_an_order_of_their_own_that_is_not_cancelled_can_be_cancelled(order: Order) -> None:
    rule = r"^order must be an order of 'johndoe' that is not cancelled, not "
    with pytest.raises(InvalidValueError, match=rule) as refusal:
        User("johndoe", Decimal(0), ("netflix",)).cancel(order, SIGNED)
    assert refusal.value.value == order


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
    user = User("johndoe", from_cents(opening_cents))
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


@given(stories, st.randoms())
def test_cancelling_all_orders_in_any_sequence_leaves_the_user_as_at_first(
    story: Story, random: Random
) -> None:
    prices, opening_cents, orders = story
    on_offer = {product_id: _product(product_id, price) for product_id, price in prices.items()}
    user = first = User("johndoe", from_cents(opening_cents))
    placed: list[Order] = []
    for items in orders:
        with suppress(OrderRefusedError):
            user, order = user.buy(basket(items, on_offer), order_id=str(len(placed) + 1), placed_at=NOW)
            placed.append(order)
    random.shuffle(placed)
    for order in placed:
        user, _ = user.cancel(order, SIGNED)
    assert user == first


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
        Order("1", "johndoe", [OrderLine("a", "A", Decimal(1))], moment)


@pytest.mark.parametrize("product_ids", ["abc", ["a", "a"], [1], None])
def test_what_a_user_owns_is_a_sequence_of_distinct_ids(product_ids: Any) -> None:
    with pytest.raises(InvalidValueError, match="product_ids"):
        User("johndoe", Decimal(1), product_ids)


def test_a_user_receives_no_grant_of_another_user() -> None:
    grant = Grant("al", "bonus", Decimal(5), SIGNED)

    with pytest.raises(InvalidValueError, match="grant must be a grant to 'jo'"):
        User("jo", Decimal(500)).receive(grant, Decimal(500))
