"""What is particular to the SQLite store: its file, its settings, its second wall, its patience."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benefits_core import OfferProducts, PlaceOrder, Product, StorageUnavailableError, UnitOfWork, User
from benefits_sqlite import SqliteStore
from benefits_sqlite.readers import LastCatalogue, SqliteCatalogueReader
from benefits_sqlite.repositories import SqliteUnitOfWork
from benefits_sqlite.waiting import ProcessLock
from contract.builders import opening

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database with one user, who has placed two orders."""
    path = tmp_path / "benefits.db"
    with SqliteStore(path) as store:
        OfferProducts(store)([Product("a", "A", Decimal("1.50")), Product("b", "B", Decimal(2))])
        OfferProducts(store)([Product("free", "Free", Decimal(0))])
        PlaceOrder(store)("jo", ["a"])
        PlaceOrder(store)("jo", ["free"])
    return path


@pytest.fixture
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection of another program, which enforces foreign keys."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


def open_files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


class TestFile:
    def test_money_is_kept_in_cents(self, by_hand: sqlite3.Connection) -> None:
        assert by_hand.execute("SELECT granted, balance FROM users").fetchall() == [(50_000, 49_850)]
        assert by_hand.execute("SELECT total FROM orders").fetchall() == [(150,), (0,)]
        assert by_hand.execute("SELECT price FROM order_lines").fetchall() == [(150,), (0,)]

    def test_it_uses_write_ahead_logging(self, by_hand: sqlite3.Connection) -> None:
        assert by_hand.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_every_table_is_strict(self, by_hand: sqlite3.Connection) -> None:
        tables = by_hand.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT GLOB '[_s][sq]*'"
        ).fetchall()

        assert sorted(tables) == [
            ("cancelled_lines", 1),
            ("catalogue", 1),
            ("grants", 1),
            ("order_lines", 1),
            ("orders", 1),
            ("products", 1),
            ("users", 1),
        ]

    def test_its_path_may_lead_through_a_link_and_back(self, tmp_path: Path) -> None:
        folder = tmp_path / "elsewhere" / "folder"
        folder.mkdir(parents=True)
        (tmp_path / "link").symlink_to(folder)

        with SqliteStore(tmp_path / "link" / ".." / "linked.db") as store:
            store.ping()

        assert (tmp_path / "elsewhere" / "linked.db").exists()
        assert not (tmp_path / "linked.db").exists()

    @pytest.mark.parametrize("statement", ["DELETE FROM catalogue", "INSERT INTO catalogue VALUES (9)"])
    def test_a_catalogue_without_its_version_is_an_error_and_no_crash(
        self, path: Path, by_hand: sqlite3.Connection, statement: str
    ) -> None:
        by_hand.execute(statement)
        by_hand.commit()

        with SqliteStore(path) as store, pytest.raises(StorageUnavailableError, match="catalogue is damaged"):
            store.products.list_all()
        with SqliteStore(path) as store, pytest.raises(StorageUnavailableError, match="catalogue is damaged"):
            OfferProducts(store)([])

    def test_whatever_number_its_catalogue_has_it_is_read(
        self, path: Path, by_hand: sqlite3.Connection
    ) -> None:
        by_hand.execute("UPDATE catalogue SET version = 0")

        with SqliteStore(path) as store:
            assert len(store.products.list_all()) == 3

    def test_a_commit_reaches_the_disk_and_foreign_keys_are_enforced(self, path: Path) -> None:
        def settings_of(work: UnitOfWork) -> dict[str, int]:
            assert isinstance(work, SqliteUnitOfWork)
            query = work.users._query  # noqa: SLF001 - only SQLite knows its settings
            return {name: query(f"PRAGMA {name}")[0][0] for name in ("synchronous", "foreign_keys")}

        with SqliteStore(path) as store:
            settings = store.change(settings_of)

        assert settings == {"synchronous": 2, "foreign_keys": 1}

    def test_opening_it_again_writes_nothing(self, path: Path) -> None:
        before = path.read_bytes()
        SqliteStore(path).close()

        assert path.read_bytes() == before


