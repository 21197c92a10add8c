"""The books of a database: whether orders, balances and the catalogue agree. It only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from sqlite_utils import Database

from benefits_core.errors import InvalidUserIdError, InvalidValueError
from benefits_core.model import Grant, Product, Signature
from benefits_core.values import normal_user_id
from benefits_sqlite.inspection import finding

# What every rule may use: the lines of all orders, each with the table that it is in.
_WITH_LINES: Final = """
    WITH all_lines AS (
        SELECT order_number, user_number, position, product_id, name, price, FALSE AS is_cancelled FROM order_lines
        UNION ALL
        SELECT order_number, user_number, position, product_id, name, price, TRUE FROM cancelled_lines
    )
    """

# Each rule is a query for the rows that break it, and a sentence about each of them. The lines are grouped before they are
# joined: they are stored by user, so to find the lines of one order alone would take a scan of the whole table.
_RULES: Final = (
    (
        """
        SELECT user_id, granted, balance, coalesce(spent, 0)
        FROM users LEFT JOIN (
            SELECT user_number, sum(total) AS spent FROM orders WHERE cancelled_at IS NULL GROUP BY user_number
        )
        USING (user_number)
        WHERE granted <> balance + coalesce(spent, 0)
        """,
        "user {!r}: the {} cents granted are not the balance of {} and the {} of all orders",
    ),
    (
        """
        SELECT user_id, granted, coalesce(amount, 0)
        FROM users LEFT JOIN (SELECT user_number, sum(amount) AS amount FROM grants GROUP BY user_number)
        USING (user_number)
        WHERE granted <> coalesce(amount, 0)
        """,
        "user {!r}: the {} cents granted are not the {} of all grants",
    ),
    (
        """
        SELECT user_id FROM users LEFT JOIN grants
        ON grants.user_number = users.user_number AND reference = 'opening'
        WHERE reference IS NULL OR amount < 0 OR position <> 0 OR EXISTS (
            SELECT * FROM grants AS others
            WHERE others.user_number = users.user_number AND others.reference <> 'opening'
            AND others.position <= 0
        )
        """,
        "user {!r}: there is no opening grant before all others",
    ),
    (
        """
        SELECT order_number, total, coalesce(paid, 0)
        FROM orders LEFT JOIN (SELECT order_number, sum(price) AS paid FROM all_lines GROUP BY order_number)
        USING (order_number)
        WHERE total <> coalesce(paid, 0)
        """,
        "order {}: the total of {} cents is not the {} of its lines",
    ),
    (
        """
        SELECT order_number
        FROM orders LEFT JOIN (
            SELECT order_number, count(DISTINCT position) AS places, max(position) + 1 AS needed
            FROM all_lines GROUP BY order_number
        )
        USING (order_number)
        WHERE places IS NOT needed OR places IS NULL
        """,
        "order {}: lines of it are missing",
    ),
    (
        """
        SELECT user_id, product_id, count(*)
        FROM users JOIN order_lines USING (user_number)
        GROUP BY user_number, product_id HAVING count(*) > 1
        """,
        "user {!r}: owns {!r} {} times",
    ),
    (
        "SELECT order_number, product_id, count(*) FROM cancelled_lines GROUP BY 1, 2 HAVING count(*) > 1",
        "order {}: {!r} is in {} of its lines",
    ),
    (
        """
        SELECT order_number, product_id
        FROM all_lines JOIN orders USING (order_number)
        WHERE all_lines.user_number <> orders.user_number
        """,
        "order {}: the line of {!r} is another user's",
    ),
    (
        """
        SELECT order_number, product_id, iif(is_cancelled, 'is', 'is not')
        FROM all_lines JOIN orders USING (order_number)
        WHERE is_cancelled <> (cancelled_at IS NOT NULL)
        """,
        "order {}: the line of {!r} {} among those of cancelled orders",
    ),
    (
        # Of an aggregate, or SQLite would ask for every line before it groups them.
        "SELECT product_id, name FROM all_lines GROUP BY 1, 2 HAVING NOT is_product(product_id, max(name))",
        "product {!r}: a line has its name {!r}, which is none",
    ),
    (
        "SELECT order_number, placed_at FROM orders WHERE NOT is_moment(placed_at)",
        "order {}: {!r} is no moment",
    ),
    (
        "SELECT user_number, user_id FROM users WHERE NOT is_user_id(user_id)",
        "user number {}: {!r} is no user id",
    ),
    (
        "SELECT product_id, name FROM products WHERE NOT is_product(product_id, name)",
        "product {!r}: its id or its name {!r} is none",
    ),
    (
        """
        SELECT product_id, retired_by, retired_at FROM products
        WHERE coalesce(retired_by, retired_at) IS NOT NULL
        AND NOT is_signature(retired_by, retired_at, retired_note)
        """,
        "product {!r}: the signature of its retirement is invalid: {!r}, {!r}",
    ),
    (
        """
        SELECT order_number, cancelled_by, cancelled_at FROM orders
        WHERE coalesce(cancelled_by, cancelled_at) IS NOT NULL
        AND NOT is_signature(cancelled_by, cancelled_at, cancelled_note)
        """,
        "order {}: the signature of its cancellation is invalid: {!r}, {!r}",
    ),
    (
        """
        SELECT user_id, reference, given_by, given_at FROM grants JOIN users USING (user_number)
        WHERE NOT is_signature(given_by, given_at, note)
        OR reference IN (SELECT DISTINCT reference FROM grants WHERE NOT is_reference(reference))
        """,
        "user {!r}: the grant {!r} has an invalid reference or signature: {!r}, {!r}",
    ),
    (
        "SELECT count(*) FROM catalogue HAVING count(*) <> 1",
        "table catalogue: it has {} rows, and not one",
    ),
)


def audit_books(db: Database, *, report_failures: bool) -> Iterator[str]:
    """Return what is wrong in the books of a database of this version, a sentence each.

    :param report_failures: whether a query that fails is reported too; False if it is known why.
    :raises sqlite3.DatabaseError: the file can't be read.
    """
    for function in (is_moment, is_user_id, is_product, is_reference, is_signature):
        db.register_function(function, deterministic=True)
    for query, sentence in _RULES:
        try:
            yield from [sentence.format(*row) for row in db.execute(_WITH_LINES + query)]
        except sqlite3.DatabaseError as error:
            reason = finding(error)
            if report_failures:
                yield reason


def is_moment(text: str) -> bool:
    """Return whether a text is a moment with a timezone, as orders have it."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def is_user_id(text: str) -> bool:
    """Return whether a text is a normalised user id."""
    try:
        return normal_user_id(text) == text
    except InvalidUserIdError:
        return False


def is_product(product_id: str, name: str) -> bool:
    """Return whether a product can have this id and this name."""
    try:
        Product(product_id, name, Decimal(0))
    except InvalidValueError:
        return False
    return True


def is_reference(reference: str) -> bool:
    """Return whether a grant can have this reference."""
    try:
        Grant("user", reference, Decimal(0), Signature("operator", datetime.now(UTC)))
    except InvalidValueError:
        return False
    return True


def is_signature(by: str | None, at: str | None, note: str) -> bool:
    """Return whether an operator can have signed like this."""
    try:
        Signature(by or "", datetime.fromisoformat(at or ""), note)
    except ValueError:  # which InvalidValueError is too
        return False
    return True
