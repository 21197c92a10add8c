"""``benefits check``: a sound database is one line; every kind of damage is found, and named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benefits_core import CancelOrders, GrantMoney, UnitOfWork
from benefits_sqlite import Audit, SqliteStore, audit_database
from contract.builders import SIGNED, opening, order, with_two_orders
from unit.command import Command

LINES = """
    CREATE TABLE rebuilt (
        user_number INTEGER NOT NULL REFERENCES users,
        product_id TEXT NOT NULL REFERENCES products,
        order_number INTEGER NOT NULL REFERENCES orders,
        position INTEGER NOT NULL,
        price INTEGER NOT NULL CHECK (price BETWEEN 0 AND 999999999999),
        name TEXT NOT NULL DEFAULT ''
        {}
    ) STRICT {}
    """
REBUILD_LINES = (
    "INSERT INTO rebuilt SELECT * FROM order_lines",
    "UPDATE rebuilt SET product_id = 'netflix', price = 7599 WHERE product_id = 'flu-shot'",
    "DROP TABLE order_lines",
    "ALTER TABLE rebuilt RENAME TO order_lines",
)
NOT_OURS = "table order_lines: it is not as this version defines it"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database with two users: jo has placed the orders 1 and 2, and al the order 3."""
    path = tmp_path / "benefits.db"
    with SqliteStore(path) as store:
        with_two_orders(store)
        order(store, "al", "gym")
    return path


def damage(path: Path, *statements: str) -> None:
    """Change a database in a way that its constraints forbid."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)


class Counting(sqlite3.Connection):
    """A connection that counts the steps of SQLite's virtual machine, by the hundred."""

    hundreds = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_progress_handler(self.count, 100)

    @classmethod
    def count(cls) -> None:
        cls.hundreds += 1