class TestCatalogueChangedByHand:
    @pytest.mark.parametrize(
        ("change", "catalogue"),
        [
            ("UPDATE products SET price = 200 WHERE product_id = 'b'", "free Free 0, a A 1.5, b B 2"),
            ("UPDATE products SET price = 300 WHERE product_id = 'b'", "free Free 0, a A 1.5, b B 3"),
            ("UPDATE products SET name = 'C' WHERE product_id = 'b'", "free Free 0, a A 1.5, b C 2"),
            ("UPDATE products SET position = -1 WHERE product_id = 'b'", "b B 2, free Free 0, a A 1.5"),
            (
                "INSERT INTO products (product_id, name, price, position) VALUES ('c', 'C', 300, 3)",
                "free Free 0, a A 1.5, b B 2, c C 3",
            ),
            ("DELETE FROM products WHERE product_id = 'b'", "free Free 0, a A 1.5"),
        ],
        ids=["nothing", "price", "name", "place", "new", "gone"],
    )
    def test_the_next_read_and_the_next_change_see_it(
        self, path: Path, by_hand: sqlite3.Connection, change: str, catalogue: str
    ) -> None:
        def described(products: Iterable[Product]) -> list[str]:
            return [f"{each.product_id} {each.name} {each.price.normalize():f}" for each in products]

        with SqliteStore(path) as store:
            assert len(store.products.list_all()) == 3
            PlaceOrder(store)("al", ["b"])
            by_hand.execute("PRAGMA foreign_keys = OFF")
            by_hand.execute(change)

            assert described(store.products.list_all()) == catalogue.split(", ")
            found = store.change(lambda work: work.products.find(["a", "b", "c", "free"]))
            assert sorted(described(found.values())) == sorted(catalogue.split(", "))


class TestSecondWall:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE users SET balance = -1",
            "UPDATE users SET balance = granted + 1",
            "UPDATE users SET balance = 1.5",
            "UPDATE users SET granted = 1000000000000",
            "INSERT INTO users (user_id, granted, balance) VALUES ('jo', 1, 1)",
            "INSERT INTO users (user_id, granted, balance) VALUES (NULL, 1, 1)",
            "UPDATE grants SET amount = 1000000000000",
            "INSERT INTO grants SELECT user_number, reference, 1, 5, given_by, given_at, note FROM grants",
            "INSERT INTO grants SELECT 99, reference, 1, 5, given_by, given_at, note FROM grants",
            "UPDATE orders SET cancelled_at = '2026-07-01T12:00:00+00:00'",
            "UPDATE orders SET cancelled_by = 'Al'",
            "INSERT INTO cancelled_lines SELECT user_number, 9, position, product_id, name, price FROM order_lines",
            "INSERT INTO cancelled_lines SELECT user_number, order_number, 1, 'c', name, price FROM order_lines",
            "INSERT INTO cancelled_lines SELECT user_number, order_number, 1, 'a', NULL, price FROM order_lines",
            "UPDATE products SET price = -1",
            "UPDATE products SET price = 'free'",
            "DELETE FROM products WHERE product_id = 'a'",
            "DELETE FROM users",
            "DELETE FROM orders",
            "UPDATE orders SET total = -1",
            "INSERT INTO orders (user_number, total, placed_at) VALUES (99, 1, '')",
            "INSERT INTO order_lines (user_number, product_id, order_number, position, price) VALUES (1, 'a', 2, 1, 1)",
            "INSERT INTO order_lines (user_number, product_id, order_number, position, price) VALUES (1, 'c', 1, 1, 1)",
            "INSERT INTO order_lines (user_number, product_id, order_number, position, price) VALUES (1, 'b', 9, 1, 1)",
        ],
    )
    def test_the_schema_refuses_what_the_model_would_never_ask_for(
        self, by_hand: sqlite3.Connection, statement: str
    ) -> None:
        with pytest.raises(sqlite3.IntegrityError):
            by_hand.execute(statement)


