"""What is particular to the memory store: all of a change becomes visible at one moment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from types import FrameType
from typing import Any

from benefits_core import EraseUser, GetUser, MemoryStore, Product, UnitOfWork, User, memory
from contract.builders import NETFLIX, buy, stocked, with_two_orders

CHEAP = Product("cheap", "Cheap", Decimal(1))


def after_each_line(function: Callable[[], object], look: Callable[[], object]) -> None:
    """Call a function, and look at something before each line of the memory store that it runs."""

    def trace(frame: FrameType, *_: object) -> Any:
        if frame.f_code.co_filename != memory.__file__:
            return None
        look()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)


def test_readers_see_all_of_a_change_or_nothing_at_every_line() -> None:
    store = MemoryStore()
    stocked(store)
    seen = []

    def look() -> None:
        user, by_user, by_id = store.users.get("jo"), store.orders.of_user("jo"), store.orders.get("1")
        state = (user is not None, len(by_user), by_id is not None, len(store.products.list_all()))
        if state not in seen:
            seen.append(state)

    def change() -> None:
        def do(work: UnitOfWork) -> None:
            buy(work, "jo", NETFLIX)
            work.products.put([Product("new", "New", Decimal(1))])

        store.change(do)

    after_each_line(change, look)

    assert seen == [(False, 0, False, 4), (True, 1, True, 5)]


def test_readers_see_a_user_by_the_one_id_or_by_the_other_at_every_line() -> None:
    store = MemoryStore()
    with_two_orders(store)
    seen = []

    def look() -> None:
        state = [user.user_id for user in store.users.page(9)], [one.user_id for one in store.orders.page(9)]
        for user_id in ("jo", "mo"):
            known = state[0] == [user_id]
            assert (store.users.get(user_id) is not None) == known
            assert len(store.grants.of_user(user_id)) == known
            assert len(store.orders.of_user(user_id)) == 2 * known
        if state not in seen:
            seen.append(state)

    def change() -> None:
        def do(work: UnitOfWork) -> None:
            work.users.lock(["jo"])
            work.users.rename("jo", "mo")

        store.change(do)

    after_each_line(change, look)

    assert seen == [(["jo"], ["jo", "jo"]), (["mo"], ["mo", "mo"])]


def test_a_user_can_be_renamed_to_and_fro() -> None:
    store = MemoryStore()
    with_two_orders(store)
    before = store.users.page(9), store.grants.of_user("jo"), store.orders.page(9)

    def rename(old: str, new: str) -> None:
        def do(work: UnitOfWork) -> None:
            work.users.lock([old])
            work.users.rename(old, new)

        store.change(do)

    def rename_twice(work: UnitOfWork) -> None:
        work.users.lock(["jo"])
        work.users.rename("jo", "mo")
        work.users.rename("mo", "jo")

    rename("jo", "mo")
    rename("mo", "jo")
    store.change(rename_twice)

    assert (store.users.page(9), store.grants.of_user("jo"), store.orders.page(9)) == before


def test_a_change_sees_the_user_that_it_has_renamed_and_can_add_one_of_the_old_id() -> None:
    store = MemoryStore()
    with_two_orders(store)

    def do(work: UnitOfWork) -> None:
        work.users.lock(["jo"])
        work.users.rename("jo", "mo")
        assert work.users.get("jo") is None
        assert [user.user_id for user in work.users.page(9)] == ["mo"]
        assert [grant.user_id for grant in work.grants.of_user("mo")] == ["mo"]
        assert work.grants.sums(["jo", "mo"]) == {"mo": 500}
        work.products.put([CHEAP])
        buy(work, "mo", CHEAP)
        buy(work, "jo", NETFLIX)

    store.change(do)

    assert [one.user_id for one in store.orders.page(9)] == ["mo", "mo", "mo", "jo"]
    assert store.users.get("mo") == User("mo", Decimal("377.02"), ("netflix", "spotify", "flu-shot", "cheap"))
    assert store.users.get("jo") == User("jo", Decimal("424.01"), ("netflix",))


class ErasingId(str):  # noqa: SLOT000 - it counts
    """A user id whose user is erased just before a table looks it up for the second time."""

    store: MemoryStore
    look_ups = 0

    def __hash__(self) -> int:
        self.look_ups += 1
        if self.look_ups == 2:
            EraseUser(self.store)("jo")
        return super().__hash__()


def test_a_reader_finds_a_user_or_nothing_while_the_user_is_erased() -> None:
    store = MemoryStore()
    with_two_orders(store)
    reads: list[Callable[[str], object]] = [store.users.get, store.grants.of_user, store.orders.of_user]
    for read in reads:
        GetUser(store)("jo")
        user_id = ErasingId("jo")
        user_id.store = store
        read(user_id)
