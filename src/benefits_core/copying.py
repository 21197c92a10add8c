"""For authors of stores: all that a store keeps, as rows that go to another store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "products": ("product_id", "name", "price", "position", "retired_by", "retired_at", "retired_note"),
    "users": ("user_number", "user_id", "granted", "balance"),
    "grants": ("user_number", "reference", "position", "amount", "given_by", "given_at", "note"),
    "orders": (
        "order_number",
        "user_number",
        "total",
        "placed_at",
        "cancelled_by",
        "cancelled_at",
        "cancelled_note",
    ),
    "order_lines": ("user_number", "product_id", "order_number", "position", "name", "price"),
    "cancelled_lines": ("user_number", "order_number", "position", "product_id", "name", "price"),
}
"""The columns of each table, in a sequence of the tables in which no row refers to a later one.

Amounts are whole cents. The columns ``..._at`` contain text in ISO 8601, in UTC. The grants of a user have the positions 0, 1, 2
and so on.
"""

Row = tuple[str | int | None, ...]


@attrs.frozen
class Company:
    """All that a store kept at one moment.

    :param rows: returns the rows of a table of ``COLUMNS``, as they are read. Tables are read one after another.
    :param row_count: how many rows all tables have together.
    :param last_order_number: the last number that an order was given. A later order must have a larger one.
    """

    rows: Callable[[str], Iterator[Row]]
    row_count: int
    last_order_number: int