class TestPatience:
    def test_a_change_that_waits_too_long_for_another_program_fails_and_a_later_one_succeeds(
        self, path: Path, by_hand: sqlite3.Connection
    ) -> None:
        with SqliteStore(path, patience=0.05) as store:
            by_hand.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailableError):
                PlaceOrder(store)("jo", ["b"])
            assert store.users.get("jo") == User("jo", Decimal("498.50"), ("a", "free"))
            by_hand.execute("ROLLBACK")

            assert PlaceOrder(store)("jo", ["b"]).total == 2

    def test_a_new_file_that_another_program_has_locked_is_not_waited_for_in_vain(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "new.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StorageUnavailableError, match="new.db: another program has locked it"):
                SqliteStore(path, patience=0.05)
            other.execute("ROLLBACK")
        SqliteStore(path, patience=0.05).close()


class TestBrokenStatements:
    """A statement that fails half-way through a change loses all of it."""

    def test_nothing_is_kept_even_if_the_change_catches_the_error(
        self, path: Path, by_hand: sqlite3.Connection
    ) -> None:
        with SqliteStore(path) as store:
            by_hand.execute(
                "CREATE TRIGGER full BEFORE INSERT ON order_lines BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
            )

            def go_on_after_an_error(work: UnitOfWork) -> None:
                user = work.users.get_or_add(opening("new"))
                [product] = work.products.find(["b"]).values()
                buyer, order = user.buy([product], order_id=work.orders.new_id(), placed_at=NOON)
                with pytest.raises(Exception, match="no"):
                    work.orders.add(order, buyer)
                with pytest.raises(Exception, match="no"):
                    work.users.get_or_add(opening("another"))

            with pytest.raises(Exception, match="no"):
                store.change(go_on_after_an_error)

            assert store.users.get("new") is None
            assert store.users.get("another") is None

    def test_the_same_holds_for_the_catalogue(self, path: Path, by_hand: sqlite3.Connection) -> None:
        with SqliteStore(path) as store:
            by_hand.execute(
                "CREATE TRIGGER full BEFORE UPDATE ON products BEGIN SELECT RAISE(FAIL, 'no'); END"
            )

            def go_on_after_an_error(work: UnitOfWork) -> None:
                work.users.get_or_add(opening("new"))
                with pytest.raises(Exception, match="no"):
                    work.products.put([Product("a", "A", Decimal(9))])

            with pytest.raises(Exception, match="no"):
                store.change(go_on_after_an_error)

            assert store.users.get("new") is None

    def test_a_file_that_is_no_database_any_more_makes_the_store_unavailable(self, path: Path) -> None:
        with SqliteStore(path) as store:
            path.write_bytes(b"Not a database, whatever its size. " * 1000)

            with pytest.raises(StorageUnavailableError):
                store.ping()

    def test_a_folder_that_can_not_be_reached_any_more_makes_the_store_unavailable(
        self, tmp_path: Path
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        with SqliteStore(folder / "benefits.db") as store:
            folder.rename(tmp_path / "aside")
            folder.write_text("a file in its place")

            with pytest.raises(StorageUnavailableError, match="is not the file that was opened"):
                store.ping()
            with pytest.raises(StorageUnavailableError, match="is not the file that was opened"):
                PlaceOrder(store)("jo", ["a"])

    def test_a_link_that_leads_elsewhere_now_makes_the_store_unavailable(
        self, path: Path, tmp_path: Path
    ) -> None:
        link, other = tmp_path / "link.db", tmp_path / "other.db"
        SqliteStore(other).close()
        link.symlink_to(path)
        with SqliteStore(link) as store:
            store.ping()
            link.unlink()
            link.symlink_to(other)

            with pytest.raises(StorageUnavailableError, match="is not the file that was opened"):
                store.ping()

    def test_closing_a_store_again_does_nothing(self, path: Path) -> None:
        with SqliteStore(path) as store:
            store.close()

    def test_a_table_that_is_gone_makes_the_store_unavailable(
        self, path: Path, by_hand: sqlite3.Connection
    ) -> None:
        with SqliteStore(path) as store:
            store.ping()
            by_hand.execute("ALTER TABLE users RENAME TO people")

            with pytest.raises(StorageUnavailableError):
                store.ping()

    def test_the_connection_of_a_reading_that_failed_is_closed(
        self, path: Path, by_hand: sqlite3.Connection
    ) -> None:
        with SqliteStore(path) as store:
            store.ping()
            before = open_files()
            by_hand.execute("ALTER TABLE users RENAME TO people")
            for _ in range(20):
                with pytest.raises(StorageUnavailableError):
                    store.ping()
            assert open_files() <= before

            by_hand.execute("ALTER TABLE people RENAME TO users")
            store.ping()


class TestClosing:
    @pytest.mark.parametrize(
        "use",
        [
            SqliteStore.ping,
            lambda store: store.submit(lambda _: None),
            lambda store: store.users.get("jo"),
            lambda store: store.products.list_all(),
            lambda store: store.products.find(["a"]),
            lambda store: store.orders.of_user("jo"),
            lambda store: PlaceOrder(store)("jo", ["b"]),
        ],
    )
    def test_a_closed_store_says_so(self, path: Path, use: Callable[[SqliteStore], object]) -> None:
        with SqliteStore(path) as store:
            store.ping()

        with pytest.raises(RuntimeError, match="the store is closed"):
            use(store)

    def test_nothing_of_it_stays_open(self, path: Path) -> None:
        before = open_files()
        with SqliteStore(path) as store:
            PlaceOrder(store)("jo", ["b"])
            store.ping()

        assert open_files() == before

    def test_nor_of_one_that_could_not_be_opened(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE _sqlite_migrations SET migration_set = 'another'")
            connection.commit()
        before = open_files()
        with pytest.raises(StorageUnavailableError):
            SqliteStore(path)

        assert open_files() == before

    def test_nor_of_one_whose_preparation_failed(self, path: Path, by_hand: sqlite3.Connection) -> None:
        by_hand.execute("PRAGMA journal_mode = DELETE")
        by_hand.execute("BEGIN IMMEDIATE")

        def fail_to_open() -> int:
            with pytest.raises(StorageUnavailableError):
                SqliteStore(path, patience=0)
            return open_files()

        # SQLite keeps a file open for later while another connection of this process has locks on it.
        assert fail_to_open() == [fail_to_open() for _ in range(10)][-1]


def test_a_catalogue_that_changes_while_it_is_read_is_read_again(
    path: Path, by_hand: sqlite3.Connection
) -> None:
    with SqliteStore(path) as store:

        def query(sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
            rows = store._read(sql, parameters)  # noqa: SLF001 - what the store's own reader is given
            if "FROM products" in sql:
                by_hand.execute("UPDATE products SET price = 300 WHERE product_id = 'b'")
            return rows

        reader = SqliteCatalogueReader(query, LastCatalogue())
        before, after = reader.list_all(), reader.list_all()

    assert [product.price for product in before if product.product_id == "b"] == [2]
    assert [product.price for product in after if product.product_id == "b"] == [3]


def test_a_new_file_that_another_process_prepares_for_too_long_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with closing(ProcessLock(str(path))) as lock:
        assert lock.acquire(time.monotonic())
        with pytest.raises(StorageUnavailableError, match="other processes have been writing"):
            SqliteStore(path, patience=0)


def test_a_transaction_that_can_not_begin_makes_the_store_unavailable(path: Path) -> None:
    with SqliteStore(path) as store:
        store._transaction._db.execute("PRAGMA query_only = ON")  # noqa: SLF001 - as on a read-only file system

        with pytest.raises(StorageUnavailableError, match="readonly"):
            PlaceOrder(store)("jo", ["b"])


def test_a_read_during_which_the_store_is_closed_leaves_no_file_open(path: Path) -> None:
    before = open_files()
    store = SqliteStore(path)
    store.ping()
    [reader] = store._idle_connections  # noqa: SLF001 - to close the store in the middle of a statement
    reader.conn.create_function("close_store", 0, store.close)

    store._read("SELECT close_store()")  # noqa: SLF001

    assert open_files() == before