def test_its_effort_grows_with_the_orders_and_not_with_their_square(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading all lines again for each order would take minutes where there are 80,000 of them.

    Each user has two grants and two orders, of which one is cancelled.
    """

    def effort(first: int, last: int) -> int:
        damage(
            path,
            "BEGIN",
            f"WITH RECURSIVE n(i) AS (VALUES ({first}) UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
            " INSERT INTO users SELECT i, 'user-' || i, 50000, 42401 FROM n",
            "INSERT INTO grants SELECT user_number, reference, position, amount, 'Al', '2026-07-01T12:00Z', ''"
            " FROM users, (SELECT 'opening' AS reference, 0 AS position, 49000 AS amount"
            f" UNION SELECT 'bonus', 1, 1000) WHERE user_number >= {first}",
            "INSERT INTO orders (order_number, user_number, total, placed_at)"
            " SELECT user_number, user_number, 7599, '2026-07-01T12:00:00+00:00'"
            f" FROM users WHERE user_number >= {first}",
            "INSERT INTO orders SELECT user_number + 10000, user_number, 4599, placed_at, 'Al', placed_at, ''"
            f" FROM orders WHERE order_number BETWEEN {first} AND 9999",
            "INSERT INTO order_lines SELECT user_number, 'netflix', user_number, 0, 7599, 'Netflix'"
            f" FROM users WHERE user_number >= {first}",
            "INSERT INTO cancelled_lines"
            " SELECT user_number, user_number + 10000, 0, 'spotify', 'Spotify', 4599"
            f" FROM users WHERE user_number >= {first}",
            "COMMIT",
        )
        before = Counting.hundreds
        with monkeypatch.context() as patched:
            patched.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Counting))
            found = audit_database(str(path))
        assert (found.findings, found.users) == ((), last - 97)
        return Counting.hundreds - before

    once = effort(100, 2_099)
    assert once > 100
    assert effort(2_100, 4_099) < 3 * once


def test_a_sound_database_is_one_line(benefits: Command, path: Path) -> None:
    before = path.read_bytes()

    assert benefits("check") == (0, "benefits.db is sound: 2 users, 3 orders, 4 products.\n", "")
    assert path.read_bytes() == before


def test_it_says_the_same_to_another_program(path: Path) -> None:
    assert audit_database(str(path)) == Audit((), users=2, orders=3, products=4)


@pytest.mark.parametrize(
    ("statement", "findings"),
    [
        (
            "UPDATE users SET balance = balance - 1 WHERE user_id = 'jo'",
            ["user 'jo': the 50000 cents granted are not the balance of 37801 and the 12198 of all orders"],
        ),
        (
            "UPDATE users SET balance = -1 WHERE user_id = 'jo'",
            ["user 'jo': the 50000 cents granted are not the balance of -1 and the 12198 of all orders"],
        ),
        (
            "UPDATE users SET granted = granted + 1 WHERE user_id = 'al'",
            [
                "user 'al': the 50001 cents granted are not the balance of 10000 and the 40000 of all orders",
                "user 'al': the 50001 cents granted are not the 50000 of all grants",
            ],
        ),
        (
            "UPDATE orders SET total = total + 1 WHERE order_number = 1",
            [
                "user 'jo': the 50000 cents granted are not the balance of 37802 and the 12199 of all orders",
                "order 1: the total of 12199 cents is not the 12198 of its lines",
            ],
        ),
        (
            "UPDATE order_lines SET price = price + 1 WHERE product_id = 'netflix'",
            ["order 1: the total of 12198 cents is not the 12199 of its lines"],
        ),
        (
            "DELETE FROM order_lines WHERE product_id = 'spotify'",
            ["order 1: the total of 12198 cents is not the 7599 of its lines"],
        ),
        (
            "DELETE FROM order_lines WHERE product_id = 'flu-shot'",
            ["order 2: lines of it are missing"],
        ),
        (
            "UPDATE order_lines SET user_number = 2 WHERE product_id = 'netflix'",
            ["order 1: the line of 'netflix' is another user's"],
        ),
        (
            "UPDATE orders SET user_number = 1 WHERE order_number = 3",
            [
                "user 'jo': the 50000 cents granted are not the balance of 37802 and the 52198 of all orders",
                "user 'al': the 50000 cents granted are not the balance of 10000 and the 0 of all orders",
                "order 3: the line of 'gym' is another user's",
            ],
        ),
        (
            "UPDATE orders SET placed_at = 'yesterday' WHERE order_number = 2",
            ["order 2: 'yesterday' is no moment"],
        ),
        *(
            (
                f"UPDATE orders SET placed_at = '{text}' WHERE order_number = 2",
                [f"order 2: '{text}' is no moment"],
            )
            for text in ("now", "12:00", "2460000", "2026-07-01 12:00")
        ),
        ("UPDATE users SET user_id = '' WHERE user_id = 'al'", ["user number 2: '' is no user id"]),
        ("UPDATE users SET user_id = ' al' WHERE user_id = 'al'", ["user number 2: ' al' is no user id"]),
        (
            "UPDATE products SET retired_by = 'Al', retired_at = 'now' WHERE product_id = 'gym'",
            ["product 'gym': the signature of its retirement is invalid: 'Al', 'now'"],
        ),
        (
            "UPDATE products SET retired_by = '', retired_at = '2026-07-01T12:00:00Z' WHERE product_id = 'gym'",
            ["product 'gym': the signature of its retirement is invalid: '', '2026-07-01T12:00:00Z'"],
        ),
        (
            "UPDATE products SET name = '' WHERE product_id = 'gym'",
            ["product 'gym': its id or its name '' is none"],
        ),
        (
            "UPDATE users SET user_id = CAST(x'ff' AS TEXT) WHERE user_id = 'al'",
            ["SQLite: user-defined function raised exception"],
        ),
        ("DELETE FROM catalogue", ["table catalogue: it has 0 rows, and not one"]),
        ("INSERT INTO catalogue VALUES (2)", ["table catalogue: it has 2 rows, and not one"]),
        (
            "UPDATE order_lines SET position = 2 WHERE product_id = 'spotify'",
            ["order 1: lines of it are missing"],
        ),
    ],
)
def test_books_that_do_not_balance_are_named(
    benefits: Command, path: Path, statement: str, findings: list[str]
) -> None:
    damage(path, statement)

    assert benefits("check") == (1, "".join(f"{finding}\n" for finding in findings), "")


@pytest.mark.parametrize(
    ("statements", "finding"),
    [
        (
            ["UPDATE order_lines SET product_id = 'nothing' WHERE product_id = 'gym'"],
            "refers to a row of products that is not there",
        ),
        (["DELETE FROM users WHERE user_id = 'al'"], "row 3 refers to a row of users that is not there"),
        (["DELETE FROM orders WHERE order_number = 2"], "refers to a row of orders that is not there"),
        ([LINES.format("", ""), *REBUILD_LINES], NOT_OURS),
        ([LINES.format("", ""), *REBUILD_LINES], "user 'jo': owns 'netflix' 2 times"),
        *(
            ([f"DROP TABLE {table}"], f"table {table}: it is not as this version defines it")
            for table in (
                "cancelled_lines",
                "catalogue",
                "grants",
                "order_lines",
                "orders",
                "products",
                "users",
            )
        ),
        (
            [
                "ALTER TABLE products RENAME TO kept",
                "CREATE TABLE products (product_id, name, price, position)",
            ],
            "table products: it is not as this version defines it",
        ),
        (
            ["DROP TABLE products", "CREATE TABLE products (product_id, name, price, position)"],
            "table order_lines: SQLite: foreign key mismatch",
        ),
        (["DROP TABLE _sqlite_migrations"], "it is the database of another program"),
        (
            ["UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (balance BETWEEN 0 AND granted)', '')"],
            "table users: it is not as this version defines it",
        ),
        (
            ["UPDATE sqlite_schema SET sql = replace(sql, ' REFERENCES orders', '')"],
            NOT_OURS,
        ),
    ],
)
def test_a_structure_that_does_not_hold_is_named(
    benefits: Command, path: Path, statements: list[str], finding: str
) -> None:
    damage(path, *statements)

    status, out, err = benefits("check")
    assert (status, err) == (1, "")
    assert finding in out
    assert "Traceback" not in out


def test_a_product_owned_twice_is_found_although_the_schema_is_intact(benefits: Command, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        [[as_ever]] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'order_lines'")
    # A wider key stores its rows alike.
    wider = LINES.format(", PRIMARY KEY (user_number, product_id, order_number)", ", WITHOUT ROWID")
    damage(
        path,
        wider,
        *REBUILD_LINES,
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'order_lines'", (as_ever,))

    status, out, _ = benefits("check")
    assert status == 1
    assert "order_lines" in out or "owns 'netflix' 2 times" in out


@pytest.mark.parametrize("page", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_page_that_was_overwritten_is_found(benefits: Command, path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096 + (100 if page == 1 else 0))
        assert file.read(1)
        file.seek(-1, 1)
        file.write(b"\xa5" * 2000)

    status, out, err = benefits("check")
    assert (status, err) == (1, "")
    assert out


def test_a_byte_that_was_changed_in_the_middle_of_a_text_is_found(benefits: Command, path: Path) -> None:
    """SQLite itself has no sums over its pages; the books tell."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"flu-shotFlu vaccination", b"flu-shooFlu vaccination"))

    assert benefits("check")[0] == 1


def test_a_file_in_an_unknown_format_is_named(benefits: Command, path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(44)  # the number of the schema format
        file.write(b"\0\0\0\x09")

    assert benefits("check") == (1, "benefits.db: unsupported file format\n", "")


def test_a_file_that_is_no_database_is_named(benefits: Command, path: Path) -> None:
    path.write_text("Not a database, whatever its size. " * 100)

    assert benefits("check") == (1, "benefits.db: it is not a database; name another file\n", "")


def test_an_empty_file_has_none_of_the_tables(benefits: Command, path: Path) -> None:
    path.write_bytes(b"")

    status, out, _ = benefits("check")
    assert status == 1
    assert "table users: it is not as this version defines it" in out
    assert path.read_bytes() == b""


def test_a_file_that_is_not_there_is_a_mistake_of_the_user_and_not_made(
    benefits: Command, tmp_path: Path
) -> None:
    assert benefits("check", "--database", "no.db") == (
        2,
        "",
        "benefits: no.db: there is no such file; name another with --database, or create it with benefits seed\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_it_works_beside_a_change_and_sees_nothing_of_it(benefits: Command, path: Path) -> None:
    with SqliteStore(path) as store:
        order(store, "al", "flu-shot")

        def add(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("new"))
            assert benefits("check") == (0, "benefits.db is sound: 2 users, 4 orders, 4 products.\n", "")

        store.change(add)
        assert benefits("check") == (0, "benefits.db is sound: 3 users, 4 orders, 4 products.\n", "")


GRANTED_BY_AL = "has an invalid reference or signature: 'Al', '2026-07-01T12:00:00+00:00'"
CANCELLED = "among those of cancelled orders"
LINE_COLUMNS = "user_number, product_id, order_number, position, price, name"


@pytest.fixture
def cancelled(path: Path) -> Path:
    """Return the path of the database in which jo has a bonus too, and the order 1 is cancelled."""
    with SqliteStore(path) as store:
        GrantMoney(store)("bonus", {"jo": Decimal(10)}, SIGNED)
        CancelOrders(store)(["1"], SIGNED)
    return path


@pytest.mark.parametrize(
    ("statement", "findings"),
    [
        (
            "UPDATE users SET granted = granted + 1 WHERE user_id = 'jo'",
            [
                "user 'jo': the 51001 cents granted are not the balance of 51000 and the 0 of all orders",
                "user 'jo': the 51001 cents granted are not the 51000 of all grants",
            ],
        ),
        (
            "UPDATE grants SET amount = amount - 1 WHERE reference = 'bonus'",
            ["user 'jo': the 51000 cents granted are not the 50999 of all grants"],
        ),
        (
            "DELETE FROM grants WHERE reference = 'bonus'",
            ["user 'jo': the 51000 cents granted are not the 50000 of all grants"],
        ),
        (
            "DELETE FROM grants WHERE user_number = 2",
            [
                "user 'al': the 50000 cents granted are not the 0 of all grants",
                "user 'al': there is no opening grant before all others",
            ],
        ),
        *(
            (statement, ["user 'jo': there is no opening grant before all others"])
            for statement in (
                "UPDATE grants SET reference = 'first' WHERE user_number = 1 AND reference = 'opening'",
                "UPDATE grants SET amount = iif(reference = 'opening', -1, 51001) WHERE user_number = 1",
                "UPDATE grants SET position = 1 - position WHERE user_number = 1",
                "UPDATE grants SET position = position + 1 WHERE user_number = 1",
                "UPDATE grants SET position = 0 WHERE user_number = 1",
            )
        ),
        (
            "UPDATE grants SET given_by = '' WHERE reference = 'bonus'",
            [
                "user 'jo': the grant 'bonus' has an invalid reference or signature: '', '2026-07-01T12:00:00+00:00'"
            ],
        ),
        (
            "UPDATE grants SET given_at = '2026-07-01T12:00:00' WHERE reference = 'bonus'",
            [
                "user 'jo': the grant 'bonus' has an invalid reference or signature: 'Al', '2026-07-01T12:00:00'"
            ],
        ),
        (
            "UPDATE grants SET note = char(10) WHERE reference = 'bonus'",
            [f"user 'jo': the grant 'bonus' {GRANTED_BY_AL}"],
        ),
        (
            "UPDATE grants SET reference = '' WHERE reference = 'bonus'",
            [f"user 'jo': the grant '' {GRANTED_BY_AL}"],
        ),
        (
            "UPDATE grants SET reference = CAST(x'ff' AS TEXT) WHERE reference = 'bonus'",
            ["SQLite: user-defined function raised exception"],
        ),
        (
            "UPDATE orders SET cancelled_by = NULL, cancelled_at = NULL WHERE order_number = 1",
            [
                "user 'jo': the 51000 cents granted are not the balance of 51000 and the 12198 of all orders",
                f"order 1: the line of 'netflix' is {CANCELLED}",
                f"order 1: the line of 'spotify' is {CANCELLED}",
            ],
        ),
        (
            "UPDATE orders SET cancelled_by = 'Al', cancelled_at = placed_at WHERE order_number = 3",
            [
                "user 'al': the 50000 cents granted are not the balance of 10000 and the 0 of all orders",
                f"order 3: the line of 'gym' is not {CANCELLED}",
            ],
        ),
        (
            "UPDATE orders SET cancelled_by = NULL WHERE order_number = 1",
            ["order 1: the signature of its cancellation is invalid: None, '2026-07-01T12:00:00+00:00'"],
        ),
        (
            "UPDATE orders SET cancelled_by = 'Al' WHERE order_number = 2",
            ["order 2: the signature of its cancellation is invalid: 'Al', None"],
        ),
        (
            "UPDATE orders SET cancelled_by = '' WHERE order_number = 1",
            ["order 1: the signature of its cancellation is invalid: '', '2026-07-01T12:00:00+00:00'"],
        ),
        (
            "UPDATE orders SET cancelled_at = 'now' WHERE order_number = 1",
            ["order 1: the signature of its cancellation is invalid: 'Al', 'now'"],
        ),
        (
            "UPDATE orders SET cancelled_note = char(10) WHERE order_number = 1",
            ["order 1: the signature of its cancellation is invalid: 'Al', '2026-07-01T12:00:00+00:00'"],
        ),
        *(
            (
                f"UPDATE products SET {column} = {text} WHERE product_id = 'gym'",
                [f"product 'gym': the signature of its retirement is invalid: {who}, {when}"],
            )
            for column, text, who, when in (
                ("retired_by", "'Al'", "'Al'", None),
                ("retired_at", "'2026-07-01T12:00:00Z'", None, "'2026-07-01T12:00:00Z'"),
            )
        ),
        (
            "UPDATE cancelled_lines SET price = price + 1 WHERE product_id = 'netflix'",
            ["order 1: the total of 12198 cents is not the 12199 of its lines"],
        ),
        (
            "DELETE FROM cancelled_lines WHERE position = 1",
            ["order 1: the total of 12198 cents is not the 7599 of its lines"],
        ),
        (
            "DELETE FROM cancelled_lines",
            [
                "order 1: the total of 12198 cents is not the 0 of its lines",
                "order 1: lines of it are missing",
            ],
        ),
        (
            "UPDATE cancelled_lines SET position = 2 WHERE position = 1",
            ["order 1: lines of it are missing"],
        ),
        (
            "UPDATE cancelled_lines SET product_id = 'spotify'",
            ["order 1: 'spotify' is in 2 of its lines"],
        ),
        (
            "UPDATE cancelled_lines SET user_number = 2 WHERE position = 1",
            ["order 1: the line of 'spotify' is another user's"],
        ),
        (
            f"INSERT INTO order_lines ({LINE_COLUMNS}) SELECT {LINE_COLUMNS} FROM cancelled_lines WHERE position = 0",
            [
                "order 1: the total of 12198 cents is not the 19797 of its lines",
                f"order 1: the line of 'netflix' is not {CANCELLED}",
            ],
        ),
        (
            "UPDATE order_lines SET name = '' WHERE product_id = 'gym'",
            ["product 'gym': a line has its name '', which is none"],
        ),
        (
            "UPDATE cancelled_lines SET name = char(10) WHERE product_id = 'netflix'",
            [r"product 'netflix': a line has its name '\n', which is none"],
        ),
    ],
)
def test_grants_and_cancelled_orders_that_contradict_the_books_are_named(
    benefits: Command, cancelled: Path, statement: str, findings: list[str]
) -> None:
    damage(cancelled, statement)

    assert benefits("check") == (1, "".join(f"{finding}\n" for finding in findings), "")


@pytest.mark.parametrize(
    ("statement", "findings"),
    [
        ("DELETE FROM users WHERE user_id = 'jo'", ["cancelled_lines", "grants", "order_lines", "orders"]),
        ("DELETE FROM orders WHERE order_number = 1", ["cancelled_lines"]),
        ("UPDATE cancelled_lines SET product_id = 'nothing' WHERE position = 0", ["cancelled_lines"]),
        ("DROP TABLE grants", ["grants"]),
        ("DROP TABLE cancelled_lines", ["cancelled_lines"]),
    ],
)
def test_so_are_the_tables_that_do_not_hold(
    benefits: Command, cancelled: Path, statement: str, findings: list[str]
) -> None:
    damage(cancelled, statement)

    status, out, err = benefits("check")
    named = [line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith("table ")]
    assert (status, err) == (1, "")
    assert sorted(set(named)) == findings


def test_grants_and_cancelled_orders_are_sound(benefits: Command, cancelled: Path) -> None:
    with SqliteStore(cancelled) as store:
        order(store, "jo", "spotify", "netflix")

    assert benefits("check") == (0, "benefits.db is sound: 2 users, 4 orders, 4 products.\n", "")
