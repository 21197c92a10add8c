"""Reading: the queries, and how rows become values. It knows no connections and no transactions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol

import attrs

from benefits_core.model import Grant, Order, OrderLine, Signature, User
from benefits_core.values import from_cents
from benefits_postgres.connection import Rows, is_storable

OWNED: Final = """
    array(SELECT product_id FROM order_lines WHERE user_number = users.user_number ORDER BY order_number, position)
    """
SELECT_USERS: Final = f"SELECT user_id, user_number, balance, {OWNED} FROM users"
# Times come without a timezone, so that no setting of the connection matters.
_GRANTS: Final = """
    SELECT user_id, reference, amount, given_by, given_at AT TIME ZONE 'UTC', note
    FROM users JOIN grants USING (user_number)
    """
_LINES: Final = """
    SELECT found.order_number, user_id, placed_at AT TIME ZONE 'UTC', cancelled_by, cancelled_at AT TIME ZONE 'UTC',
           cancelled_note, product_id, name, price, position
    FROM found JOIN users USING (user_number) JOIN {} AS lines
    ON lines.user_number = found.user_number AND lines.order_number = found.order_number
    """
_ORDERS: Final = f"""
    WITH found AS MATERIALIZED (SELECT * FROM orders WHERE {{}})
    {_LINES.format("order_lines")}
    UNION ALL
    {_LINES.format("cancelled_lines")} WHERE cancelled_at IS NOT NULL
    ORDER BY 1 {{}}, position
    """
# A user's orders are found by their lines, for there is no index of orders by user.
_OF_USER: Final = """
    order_number < %s AND order_number IN (
        SELECT order_number FROM users JOIN order_lines USING (user_number) WHERE user_id = %s
        UNION
        SELECT order_number FROM users JOIN cancelled_lines USING (user_number) WHERE user_id = %s
    ) ORDER BY order_number DESC LIMIT %s
    """
_SELECT_ORDER: Final = _ORDERS.format("order_number = %s", "")
_SELECT_LATEST: Final = _ORDERS.format(_OF_USER, "DESC")
_SELECT_PAGE_OF_ORDERS: Final = _ORDERS.format("order_number > %s ORDER BY order_number LIMIT %s", "")
_ALL: Final = 2**63 - 1


class Query(Protocol):
    """Runs a statement."""

    def __call__(self, sql: str, parameters: Sequence[object] = (), /) -> Rows:
        """Return the rows; raise the core's errors, not psycopg's."""
        ...


def user_from(row: tuple[Any, ...]) -> User:
    """Return the user whom a row of ``SELECT_USERS`` describes."""
    user_id, _, balance, product_ids = row
    return User(user_id, from_cents(balance), tuple(product_ids))


def storable(texts: Iterable[str]) -> list[str]:
    """Return those of these texts that PostgreSQL can have."""
    return [text for text in texts if is_storable(text)]


def signature_from(by: str, at: datetime, note: str) -> Signature:
    """Return the signature that its columns describe."""
    return Signature(by, at.replace(tzinfo=UTC), note)


def _grant(row: tuple[Any, ...]) -> Grant:
    user_id, reference, amount, *signature = row
    return Grant(user_id, reference, from_cents(amount), signature_from(*signature))


def _orders(rows: Rows) -> tuple[Order, ...]:
    return tuple(
        Order(
            str(number),
            user_id,
            tuple([OrderLine(row[6], row[7], from_cents(row[8])) for row in lines]),
            placed_at.replace(tzinfo=UTC),
            None if by is None else signature_from(by, at, note),
        )
        for (number, user_id, placed_at, by, at, note), lines in groupby(rows, key=itemgetter(*range(6)))
    )


@attrs.frozen
class PostgresUserReader:
    """Users, read from their table."""

    _query: Query

    def get(self, user_id: str) -> User | None:
        """See :class:`~benefits_core.ports.UserReader`."""
        rows = self._query(f"{SELECT_USERS} WHERE user_id = %s", (user_id,))
        return user_from(rows[0]) if rows else None

    def page(self, limit: int, *, after: str | None = None) -> tuple[User, ...]:
        """See :class:`~benefits_core.ports.UserReader`."""
        rows = self._query(
            f"{SELECT_USERS} WHERE user_id > %s ORDER BY user_id LIMIT %s", (after or "", limit)
        )
        return tuple(map(user_from, rows))


@attrs.frozen
class PostgresGrantReader:
    """Grants, read from their table."""

    _query: Query

    def of_user(self, user_id: str) -> tuple[Grant, ...]:
        """See :class:`~benefits_core.ports.GrantReader`."""
        rows = self._query(f"{_GRANTS} WHERE user_id = ANY(%s) ORDER BY position", (storable([user_id]),))
        return tuple(map(_grant, rows))

    def find(self, reference: str, user_ids: Iterable[str]) -> Mapping[str, Grant]:
        """See :class:`~benefits_core.ports.GrantReader`."""
        rows = self._query(
            f"{_GRANTS} WHERE reference = ANY(%s) AND user_id = ANY(%s)",
            (storable([reference]), storable(user_ids)),
        )
        return {grant.user_id: grant for grant in map(_grant, rows)}

    def sums(self, user_ids: Iterable[str]) -> Mapping[str, Decimal]:
        """See :class:`~benefits_core.ports.GrantReader`."""
        rows = self._query(
            "SELECT user_id, granted FROM users WHERE user_id = ANY(%s)", (storable(user_ids),)
        )
        return {user_id: from_cents(granted) for user_id, granted in rows}


@attrs.frozen
class PostgresOrderReader:
    """The order book, read from its tables."""

    _query: Query

    def get(self, order_id: str) -> Order | None:
        """See :class:`~benefits_core.ports.OrderReader`."""
        number = int(order_id) if re.fullmatch("[1-9][0-9]{0,17}", order_id) else 0  # which no order has
        rows = self._query(_SELECT_ORDER, (number,))
        return _orders(rows)[0] if rows else None

    def of_user(self, user_id: str) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        return self.latest(user_id, _ALL)[::-1]

    def latest(self, user_id: str, limit: int, *, before: str | None = None) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        user = user_id if is_storable(user_id) else ""  # which no user has
        return _orders(self._query(_SELECT_LATEST, (int(before or _ALL), user, user, limit)))

    def page(self, limit: int, *, after: str | None = None) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        return _orders(self._query(_SELECT_PAGE_OF_ORDERS, (int(after or 0), limit)))
