"""The use cases of operators: listing users and orders, and retiring products."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from benefits_core import (
    InvalidUserIdError,
    InvalidValueError,
    ListOrders,
    ListUsers,
    MemoryStore,
    OfferProducts,
    PlaceOrder,
    Product,
    ProductsNotFoundError,
    RetireProducts,
    Signature,
)
from contract.builders import CATALOGUE, FREE, GYM, NETFLIX, SIGNED, SPOTIFY, add_user, stocked

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_all_users_are_listed_in_the_sequence_of_their_ids_however_many_there_are() -> None:
    store = MemoryStore()
    names = [f"user {number:04}" for number in range(1101)]
    for name in reversed(names):
        add_user(store, name)

    assert [user.user_id for user in ListUsers(store)()] == names
    assert list(ListUsers(MemoryStore())()) == []


def with_orders(*moments: datetime) -> MemoryStore:
    """Return a store with an order by a user of its own at each moment; the first user has ordered twice."""
    store = MemoryStore()
    stocked(store)
    for number, moment in enumerate(moments):
        PlaceOrder(store, now=lambda moment=moment: moment)(f"user {number}", ["netflix"])  # type: ignore[misc]
    PlaceOrder(store, now=lambda: moments[0])("user 0", ["spotify"])
    return store


def test_all_orders_are_listed_in_the_sequence_of_their_ids_however_many_there_are() -> None:
    store = with_orders(*[NOON] * 1101)

    assert [order.order_id for order in ListOrders(store)()] == [str(number) for number in range(1, 1103)]
    assert list(ListOrders(MemoryStore())()) == []


def test_the_orders_of_one_user_are_listed() -> None:
    store = with_orders(NOON, NOON)

    [first, second] = ListOrders(store)(user_id=" user 0 ")
    assert (first.items, second.items) == ((NETFLIX.product_id,), (SPOTIFY.product_id,))
    assert list(ListOrders(store)(user_id="unknown")) == []
    assert store.users.get("unknown") is None


def test_the_orders_of_a_time_are_listed_with_its_first_and_without_its_last_moment() -> None:
    moments = [NOON + timedelta(hours=hours) for hours in range(4)]
    listed = ListOrders(with_orders(*moments))

    def placed(**limits: datetime) -> list[int]:
        return [moments.index(order.placed_at) for order in listed(**limits)]  # type: ignore[arg-type]

    assert placed(since=moments[1], before=moments[3]) == [1, 2]
    assert placed(since=moments[1]) == [1, 2, 3]
    assert placed(before=moments[1]) == [0, 0]
    in_tokyo = moments[1].astimezone(timezone(timedelta(hours=9)))
    assert placed(since=in_tokyo, before=in_tokyo + timedelta(microseconds=1)) == [1]


@pytest.mark.parametrize("limit", ["since", "before"])
def test_a_moment_without_a_timezone_is_refused_at_once(limit: str) -> None:
    with pytest.raises(InvalidValueError, match=f"{limit} must be a timezone-aware datetime"):
        ListOrders(MemoryStore())(**{limit: datetime(2026, 1, 1)})  # type: ignore[arg-type] # noqa: DTZ001


def test_an_invalid_user_id_is_refused_at_once() -> None:
    with pytest.raises(InvalidUserIdError):
        ListOrders(MemoryStore())(user_id=" ")


def test_products_are_retired_once_and_all_or_none() -> None:
    store = stocked(MemoryStore())
    retire = RetireProducts(store)

    assert retire(["gym", "netflix", "gym"], SIGNED) == ("gym", "netflix")
    assert retire(["gym", "spotify"], SIGNED) == ("spotify",)
    with pytest.raises(ProductsNotFoundError) as refusal:
        retire(["nothing", "flu-shot", "gym", "none"], SIGNED)
    assert refusal.value.product_ids == ("nothing", "none")
    assert store.products.list_all() == (FREE,)


def test_a_trial_retires_nothing() -> None:
    store = stocked(MemoryStore())

    assert RetireProducts(store)(["gym"], SIGNED, dry_run=True) == ("gym",)
    with pytest.raises(ProductsNotFoundError):
        RetireProducts(store)(["nothing"], SIGNED, dry_run=True)
    assert OfferProducts(store)([GYM], retire_others=SIGNED, dry_run=True) == (
        "netflix",
        "spotify",
        "flu-shot",
    )
    assert OfferProducts(store)([Product("new", "New", Decimal(1))], dry_run=True) == ()
    assert store.products.list_all() == CATALOGUE


def test_the_products_that_are_not_offered_again_can_be_retired() -> None:
    store = stocked(MemoryStore())

    assert OfferProducts(store)([GYM], retire_others=SIGNED) == ("netflix", "spotify", "flu-shot")
    assert store.products.list_all() == (GYM,)
    assert set(store.products.retired()) == {"netflix", "spotify", "flu-shot"}
    assert OfferProducts(store)([GYM, FREE], retire_others=SIGNED) == ()
    assert store.products.list_all() == (GYM, FREE)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (("", NOON, ""), "by"),
        (("a\nb", NOON, ""), "by"),
        (("x" * 201, NOON, ""), "by"),
        (("Al", datetime(2026, 1, 1), ""), "at"),  # noqa: DTZ001
        (("Al", NOON, "x" * 201), "note"),
        (("Al", NOON, "\x00"), "note"),
        (("Al", NOON, None), "note"),
    ],
)
def test_a_signature_is_valid(values: tuple[Any, Any, Any], field: str) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        Signature(*values)
