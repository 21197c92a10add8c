"""The migrations: a database of any earlier version opens and has everything, beside a copy; a failure leaves it as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing.synchronize import Barrier as ProcessBarrier
from pathlib import Path
from threading import Barrier

import attrs
import pytest
from sqlite_utils import Database

from benefits_core import (
    Grant,
    Order,
    OrderLine,
    Product,
    Signature,
    StorageUnavailableError,
    User,
)
from benefits_sqlite import SqliteStore, audit_database
from benefits_sqlite.schema import migrations
from contract.builders import NOON, opening, order
from contract.faults import with_mounts
from contract.processes import forked
from contract.running import PROGRAM
from unit.command import Command
from waiting import A_LONG_TIME

PROCESSES = 4

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
    "grant_money": """
        INSERT INTO grants (user_number, reference, position, amount, given_by, given_at, note)
            VALUES (2, 'too-much', 1, 7, 'Al', '2026-07-03T12:00:00+00:00', ''),
                (2, 'correction', 2, -7, 'Al', '2026-07-03T13:00:00+00:00', 'a mistake');
        """,
    "cancel_orders": """
        INSERT INTO orders VALUES (2, 2, 100, '2026-07-01T13:00:00+00:00', 'Bo', '2026-07-04T12:00:00+00:00', '');
        INSERT INTO cancelled_lines (user_number, order_number, position, product_id, name, price)
            VALUES (2, 2, 0, 'gym', 'Gym, a trial', 100);
        """,
}
NAMES = list(DATA)
# Of these there is a copy before they are brought up to date.
EARLIER = NAMES[:-1]
WITHOUT_GRANTS = NAMES[: NAMES.index("grant_money")]


def database_at(path: Path, name: str) -> Path:
    """Make a database as it was when a migration was the last one, with data of each version until then."""
    with closing(Database(path)) as db:
        for number, earlier in enumerate(NAMES[: NAMES.index(name) + 1], 1):
            migrations.apply(db, stop_before=NAMES[number:])
            db.executescript(DATA[earlier])
    return path


def content(path: Path) -> list[str]:
    """Return all that is in a database."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def assert_it_has_everything(path: Path) -> None:
    """Open a database with the data above, and look at and use every part of it."""
    with SqliteStore(path) as store:
        assert store.users.get("jo") == User("jo", Decimal(100), ("gym",))
        assert store.users.get("al") == User("al", Decimal(1))
        assert store.products.list_all() == (
            Product("gym", "Gym", Decimal(400)),
            Product("flu-shot", "Flu vaccination", Decimal(0)),
        )
        noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
        assert store.orders.of_user("jo") == (
            Order("1", "jo", [OrderLine("gym", "Gym", Decimal(400))], noon),
        )
        [of_jo, *_], [of_al, *_] = store.grants.of_user("jo"), store.grants.of_user("al")
        assert of_jo == opening("jo", 500)
        assert of_al == attrs.evolve(opening("al", 1), signature=Signature("benefits", of_al.signature.at))
        assert order(store, "jo", "flu-shot").items == ("flu-shot",)
    assert audit_database(str(path)).findings == ()


def open_and_close(path: Path) -> list[str]:
    """Open a database, and return what is announced."""
    announced: list[str] = []
    SqliteStore(path, announce=announced.append).close()
    return announced


def copies(path: Path) -> list[str]:
    """Return the names of the copies that lie beside a database."""
    return sorted(copy.name for copy in path.parent.glob(f"{path.name}.before*"))


