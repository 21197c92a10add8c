"""What a change, or a batch of changes, writes: kept back, and then written table by table, however many rows there are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import attrs

from benefits_core.model import OPENING, Grant, Order, Product, Signature, User
from benefits_core.values import sum_of, to_cents

# The rows are one JSON parameter: it is written and read by C, whatever they hold.
_ROWS: Final = "json_populate_recordset(NULL::{}, %s)"
_INSERT: Final = f"INSERT INTO {{0}} SELECT * FROM {_ROWS.format('{0}')};"
_INSERT_GRANTS: Final = f"""
    INSERT INTO grants
    SELECT user_number, reference, coalesce(position, nextval('grant_positions')), amount, given_by, given_at, note
    FROM {_ROWS.format("grants")};
    """
_UPDATE_USERS: Final = f"""
    UPDATE users SET balance = after.balance, granted = users.granted + after.granted
    FROM {_ROWS.format("users")} AS after WHERE users.user_number = after.user_number;
    """
PUT_PRODUCTS: Final = f"""
    INSERT INTO products SELECT * FROM {_ROWS.format("products")}
    ON CONFLICT (product_id) DO UPDATE SET name = excluded.name, price = excluded.price,
    position = excluded.position, retired_by = NULL, retired_at = NULL, retired_note = ''
    """

_Row = dict[str, Any]


@attrs.define
class Writes:
    """What is to be written.

    :ivar numbers: the primary keys of users, by user id.
    :ivar users: the users whose rows change, as they are to be, by user id.
    :ivar openings: the opening grants of those of them who are new, by user id.
    """

    numbers: dict[str, int] = attrs.field(factory=dict)
    users: dict[str, User] = attrs.field(factory=dict)
    openings: dict[str, Grant] = attrs.field(factory=dict)
    grants: list[Grant] = attrs.field(factory=list)
    orders: list[Order] = attrs.field(factory=list)

    def add(self, later: Writes) -> None:
        """Add what a change has written after these."""
        self.users.update(later.users)
        self.openings.update(later.openings)
        self.grants += later.grants
        self.orders += later.orders

    def take(self) -> tuple[str, list[str]]:
        """Return the statements that write all of it, and their parameters. Afterwards nothing is to be written."""
        given = [*self.openings.values(), *self.grants]
        amounts: dict[str, list[Decimal]] = defaultdict(list)
        for grant in given:
            amounts[grant.user_id].append(grant.amount)
        rows = {user_id: self._user_row(user, amounts[user_id]) for user_id, user in self.users.items()}
        lines = [row for order in self.orders for row in self._line_rows(order)]
        tables = {
            _INSERT.format("users"): [row for user_id, row in rows.items() if user_id in self.openings],
            _UPDATE_USERS: [row for user_id, row in rows.items() if user_id not in self.openings],
            _INSERT_GRANTS: list(map(self._grant_row, given)),
            _INSERT.format("orders"): [self._order_row(order) for order in self.orders],
            _INSERT.format("order_lines"): lines,
        }
        self.users, self.openings, self.grants, self.orders = {}, {}, [], []
        needed = {sql: written for sql, written in tables.items() if written}
        return "".join(needed), [json.dumps(written) for written in needed.values()]

    def _user_row(self, user: User, amounts: Iterable[Decimal]) -> _Row:
        return {
            "user_number": self.numbers[user.user_id],
            "user_id": user.user_id,
            "granted": to_cents(sum_of(amounts)),
            "balance": to_cents(user.balance),
        }

    def _grant_row(self, grant: Grant) -> _Row:
        return {
            "user_number": self.numbers[grant.user_id],
            "reference": grant.reference,
            "position": 0 if grant.reference == OPENING else None,
            "amount": to_cents(grant.amount),
            "given_by": grant.signature.by,
            "given_at": grant.signature.at.isoformat(),
            "note": grant.signature.note,
        }

    def _order_row(self, order: Order) -> _Row:
        return {
            "order_number": int(order.order_id),
            "user_number": self.numbers[order.user_id],
            "total": to_cents(order.total),
            "placed_at": order.placed_at.isoformat(),
            "cancelled_note": "",
        }

    def _line_rows(self, order: Order) -> Iterable[_Row]:
        for position, line in enumerate(order.lines):
            yield {
                "user_number": self.numbers[order.user_id],
                "product_id": line.product_id,
                "order_number": int(order.order_id),
                "position": position,
                "name": line.name,
                "price": to_cents(line.price),
            }


def product_rows(places: Iterable[tuple[int, Product]]) -> str:
    """Return the parameter of ``PUT_PRODUCTS``."""
    return json.dumps(
        [
            {
                "product_id": product.product_id,
                "name": product.name,
                "price": to_cents(product.price),
                "position": place,
                "retired_note": "",
            }
            for place, product in places
        ]
    )


def signature_values(signature: Signature) -> tuple[str, str, str]:
    """Return a signature as parameters: the name, the time, the note."""
    return signature.by, signature.at.isoformat(), signature.note
