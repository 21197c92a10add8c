"""What is particular to the memory store: all of a change becomes visible at one moment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from types import FrameType
from typing import Any

from benefits_core import MemoryStore, Product, UnitOfWork, memory
from contract.builders import NETFLIX, buy, stocked


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
