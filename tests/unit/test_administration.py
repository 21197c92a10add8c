"""The use cases of operators: listing users and orders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from benefits_core import (
    InvalidUserIdError,
    InvalidValueError,
    ListOrders,
    ListUsers,
    MemoryStore,
    PlaceOrder,
)
from contract.builders import NETFLIX, SPOTIFY, add_user, stocked

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
