"""Connections that may write: their settings, and that the write-ahead log gets short again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from benefits_core import OfferProducts, Product
from benefits_sqlite import SqliteStore
from benefits_sqlite.connection import LOG_SIZE_LIMIT, connect
from contract.builders import order, stocked

MANY = 4000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database of a test lies."""
    return tmp_path / "benefits.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """Return a store with a catalogue."""
    with SqliteStore(path) as store:
        stocked(store)
        yield store


def write_much(store: SqliteStore, times: int) -> None:
    """Write about a megabyte, several times."""
    for number in range(times):
        OfferProducts(store)([Product(f"p{n}", f"{number:0200}", Decimal(1)) for n in range(MANY)])


def log_size(path: Path) -> int:
    """Return the size of the write-ahead log in bytes."""
    return path.with_name(f"{path.name}-wal").stat().st_size


def test_the_log_is_short_again_two_orders_after_a_long_reader_has_gone(
    path: Path, store: SqliteStore
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM users").fetchall()
        write_much(store, 20)
        assert log_size(path) > 4 * LOG_SIZE_LIMIT
    order(store, "jo", "netflix")
    order(store, "al", "netflix")

    assert log_size(path) <= LOG_SIZE_LIMIT


def test_the_log_is_short_again_whichever_store_writes_next(path: Path, store: SqliteStore) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as reader, SqliteStore(path) as other:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM users").fetchall()
        write_much(store, 10)
        reader.close()
        order(other, "jo", "netflix")
        order(other, "al", "netflix")

        assert log_size(path) <= LOG_SIZE_LIMIT


def test_what_is_not_a_database_is_not_left_open(path: Path) -> None:
    path.write_text("Not a database, whatever its size. " * 100)

    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        connect(str(path), timeout=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("foreign_keys", 1),
        ("synchronous", 2),
        ("fullfsync", 1),
        ("checkpoint_fullfsync", 1),
        ("journal_size_limit", LOG_SIZE_LIMIT),
    ],
)
def test_every_connection_has_the_settings(tmp_path: Path, setting: str, value: object) -> None:
    """What the two of ``fullfsync`` do is not tested: only macOS has them."""
    with closing(connect(str(tmp_path / "new.db"), timeout=0, create=True)) as db:
        assert db.execute(f"PRAGMA {setting}").fetchone() == (value,)
