"""Database files to measure on, filled in bulk by SQL: what the service itself would take minutes to write."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs

from benchmarks.servers import ROOT
from benefits_sqlite import SqliteStore

BUILD: Final = ROOT / "benchmarks" / "build"
"""Where files are made: on a disk, which folders for temporary files needn't be."""

# Everybody begins with 500.00 and has bought other products than their neighbours, one an order, in turn.
_STATEMENTS: Final = (
    """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :products)
    INSERT INTO products (product_id, name, price, position)
    SELECT 'product-' || n, 'Benefit number ' || n, 100 + n * 37 % 4900, n - 1 FROM numbers
    """,
    """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :users)
    INSERT INTO users (user_number, user_id, granted, balance)
    SELECT n, 'employee-' || n, 50000, 50000 FROM numbers
    """,
    """
    INSERT INTO grants (user_number, reference, position, amount, given_by, given_at, note)
    SELECT user_number, 'opening', 0, granted, 'benefits', '2026-01-01T00:00:00+00:00', '' FROM users ORDER BY 1
    """,
    """
    WITH RECURSIVE
        numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :orders),
        sales (n, buyer, bought) AS (
            SELECT n, (n - 1) % :users + 1, ((n - 1) % :users + (n - 1) / :users) % :products + 1 FROM numbers
        )
    INSERT INTO order_lines (order_number, user_number, product_id, position, name, price)
    SELECT n, buyer, 'product-' || bought, 0, 'Benefit number ' || bought, 100 + bought * 37 % 4900
    FROM sales ORDER BY 2, 3
    """,
    """
    INSERT INTO orders (order_number, user_number, total, placed_at)
    SELECT order_number, user_number, price,
           strftime('%Y-%m-%dT%H:%M:%S', 1767225600 + order_number, 'unixepoch') || '.126500+00:00'
    FROM order_lines ORDER BY order_number
    """,
    """
    UPDATE users SET balance = balance - (
        SELECT coalesce(sum(price), 0) FROM order_lines WHERE order_lines.user_number = users.user_number
    )
    """,
)


@attrs.frozen
class Size:
    """How much is in a file. Users are called ``employee-1`` and so on, products ``product-1``."""

    users: int
    orders: int
    products: int


SMALL: Final = Size(users=1_000, orders=3_000, products=15)
"""Nearly empty. Its users own as many products as those of the large file."""

LARGE: Final = Size(users=300_000, orders=1_000_000, products=2_000)


def make(file: Path, size: Size) -> Path:
    """Make a database file with so much in it, and return it."""
    SqliteStore(file).close()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _STATEMENTS:
            connection.execute(statement, attrs.asdict(size) if ":" in statement else {})
        connection.execute("COMMIT")
    _flush(file)
    return file


def copy_of_made(file: Path, size: Size) -> Path:
    """Make a database file as a copy of one that is kept for the next time, and return it."""
    kept = BUILD / f"{size.users}-users-{_fingerprint()}.db"
    if not kept.exists():
        with TemporaryDirectory(dir=BUILD) as folder:
            make(Path(folder, "benefits.db"), size).rename(kept)
    shutil.copyfile(kept, file)
    _flush(file)
    return file


def _fingerprint() -> str:
    """Tell files that are made by other statements, or have other tables, from those made now."""
    with TemporaryDirectory(dir=BUILD) as folder:
        file = Path(folder, "benefits.db")
        SqliteStore(file).close()
        with closing(sqlite3.connect(file)) as connection:
            tables = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    return sha256(repr((tables, _STATEMENTS)).encode()).hexdigest()[:12]


def _flush(file: Path) -> None:
    # Else the disk would still be busy with it while others are measured.
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
