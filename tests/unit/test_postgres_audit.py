"""The audit of a PostgreSQL database: a sound one has no findings, also in use; every kind of damage is found, and named."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from benefits_core import CancelOrders, EraseUser, GrantMoney, RetireProducts, StorageUnavailableError
from benefits_core.audit import Audit
from benefits_postgres import PostgresStore, audit_database
from benefits_postgres.audit import DEFINITIONS, definitions
from benefits_postgres.connection import PATIENCE, Database, Rows
from contract.builders import SIGNED, order, with_two_orders
from contract.faults import require
from postgres_schemas import schema_url
from postgres_server import new_server

pytestmark = pytest.mark.usefixtures("postgres_server")

# Statements for a session of the superuser.
UNCHECKED: Final = "SET session_replication_role = replica"  # as on a logical replica
NO_PLACES: Final = "ALTER TABLE cancelled_lines DROP CONSTRAINT cancelled_lines_pkey"

NOON: Final = "2026-07-01 12:00:00+00"
AMONG: Final = "among those of cancelled orders"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a database with two users: jo has a bonus and the orders 1, which is cancelled, and 2; al the order 3."""
    url = schema_url(tmp_path)
    with PostgresStore(url) as store:
        with_two_orders(store)
        order(store, "al", "gym")
        GrantMoney(store)("bonus", {"jo": Decimal(10)}, SIGNED)
        CancelOrders(store)(["1"], SIGNED)
        RetireProducts(store)(["spotify"], SIGNED)
    return url


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements by hand, each in a transaction of its own; return the rows of the last, if it has any."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def changed(*names: str) -> list[str]:
    """Return the findings for tables and sequences that are not as they should be."""
    return [f"{name}: it is not as this version defines it" for name in names]


def test_sound_database_has_no_findings(url: str) -> None:
    assert audit_database(url) == Audit((), users=2, orders=3, products=4)


def test_new_database_has_no_findings(tmp_path: Path) -> None:
    PostgresStore(schema_url(tmp_path)).close()

    assert audit_database(schema_url(tmp_path)) == Audit(())


def test_erased_user_and_product_that_was_bought_again_are_sound(url: str) -> None:
    with PostgresStore(url) as store:
        order(store, "jo", "netflix")
        EraseUser(store)("al")
        order(store, "al", "gym")

    assert audit_database(url) == Audit((), users=3, orders=5, products=4)