def by_hand(path: Path, *statements: str) -> None:
    """Change a database as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


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

    assert audit_database(str(path)).findings == ()
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
            assert list(tmp_path.glob("*.before-*")) == []  # else the next attempts would fill the disk

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
    barrier = forked.Barrier(PROCESSES)
    processes = [forked.Process(target=open_together, args=(path, barrier)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(A_LONG_TIME)

    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert applied(path) == NAMES
    assert len(copies(path)) == (name in EARLIER)
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


class TestOpeningGrants:
    """The opening balance of a user becomes the first grant."""

    @pytest.mark.parametrize("name", WITHOUT_GRANTS)
    def test_it_was_given_at_the_first_order_and_without_one_now(self, tmp_path: Path, name: str) -> None:
        path = database_at(tmp_path / "benefits.db", name)
        by_hand(
            path,
            "INSERT INTO orders (order_number, user_number, total, placed_at)"
            " VALUES (2, 1, 0, '2026-07-01T11:59:59.999999+00:00')",
            "INSERT INTO order_lines (user_number, product_id, order_number, position, price)"
            " VALUES (1, 'flu-shot', 2, 0, 0)",
        )
        before = datetime.now(UTC)

        with SqliteStore(path) as store:
            [of_jo], [of_al] = store.grants.of_user("jo"), store.grants.of_user("al")

        assert of_jo == Grant.opening("jo", Decimal(500), NOON - timedelta(microseconds=1))
        assert of_al == Grant.opening("al", Decimal(1), of_al.signature.at)
        assert before <= of_al.signature.at <= datetime.now(UTC)

    def test_later_grants_stay(self, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", "grant_money")

        third = NOON + timedelta(days=2)
        with SqliteStore(path) as store:
            assert store.grants.of_user("al")[1:] == (
                Grant("al", "too-much", Decimal("0.07"), Signature("Al", third)),
                Grant(
                    "al",
                    "correction",
                    Decimal("-0.07"),
                    Signature("Al", third + timedelta(hours=1), "a mistake"),
                ),
            )
            assert store.grants.sums(["jo", "al"]) == {"jo": 500, "al": 1}


class TestLines:
    @pytest.mark.parametrize("name", EARLIER)
    def test_those_of_an_earlier_version_get_the_name_of_today(self, tmp_path: Path, name: str) -> None:
        path = database_at(tmp_path / "benefits.db", name)
        by_hand(path, "UPDATE products SET name = 'Studio' WHERE product_id = 'gym'")

        with SqliteStore(path) as store:
            assert store.orders.of_user("jo")[0].lines == (OrderLine("gym", "Studio", Decimal(400)),)

    @pytest.mark.parametrize("name", ["retire_products", "grant_money"])
    def test_so_do_those_of_a_retired_product(self, tmp_path: Path, name: str) -> None:
        path = database_at(tmp_path / "benefits.db", name)
        by_hand(path, f"UPDATE products SET retired_by = 'Al', retired_at = '{NOON.isoformat()}'")

        with SqliteStore(path) as store:
            assert store.orders.of_user("jo")[0].lines == (OrderLine("gym", "Gym", Decimal(400)),)
        assert audit_database(str(path)).findings == ()

    def test_those_of_this_version_keep_theirs(self, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", "cancel_orders")
        by_hand(path, "UPDATE products SET name = 'Studio'")

        with SqliteStore(path) as store:
            assert [one.lines[0].name for one in store.orders.page(9)] == ["Gym", "Gym, a trial"]
            assert store.orders.of_user("al") == (
                Order(
                    "2",
                    "al",
                    [OrderLine("gym", "Gym, a trial", Decimal(1))],
                    NOON + timedelta(hours=1),
                    Signature("Bo", NOON + timedelta(days=3)),
                ),
            )


class TestCopy:
    """Before a database is brought up to date, it is copied."""

    @pytest.mark.parametrize("name", EARLIER)
    @pytest.mark.parametrize("journal", ["DELETE", "WAL"])
    def test_it_is_the_database_as_it_was(
        self, tmp_path: Path, benefits: Command, name: str, journal: str
    ) -> None:
        path = database_at(tmp_path / "benefits.db", name)
        by_hand(path, f"PRAGMA journal_mode = {journal}")
        before, next_name = content(path), NAMES[NAMES.index(name) + 1]
        copy = tmp_path / f"benefits.db.before-{next_name}"

        assert open_and_close(path) == [
            f"{path} is of an earlier version; it is copied to {copy}, then brought up to date."
        ]
        assert copies(path) == [copy.name]
        assert content(copy) == before != content(path)
        status, out, err = benefits("check", "--database", copy)
        assert (status, err) == (0, "")
        assert out.endswith(f"{copy} is sound: 2 users, 1 orders, 2 products.\n")

    def test_it_has_what_only_a_log_holds(self, tmp_path: Path) -> None:
        """The service of the earlier version was killed, or still runs."""
        path = database_at(tmp_path / "benefits.db", "retire_products")
        with closing(sqlite3.connect(path)) as running:
            running.execute("PRAGMA journal_mode = WAL")
            with running:
                running.execute("UPDATE products SET name = 'Studio' WHERE product_id = 'gym'")
            open_and_close(path)

        assert any("Studio" in line for line in content(tmp_path / "benefits.db.before-grant_money"))

    def test_the_database_can_be_replaced_by_it_and_then_there_is_another_one(self, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", "retire_products")
        first = "benefits.db.before-grant_money"
        for _ in range(3):
            open_and_close(path)
            path.write_bytes((tmp_path / first).read_bytes())

        assert copies(path) == [first, f"{first}-2", f"{first}-3"]
        assert content(tmp_path / f"{first}-3") == content(path)
        assert_it_has_everything(path)

    def test_it_is_beside_the_file_that_a_link_leads_to(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        path, link = database_at(folder / "real.db", "retire_products"), tmp_path / "link.db"
        link.symlink_to(path)

        assert open_and_close(link) == [
            f"{link} is of an earlier version; it is copied to {path}.before-grant_money, then brought up to date."
        ]
        assert (copies(link), copies(path)) == ([], ["real.db.before-grant_money"])

    @pytest.mark.parametrize("make", [lambda path: path, Path.touch, SqliteStore], ids=["no", "empty", "new"])
    def test_there_is_none_of_a_file_of_this_version_or_without_content(
        self, tmp_path: Path, make: Callable[[Path], object]
    ) -> None:
        path = tmp_path / "benefits.db"
        made = make(path)
        if isinstance(made, SqliteStore):
            made.close()

        assert open_and_close(path) == []
        assert open_and_close(database_at(tmp_path / "current.db", NAMES[-1])) == []
        assert list(tmp_path.glob("*before*")) == []

    def test_if_its_name_is_taken_it_has_the_next_one(self, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", "retire_products")
        (tmp_path / "benefits.db.before-grant_money").mkdir()
        open_and_close(path)

        assert (tmp_path / "benefits.db.before-grant_money-2").is_file()
        assert_it_has_everything(path)

    def test_if_it_can_not_be_written_the_database_stays_as_it_was(self, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", "retire_products")
        before, copy = content(path), tmp_path / "benefits.db.before-grant_money"
        copy.symlink_to("nowhere")

        with pytest.raises(StorageUnavailableError) as refusal:
            open_and_close(path)
        assert str(refusal.value).startswith(f"{path}: [Errno 17] File exists: ")
        assert "\n" not in str(refusal.value)
        assert content(path) == before

        copy.unlink()
        assert_it_has_everything(path)

    def test_without_room_for_it_the_database_stays_as_it_was(self, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", "retire_products")
        by_hand(
            path,
            "WITH RECURSIVE n(i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < 9000)"
            f" INSERT INTO users SELECT i, '{'x' * 40}' || i, 1, 1 FROM n",
        )
        before, small, after = content(path), tmp_path / "small", tmp_path / "after.db"
        small.mkdir()
        mounts = f"mount -t tmpfs -o size=2m none '{small}'; cp '{path}' '{small}'"
        command = f"""
            status=0; "$@" users --database '{small}/benefits.db' || status=$?
            ls -A '{small}'; cp '{small}/benefits.db' '{after}'; exit $status
            """
        done = with_mounts(mounts, "sh", "-c", command, "sh", *PROGRAM)

        copy = f"{small}/benefits.db.before-grant_money"
        announced, failed = done.stderr.splitlines()
        assert done.returncode == 2
        assert announced.endswith(f"it is copied to {copy}, then brought up to date.")
        assert failed == (
            f"benefits: {small}/benefits.db: it can't be copied to {copy}: database or disk is full"
        )
        assert done.stdout.split() == ["benefits.db", "benefits.db-lock", "benefits.db-next"]
        assert content(after) == before


class TestServiceOfTheVersionBefore:
    """While it runs on, it can neither read a user nor add one, who would have no grant."""

    @pytest.mark.parametrize(
        "statement",
        [
            """
            SELECT users.user_number, opening_balance, balance, product_id
            FROM users LEFT JOIN order_lines USING (user_number)
            WHERE user_id = ? ORDER BY order_number, position
            """,
            """
            INSERT INTO users (user_id, opening_balance, balance) VALUES (?, 50000, 50000) RETURNING user_number
            """,
        ],
        ids=["read", "add"],
    )
    def test_its_statements_fail(self, tmp_path: Path, statement: str) -> None:
        path = database_at(tmp_path / "benefits.db", "retire_products")
        with closing(sqlite3.connect(path, isolation_level=None)) as running:
            running.execute("BEGIN")
            running.execute(statement, ["bo"])
            running.execute("ROLLBACK")
            open_and_close(path)

            with pytest.raises(sqlite3.OperationalError, match="opening_balance"):
                running.execute(statement, ["bo"])

        with SqliteStore(path) as store:
            assert [user.user_id for user in store.users.page(9)] == ["al", "jo"]
        assert audit_database(str(path)).findings == ()
