"""The migrations: a database at any earlier schema, with data in it, opens and has everything; a failure leaves it as it was."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing.synchronize import Barrier as ProcessBarrier
from pathlib import Path
from threading import Barrier

import pytest
from sqlite_utils import Database

from benefits_core import Order, OrderLine, Product, StorageUnavailableError, User
from benefits_sqlite import SqliteStore, audit_database
from benefits_sqlite.schema import migrations
from contract.builders import order
from waiting import A_LONG_TIME

PROCESSES = 4

spawn = multiprocessing.get_context("spawn")

# What a user of that version may have left in what each migration has made. A new migration adds an entry.
DATA = {
    "create_tables": """
        INSERT INTO products (product_id, name, price, position)
            VALUES ('gym', 'Gym', 40000, 0), ('flu-shot', 'Flu vaccination', 0, 1);
        INSERT INTO users (user_number, user_id, opening_balance, balance)
            VALUES (1, 'jo', 50000, 10000), (2, 'al', 100, 100);
        INSERT INTO orders (order_number, user_number, total, placed_at)
            VALUES (1, 1, 40000, '2026-07-01T12:00:00+00:00');
        INSERT INTO order_lines (user_number, product_id, order_number, position, price)
            VALUES (1, 'gym', 1, 0, 40000);
        """,
    "number_the_catalogue": "UPDATE catalogue SET version = 7;",
    "count_every_change_of_the_catalogue": "UPDATE products SET name = 'Gym' WHERE product_id = 'gym';",
    "retire_products": "",
}
NAMES = list(DATA)


def database_at(path: Path, name: str) -> Path:
    """Make a database as it was when a migration was the last one, with data in it."""
    later = NAMES[NAMES.index(name) + 1 :]
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before=later)
        for earlier in NAMES[: len(NAMES) - len(later)]:
            db.executescript(DATA[earlier])
        assert [migration.name for migration in migrations.pending(db)] == later
    return path


def content(path: Path) -> list[str]:
    """Return all that is in a database."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def assert_it_has_everything(path: Path) -> None:
    """Open a database with the data above, and look at and use every part of it."""
    with SqliteStore(path) as store:
        assert store.users.get("jo") == User("jo", Decimal(500), Decimal(100), ("gym",))
        assert store.users.get("al") == User("al", Decimal(1), Decimal(1), ())
        assert store.products.list_all() == (
            Product("gym", "Gym", Decimal(400)),
            Product("flu-shot", "Flu vaccination", Decimal(0)),
        )
        noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
        assert store.orders.of_user("jo") == (Order("1", "jo", [OrderLine("gym", Decimal(400))], noon),)
        assert order(store, "jo", "flu-shot").order_id == "2"
    assert audit_database(str(path)).findings == ()


def applied(path: Path) -> list[str]:
    """Return the names of the migrations that have been applied to a database, each time that they were."""
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]


@contextmanager
def further(*steps: Callable[[Database], None]) -> Iterator[None]:
    """Have further migrations for the length of a block."""
    known = migrations._migrations  # noqa: SLF001 - what is registered can't be taken back otherwise
    before = known[:]
    try:
        for step in steps:
            migrations()(step)
        yield
    finally:
        known[:] = before


def rewrite_everything(db: Database) -> None:
    """Do what a migration may do, successfully."""
    db.execute("UPDATE users SET balance = 0")
    db.execute("CREATE TABLE half (done INTEGER) STRICT")
    db.execute("DROP TABLE catalogue")


def fail(_: Database) -> None:
    """Fail for a reason of its own."""
    raise ZeroDivisionError("half-way")


def fail_in_sqlite(db: Database) -> None:
    """Fail for a reason of SQLite's."""
    db.execute("DELETE FROM order_lines")
    db.execute("UPDATE users SET balance = -1")


def test_every_migration_has_data_to_be_tested_with() -> None:
    with closing(Database(memory=True)) as db:
        assert [migration.name for migration in migrations.pending(db)] == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_database_of_any_earlier_version_opens_and_has_everything(
    tmp_path: Path, name: str, journal: str
) -> None:
    path = database_at(tmp_path / "benefits.db", name)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")

    assert_it_has_everything(path)
    assert applied(path) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([fail], ZeroDivisionError),
        ([rewrite_everything, fail], ZeroDivisionError),
        ([fail_in_sqlite], StorageUnavailableError),
        ([rewrite_everything, fail_in_sqlite], StorageUnavailableError),
    ],
    ids=["itself", "after-another", "in-sqlite", "in-sqlite-after-another"],
)
def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, name: str, steps: list[Callable[[Database], None]], error: type[Exception]
) -> None:
    path = database_at(tmp_path / "benefits.db", name)
    before = content(path)

    with further(*steps):
        for _ in range(2):
            with pytest.raises(error):
                SqliteStore(path)
            assert content(path) == before

    assert_it_has_everything(path)


def test_a_failed_migration_in_sqlite_names_the_file(tmp_path: Path) -> None:
    path = database_at(tmp_path / "benefits.db", NAMES[0])

    with further(fail_in_sqlite), pytest.raises(StorageUnavailableError, match="benefits.db: CHECK"):
        SqliteStore(path)


def open_together(path: Path, barrier: ProcessBarrier) -> None:
    """Open a database at the same moment as other processes."""
    barrier.wait(A_LONG_TIME)
    with SqliteStore(path, patience=A_LONG_TIME) as store:
        store.ping()


@pytest.mark.parametrize("name", [None, *NAMES])
def test_when_several_processes_open_it_together_migrations_run_once(
    tmp_path: Path, name: str | None
) -> None:
    path = tmp_path / "benefits.db"
    if name:
        database_at(path, name)
    barrier = spawn.Barrier(PROCESSES)
    processes = [spawn.Process(target=open_together, args=(path, barrier)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(A_LONG_TIME)

    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert applied(path) == NAMES
    if name:
        assert_it_has_everything(path)


def test_when_several_threads_open_it_together_migrations_run_once(tmp_path: Path) -> None:
    path = tmp_path / "benefits.db"
    barrier = Barrier(PROCESSES)

    def open_it() -> None:
        barrier.wait(A_LONG_TIME)
        SqliteStore(path, patience=A_LONG_TIME).close()

    with ThreadPoolExecutor(PROCESSES) as pool:
        for opened in [pool.submit(open_it) for _ in range(PROCESSES)]:
            opened.result(A_LONG_TIME)

    assert applied(path) == NAMES