def test_all_queries_see_one_moment_while_others_write(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each statement of the audit, an order is placed, and the one before is cancelled."""
    placed: list[str] = []

    class Slow(Database):
        def run(self, *arguments: Any, **options: Any) -> list[Rows]:
            rows = super().run(*arguments, **options)
            placed.append(order(store, f"user-{len(placed)}", "gym").order_id)
            CancelOrders(store)(placed[-2:-1], SIGNED)
            return rows

    with PostgresStore(url) as store:
        monkeypatch.setattr("benefits_postgres.audit.Database", Slow)
        # The first statement begins the transaction; the moment is that of the second one.
        assert audit_database(url) == Audit((), users=3, orders=4, products=4)
        monkeypatch.undo()

    assert len(placed) > 50
    assert audit_database(url) == Audit((), users=2 + len(placed), orders=3 + len(placed), products=4)


def test_faults_on_every_page_are_found(url: str) -> None:
    run(
        url,
        "INSERT INTO users SELECT i, 'user-' || i, 0, 0 FROM generate_series(10, 12009) AS i",
        "INSERT INTO grants SELECT user_number, 'opening', 0, 0, 'Al', now(), '' FROM users WHERE user_number >= 10",
        "SELECT setval('user_numbers', 12009)",
        "UPDATE users SET user_id = ' ' || user_id WHERE user_number IN (10, 6000, 12009)",
    )

    assert audit_database(url) == Audit(
        tuple(f"user number {i}: ' user-{i}' is no user id" for i in (10, 6000, 12009)),
        users=12002,
        orders=3,
        products=4,
    )


@pytest.mark.parametrize(
    ("statements", "findings"),
    [
        (
            ["UPDATE users SET balance = balance - 1 WHERE user_id = 'al'"],
            ["user 'al': the 50000 cents granted are not the balance of 9999 and the 40000 of all orders"],
        ),
        (
            ["UPDATE users SET granted = granted + 1 WHERE user_id = 'jo'"],
            [
                "user 'jo': the 51001 cents granted are not the balance of 51000 and the 0 of all orders",
                "user 'jo': the 51001 cents granted are not the 51000 of all grants",
            ],
        ),
        (
            ["UPDATE grants SET amount = amount - 1 WHERE reference = 'bonus'"],
            ["user 'jo': the 51000 cents granted are not the 50999 of all grants"],
        ),
        (
            ["DELETE FROM grants WHERE user_number = 2"],
            [
                "user 'al': the 50000 cents granted are not the 0 of all grants",
                "user 'al': there is no opening grant before all others",
            ],
        ),
        *(
            ([statement], ["user 'jo': there is no opening grant before all others"])
            for statement in (
                "UPDATE grants SET reference = 'first' WHERE user_number = 1 AND reference = 'opening'",
                "UPDATE grants SET amount = CASE reference WHEN 'opening' THEN -1 ELSE 51001 END WHERE user_number = 1",
                "UPDATE grants SET position = 1 - position WHERE user_number = 1",
                "UPDATE grants SET position = -1 WHERE reference = 'opening' AND user_number = 1",
                "UPDATE grants SET position = 0 WHERE user_number = 1",
            )
        ),
        (
            ["UPDATE orders SET total = total + 1 WHERE order_number = 3"],
            [
                "user 'al': the 50000 cents granted are not the balance of 10000 and the 40001 of all orders",
                "order 3: the total of 40001 cents is not the 40000 of its lines",
            ],
        ),
        (
            ["UPDATE order_lines SET price = price + 1 WHERE product_id = 'gym'"],
            ["order 3: the total of 40000 cents is not the 40001 of its lines"],
        ),
        (
            ["UPDATE cancelled_lines SET price = price + 1 WHERE product_id = 'netflix'"],
            ["order 1: the total of 12198 cents is not the 12199 of its lines"],
        ),
        (
            ["DELETE FROM cancelled_lines"],
            [
                "order 1: the total of 12198 cents is not the 0 of its lines",
                "order 1: lines of it are missing",
            ],
        ),
        (["DELETE FROM order_lines WHERE order_number = 2"], ["order 2: lines of it are missing"]),
        *(
            (
                [f"UPDATE order_lines SET position = {place} WHERE order_number = 2"],
                ["order 2: lines of it are missing"],
            )
            for place in (-1, 1)
        ),
        (
            ["UPDATE cancelled_lines SET position = 2 WHERE position = 1"],
            ["order 1: lines of it are missing"],
        ),
        (
            [NO_PLACES, "UPDATE cancelled_lines SET position = 0"],
            [*changed("table cancelled_lines"), "order 1: lines of it are missing"],
        ),
        (
            [
                NO_PLACES,
                "UPDATE cancelled_lines SET price = 0",
                "UPDATE orders SET total = 0 WHERE order_number = 1",
                "INSERT INTO cancelled_lines VALUES (1, 'gym', 1, 0, 'Gym', 0), (1, 'flu-shot', 1, 3, 'Flu', 0)",
                "UPDATE cancelled_lines SET position = 3 WHERE position = 1",
            ],
            [*changed("table cancelled_lines"), "order 1: lines of it are missing"],
        ),
        (["UPDATE cancelled_lines SET product_id = 'spotify'"], ["order 1: 'spotify' is in 2 of its lines"]),
        (
            ["UPDATE cancelled_lines SET user_number = 2 WHERE position = 1"],
            ["order 1: the line of 'spotify' is another user's"],
        ),
        (
            ["UPDATE orders SET user_number = 1 WHERE order_number = 3"],
            [
                "user 'al': the 50000 cents granted are not the balance of 10000 and the 0 of all orders",
                "user 'jo': the 51000 cents granted are not the balance of 51000 and the 40000 of all orders",
                "order 3: the line of 'gym' is another user's",
            ],
        ),
        (
            [
                "INSERT INTO order_lines SELECT * FROM cancelled_lines WHERE position = 0",
                "DELETE FROM cancelled_lines WHERE position = 0",
            ],
            [f"order 1: the line of 'netflix' is not {AMONG}"],
        ),
        (
            ["UPDATE orders SET cancelled_by = NULL, cancelled_at = NULL WHERE order_number = 1"],
            [
                "user 'jo': the 51000 cents granted are not the balance of 51000 and the 12198 of all orders",
                f"order 1: the line of 'netflix' is {AMONG}",
                f"order 1: the line of 'spotify' is {AMONG}",
            ],
        ),
        *(
            (
                [f"UPDATE orders SET placed_at = '{moment}' WHERE order_number = 2"],
                [f"order 2: '{moment}' is no moment"],
            )
            for moment in ("infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "10000-01-01 00:00:00+00")
        ),
        (["DELETE FROM catalogue"], ["table catalogue: it has 0 rows, and not one"]),
        (
            ["INSERT INTO catalogue VALUES (gen_random_uuid())"],
            ["table catalogue: it has 2 rows, and not one"],
        ),
    ],
)
def test_books_that_do_not_balance_are_named(
    url: str, statements: Sequence[str], findings: list[str]
) -> None:
    run(url, *statements)

    assert audit_database(url).findings == tuple(findings)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        *(
            (
                f"UPDATE users SET user_id = {text} WHERE user_id = 'al'",
                f"user number 2: {shown} is no user id",
            )
            for text, shown in (
                ("''", "''"),
                ("' al'", "' al'"),
                ("E'a\\u0301l'", "'a\u0301l'"),
                ("E'a\\n'", r"'a\n'"),
                ("repeat('a', 65)", repr("a" * 65)),
            )
        ),
        (
            "UPDATE products SET name = '' WHERE product_id = 'gym'",
            "product 'gym': its id or its name '' is none",
        ),
        (
            "INSERT INTO products VALUES ('', 'Gym', 1, 9, NULL, NULL, '')",
            "product '': its id or its name 'Gym' is none",
        ),
        (
            "UPDATE order_lines SET name = '' WHERE product_id = 'gym'",
            "product 'gym': a line has its name '', which is none",
        ),
        (
            "UPDATE cancelled_lines SET name = E'\\n' WHERE product_id = 'netflix'",
            r"product 'netflix': a line has its name '\n', which is none",
        ),
        *(
            (
                f"UPDATE {table} SET {change} WHERE {which}",
                f"{name}: the signature of its {event} is invalid: {by!r}, {at!r}",
            )
            for table, which, name, event, verb in (
                ("products", "product_id = 'spotify'", "product 'spotify'", "retirement", "retired"),
                ("orders", "order_number = 1", "order 1", "cancellation", "cancelled"),
            )
            for change, by, at in (
                (f"{verb}_by = ''", "", NOON),
                (f"{verb}_note = E'\\n'", "Al", NOON),
                (f"{verb}_at = 'infinity'", "Al", "infinity"),
            )
        ),
        *(
            (
                f"UPDATE grants SET {change} WHERE reference = 'bonus'",
                f"user 'jo': the grant {reference!r} has an invalid reference or signature: {by!r}, {at!r}",
            )
            for change, reference, by, at in (
                ("reference = ''", "", "Al", NOON),
                ("reference = 'bonus '", "bonus ", "Al", NOON),
                ("given_by = ''", "bonus", "", NOON),
                ("given_at = '-infinity'", "bonus", "Al", "-infinity"),
                ("note = repeat('a', 201)", "bonus", "Al", NOON),
            )
        ),
    ],
)
def test_invalid_texts_are_named(url: str, statement: str, finding: str) -> None:
    run(url, statement)

    assert audit_database(url).findings == (finding,)


@pytest.mark.parametrize("missing", ["retired_by", "retired_at"])
def test_half_a_signature_is_named(url: str, missing: str) -> None:
    run(
        url,
        "ALTER TABLE products DROP CONSTRAINT products_check",
        f"UPDATE products SET {missing} = NULL WHERE product_id = 'spotify'",
    )

    by, at = (None, NOON) if missing == "retired_by" else ("Al", None)
    assert audit_database(url).findings == (
        *changed("table products"),
        f"product 'spotify': the signature of its retirement is invalid: {by!r}, {at!r}",
    )


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "INSERT INTO grants VALUES (7, 'bonus', 1, 5, 'Al', now(), '')",
            "table grants: its user_number 7 is not in table users",
        ),
        (
            "UPDATE orders SET user_number = 7, total = 0 WHERE order_number = 2; UPDATE order_lines SET user_number = 7 WHERE order_number = 2",
            "table orders: its user_number 7 is not in table users",
        ),
        *(
            (
                f"UPDATE {table} SET product_id = 'golf' WHERE product_id = '{product_id}'",
                f"table {table}: its product_id 'golf' is not in table products",
            )
            for table, product_id in (("order_lines", "gym"), ("cancelled_lines", "netflix"))
        ),
        *(
            (
                f"INSERT INTO {table} VALUES (1, 'gym', 9, 0, 'Gym', 1)",
                f"table {table}: its order_number 9 is not in table orders",
            )
            for table in ("order_lines", "cancelled_lines")
        ),
    ],
)
def test_rows_that_refer_to_nothing_are_named(url: str, statement: str, finding: str) -> None:
    """A logical replica, and a restore without triggers, do not check foreign keys."""
    run(url, UNCHECKED, statement)

    assert audit_database(url).findings == (finding,)


@pytest.mark.parametrize(
    ("sequence", "largest", "table"),
    [("user_numbers", 2, "users"), ("order_numbers", 3, "orders"), ("grant_positions", 1, "grants")],
)
def test_sequence_behind_its_table_is_named(url: str, sequence: str, largest: int, table: str) -> None:
    run(url, f"SELECT setval('{sequence}', {largest}, true)")
    assert audit_database(url).findings == ()

    run(url, f"SELECT setval('{sequence}', {largest}, false)")
    assert audit_database(url).findings == (
        f"sequence {sequence}: its next number {largest} is not after {largest}, the largest of table {table}",
    )


def test_invalid_index_is_named_unless_its_table_is_of_another_program(url: str) -> None:
    run(
        url,
        "CREATE TABLE other (x int PRIMARY KEY)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('users_user_id_key'::regclass, 'other_pkey'::regclass)",
    )

    assert audit_database(url).findings == (
        "index users_user_id_key: it is invalid; REINDEX INDEX users_user_id_key builds it again",
    )


def test_checksums_are_those_of_a_new_database(tmp_path: Path) -> None:
    """After a new migration, this shows the new ones."""
    PostgresStore(schema_url(tmp_path)).close()

    with closing(Database(schema_url(tmp_path), PATIENCE)) as database:
        assert definitions(database) == DEFINITIONS


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("ALTER TABLE users ALTER user_number TYPE numeric", ["table users"]),
        ("ALTER TABLE products ALTER name DROP NOT NULL", ["table products"]),
        ("ALTER TABLE products ALTER product_id TYPE text", ["table products"]),
        ("ALTER TABLE writers ALTER begun_at DROP DEFAULT", ["table writers"]),
        ("ALTER TABLE benefits_migrations ADD who text", ["table benefits_migrations"]),
        ("ALTER TABLE grants DROP CONSTRAINT grants_pkey", ["table grants"]),
        ("ALTER TABLE grants DROP CONSTRAINT grants_user_number_fkey", ["table grants"]),
        ("ALTER TABLE users DROP CONSTRAINT users_check", ["table users"]),
        (
            "ALTER TABLE orders DROP CONSTRAINT orders_total_check, ADD CONSTRAINT orders_total_check CHECK (total > -1)",
            ["table orders"],
        ),
        (
            "ALTER TABLE grants DROP CONSTRAINT grants_pkey, ADD PRIMARY KEY (user_number, reference, position)",
            ["table grants"],
        ),
        (
            "UPDATE pg_constraint SET convalidated = false WHERE conrelid = 'orders'::regclass AND contype = 'f'",
            ["table orders"],
        ),
        ("ALTER TABLE products DISABLE TRIGGER catalogue_changed", ["table products"]),
        ("ALTER TABLE order_lines DISABLE TRIGGER ALL", ["table order_lines"]),
        ("DROP TRIGGER catalogue_changed ON products", ["table products"]),
        (
            "CREATE OR REPLACE FUNCTION renew_version_of_catalogue() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            ["table products"],
        ),
        ("ALTER TABLE catalogue SET UNLOGGED", ["table catalogue"]),
        ("ALTER SEQUENCE order_numbers CACHE 10", ["sequence order_numbers"]),
        ("DROP SEQUENCE grant_positions", ["sequence grant_positions"]),
        (
            "ALTER TABLE orders RENAME TO purchases",
            ["table cancelled_lines", "table order_lines", "table orders"],
        ),
        ("ALTER TABLE users DROP granted CASCADE", ["table users"]),
        ("DROP TABLE users CASCADE", ["table grants", "table orders", "table users"]),
        ("DROP TABLE cancelled_lines", ["table cancelled_lines"]),
        ("DROP TABLE catalogue", ["table catalogue"]),
    ],
)
def test_changed_structure_is_named_and_nothing_else(url: str, statement: str, names: list[str]) -> None:
    """Rules that can't be verified without it are left out."""
    run(url, statement)

    assert audit_database(url).findings == tuple(changed(*names))


def test_not_null_that_was_never_validated_is_named(url: str) -> None:
    [[version]] = run(url, "SHOW server_version_num")
    require(
        int(version) >= 180000,
        "this test needs PostgreSQL 18, whose NOT NULL can be added without validation",
    )
    run(
        url,
        "ALTER TABLE users ALTER user_id DROP NOT NULL",
        "ALTER TABLE users ADD NOT NULL user_id NOT VALID",
    )

    assert audit_database(url).findings == tuple(changed("table users"))


def test_books_are_audited_although_the_structure_has_changed(url: str) -> None:
    run(
        url,
        "ALTER TABLE users DROP CONSTRAINT users_check",
        "UPDATE users SET balance = -1 WHERE user_id = 'al'",
        "DROP TABLE catalogue",
    )

    assert audit_database(url) == Audit(
        (
            *changed("table catalogue", "table users"),
            "user 'al': the 50000 cents granted are not the balance of -1 and the 40000 of all orders",
        ),
        users=2,
        orders=3,
        products=4,
    )


def test_what_other_programs_add_is_no_finding(url: str) -> None:
    run(
        url,
        "CREATE TABLE other (user_number bigint REFERENCES users)",
        "CREATE INDEX ON orders (user_number)",
        "CREATE FUNCTION ignore() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER other AFTER INSERT ON users EXECUTE FUNCTION ignore()",
        "ALTER TABLE users DISABLE TRIGGER other",
    )

    assert audit_database(url).findings == ()


def test_migration_that_is_not_recorded_is_named(url: str) -> None:
    run(url, "DELETE FROM benefits_migrations")

    assert audit_database(url).findings == ("migration create_tables: it is not recorded",)


def test_database_of_another_program_is_named_in_one_finding(tmp_path: Path) -> None:
    run(schema_url(tmp_path), "CREATE TABLE other (x int)")

    assert audit_database(schema_url(tmp_path)) == Audit(("it has no tables of this program",))


def test_database_of_a_newer_version_is_refused(url: str) -> None:
    run(url, "INSERT INTO benefits_migrations VALUES ('later')")

    with pytest.raises(
        StorageUnavailableError, match=r"^postgresql://.*: it was written by a newer version \(later\)"
    ):
        audit_database(url)


def test_audit_that_can_not_read_a_table_is_not_finished(url: str) -> None:
    run(url, "CREATE ROLE reader LOGIN")
    try:
        [[schema]] = run(url, "SELECT current_schema")
        run(url, f"GRANT USAGE ON SCHEMA {schema} TO reader", "GRANT SELECT ON benefits_migrations TO reader")
        with pytest.raises(StorageUnavailableError, match="permission denied for"):
            audit_database(url.replace("//postgres@", "//reader@"))
        run(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
        run(url, f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO reader")
        assert audit_database(url.replace("//postgres@", "//reader@")).findings == ()
    finally:
        run(url, "DROP OWNED BY reader", "DROP ROLE reader")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://jo:secret@127.0.0.1:1/benefits",
        "postgresql://jo:secret@127.0.0.1:port/b",
        "postgresql://jo:sec%ret@h/b",
    ],
)
def test_database_that_can_not_be_reached_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(StorageUnavailableError) as raised:
        audit_database(url)

    assert "\n" not in str(raised.value)
    assert "sec" not in str(raised.value)


def test_settings_of_the_database_do_not_matter(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[Rows] = []

    class Watched(Database):
        def run(self, *arguments: Any, **options: Any) -> list[Rows]:
            rows = super().run(*arguments, **options)
            timeouts.extend(super().run("SHOW statement_timeout"))
            return rows

    monkeypatch.setattr("benefits_postgres.audit.Database", Watched)
    run(url, "UPDATE orders SET cancelled_by = '' WHERE order_number = 1")
    settings = {"datestyle": "German", "timezone": "Asia/Tokyo", "statement_timeout": "5min"}

    audit = audit_database(url + "".join(f"%20-c{name}%3D{value}" for name, value in settings.items()))

    assert audit.findings == (f"order 1: the signature of its cancellation is invalid: '', {NOON!r}",)
    assert timeouts == [[("0",)]] * len(timeouts)


def test_standby_can_be_audited() -> None:
    with new_server() as primary:
        with PostgresStore(primary.url()) as store:
            with_two_orders(store)
        primary.psql("UPDATE orders SET total = 1 WHERE order_number = 2")
        standby = primary.standby()

        assert audit_database(standby.url()) == Audit(
            (
                "user 'jo': the 50000 cents granted are not the balance of 37802 and the 12199 of all orders",
                "order 2: the total of 1 cents is not the 0 of its lines",
            ),
            users=1,
            orders=2,
            products=4,
        )
