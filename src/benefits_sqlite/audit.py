"""The audit of a database file: whether SQLite finds it sound, and whether its books balance. It only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from typing import Final

import attrs
from sqlite_utils import Database

from benefits_core.errors import InvalidUserIdError, InvalidValueError, StorageUnavailableError
from benefits_core.model import Product
from benefits_core.values import normal_user_id
from benefits_sqlite.inspection import inspect, open_for_reading
from benefits_sqlite.schema import migrations

# What is wrong, by a query that finds it and a sentence about each row that it returns. Lines are grouped before they are
# joined: they lie with those of their user, and to look for those of each order would be to look through all, each time.
_QUESTIONS: Final = (
    (
        """
        SELECT user_id, opening_balance, balance, coalesce(spent, 0)
        FROM users LEFT JOIN (SELECT user_number, sum(total) AS spent FROM orders GROUP BY user_number)
        USING (user_number)
        WHERE opening_balance <> balance + coalesce(spent, 0)
        """,
        "user {!r}: the opening balance of {} cents is not the balance of {} and the {} of all orders",
    ),
    (
        """
        SELECT order_number, total, coalesce(paid, 0)
        FROM orders LEFT JOIN (SELECT order_number, sum(price) AS paid FROM order_lines GROUP BY order_number)
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
            FROM order_lines GROUP BY order_number
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
        """
        SELECT order_number, product_id
        FROM order_lines JOIN orders USING (order_number)
        WHERE order_lines.user_number <> orders.user_number
        """,
        "order {}: the line of {!r} is another user's",
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
        "SELECT count(*) FROM catalogue HAVING count(*) <> 1",
        "table catalogue: it has {} rows, and not one",
    ),
)


@attrs.frozen
class Audit:
    """What an audit has found.

    :param findings: what is wrong, a sentence each; none if all is well.
    :param users: how many users there are, and likewise orders and products.
    """

    findings: tuple[str, ...]
    users: int = 0
    orders: int = 0
    products: int = 0


def audit_database(path: str) -> Audit:
    """Look through a database as it stands at one moment; a service may be using it."""
    try:
        inspect(path, to_write=False)
        with closing(open_for_reading(path)) as connection:
            connection.execute("BEGIN")  # one moment for all questions
            return _audit(Database(connection, execute_plugins=False))
    except (StorageUnavailableError, sqlite3.DatabaseError) as error:
        return Audit((str(error),))


def _audit(db: Database) -> Audit:
    for rule in (is_moment, is_user_id, is_product):
        db.register_function(rule, deterministic=True)
    structure = tuple(_structure_findings(db))
    books: list[str] = []
    for question, sentence in _QUESTIONS:
        try:
            books += [sentence.format(*row) for row in db.execute(question)]
        except sqlite3.DatabaseError as error:
            if not structure:  # else that says why some questions have no answer
                books.append(f"SQLite: {error}")
    counts = [_count(db, table) for table in ("users", "orders", "products")]
    return Audit((*structure, *books), *counts)


def _count(db: Database, table: str) -> int:
    try:
        [[count]] = db.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
    except sqlite3.DatabaseError:
        return 0
    return int(count)


def is_moment(text: str) -> bool:
    """Tell whether a text is a moment as orders have it, with its timezone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def is_user_id(text: str) -> bool:
    """Tell whether a text is a user id in its one spelling."""
    try:
        return normal_user_id(text) == text
    except InvalidUserIdError:
        return False


def is_product(product_id: str, name: str) -> bool:
    """Tell whether a product can have this id and this name."""
    try:
        Product(product_id, name, Decimal(0))
    except InvalidValueError:
        return False
    return True


def _structure_findings(db: Database) -> Iterator[str]:
    for (message,) in db.execute("PRAGMA integrity_check"):
        if message != "ok":
            yield f"SQLite: {message}"
    for table, row, other, _ in db.execute("PRAGMA foreign_key_check"):
        which = "a row" if row is None else f"row {row}"
        yield f"table {table}: {which} refers to a row of {other} that is not there"
    with closing(Database(memory=True)) as model:
        migrations.apply(model)
        ours, theirs = _definitions(model), _definitions(db)
        for kind, name in sorted(ours.keys() | theirs.keys()):
            if ours.get((kind, name)) != theirs.get((kind, name)):
                yield f"{kind} {name}: it is not as this version defines it"


def _definitions(db: Database) -> dict[tuple[str, str], str]:
    rows = db.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite|_%' ESCAPE '|'")
    return {(kind, name): sql for kind, name, sql in rows}
