"""``benefits copy``: everything goes from one database to another, whole and with sound books, or nothing does."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs
import psycopg
import pytest
from sqlite_utils import Database

from benefits_core import (
    CancelOrders,
    EraseUser,
    GrantMoney,
    OfferProducts,
    Product,
    RetireProducts,
    Signature,
    StorageUnavailableError,
    Store,
)
from benefits_core.copying import COLUMNS, Company, Row
from benefits_postgres import PostgresStore
from benefits_service.databases import database_at
from benefits_sqlite import SqliteStore
from benefits_sqlite.schema import migrations
from contract.builders import SIGNED, add_user, order, stocked
from contract.running import environment, reserve_port
from postgres_schemas import schema_url
from postgres_server import new_server
from unit.command import Command
from unit.postgres_proxy import Fault, lose_answer, lose_message, proxy_to
from waiting import A_LONG_TIME

pytestmark = pytest.mark.usefixtures("postgres_server")

# Ids of users, references and names that some format could take for something else.
TEXTS: Final = (
    'O\'Neill \\N \\\\ "quoted" %s {} ;--',
    "NULL",
    "\\.",
    "日本語 كلمة 👩\u200d👧 \u2028 \ufeff end",
    "a" * 64,
)
MOST: Final = Decimal("9999999999.99")


@attrs.frozen
class Place:
    """Where a company is, or is to be.

    :param location: what the command is given.
    """

    location: str

    @property
    def is_file(self) -> bool:
        return "://" not in self.location

    def store(self) -> AbstractContextManager[Store]:
        return SqliteStore(self.location) if self.is_file else PostgresStore(self.location)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement by hand, with which the constraints of the file are not verified."""
        if not self.is_file:
            with psycopg.connect(self.location, autocommit=True) as connection:
                cursor = connection.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []
        with closing(sqlite3.connect(self.location, isolation_level=None)) as file:
            file.execute("PRAGMA ignore_check_constraints = ON")
            return file.execute(statement).fetchall()

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows, or nothing if there is no file or no table."""
        if self.is_file and not Path(self.location).exists():
            return {}
        if not self.is_file and self.run("SELECT to_regclass('users')") == [(None,)]:
            return {}
        rows = {
            table: self.run(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1, 2")
            for table, columns in COLUMNS.items()
        }
        return {table: found for table, found in rows.items() if found}

    def copy_to(self, target: Place) -> None:
        with database_at(self.location).read_company() as company:
            assert database_at(target.location).write_company(company).findings == ()


KINDS: Final[dict[str, Callable[[Path], Place]]] = {
    "sqlite": lambda path: Place(f"{path}.db"),
    "postgres": lambda path: Place(schema_url(path)),
}


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a place of each kind, without a company."""
    return KINDS[request.param](tmp_path / "source")


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return another place of each kind."""
    return KINDS[request.param](tmp_path / "target")


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """Return a file with a company."""
    return with_company(KINDS["sqlite"](tmp_path / "file"))


@pytest.fixture
def server(tmp_path: Path) -> Place:
    """Return a PostgreSQL database with a company."""
    return with_company(KINDS["postgres"](tmp_path / "server"))


def with_company(place: Place) -> Place:
    """Return a place after everything has happened there that can happen in a company."""
    with place.store() as store:
        stocked(store)
        OfferProducts(store)([Product(text, text * 3, Decimal(number)) for number, text in enumerate(TEXTS)])
        for number, text in enumerate(TEXTS):
            operator = Signature(text, datetime(1 + number, 1, 1, microsecond=number, tzinfo=UTC), text)
            add_user(store, text, 1000)
            for letter in "zyx":  # whose sequence is not that of the references
                GrantMoney(store)(letter + text[1:], {text: Decimal(number)}, operator)
            order(store, text, *TEXTS[number:])
        add_user(store, "jo", 2000)
        order(store, "jo", "netflix", "spotify")
        CancelOrders(store)([order(store, "jo", "gym", "flu-shot").order_id], SIGNED)
        order(store, "jo", "flu-shot")
        add_user(store, "rich", 0)
        GrantMoney(store)("all", {"rich": MOST}, SIGNED)
        EraseUser(store)("NULL")
        RetireProducts(store)(["gym", TEXTS[0]], SIGNED)
        OfferProducts(store)([Product("gym", "Gym and pool", Decimal(410))])
    return place


def readings(place: Place) -> dict[str, object]:
    """Return all that the ports have to say."""
    with place.store() as store:
        users = store.users.page(100)
        return {
            "users": users,
            "grants": [store.grants.of_user(user.user_id) for user in users],
            "sums": store.grants.sums(user.user_id for user in users),
            "products": store.products.list_all(),
            "retired": store.products.retired(),
            "orders": store.orders.page(100),
            "orders of users": [store.orders.of_user(user.user_id) for user in users],
        }


class TestCopy:
    def test_everything_is_there_and_the_books_are_sound(
        self, benefits: Command, source: Place, target: Place
    ) -> None:
        before = readings(with_company(source))
        names = database_at(source.location).name, database_at(target.location).name

        assert benefits("copy", source.location, target.location) == (
            0,
            f"{names[1]} is a copy of {names[0]}: 7 users, 8 orders, 9 products.\n",
            "",
        )
        assert readings(target) == before == readings(source)
        assert database_at(target.location).audit().findings == ()

    def test_to_postgresql_and_back_every_row_is_the_same(
        self, file: Place, server: Place, tmp_path: Path
    ) -> None:
        """Numbers, positions and texts, down to how a moment is written."""
        there, back = KINDS["postgres"](tmp_path / "there"), KINDS["sqlite"](tmp_path / "back")
        again = KINDS["sqlite"](tmp_path / "again")
        file.copy_to(there)
        there.copy_to(back)
        server.copy_to(again)

        assert back.content() == file.content()
        assert {row[1:] for row in again.content()["users"]} >= {("jo", 200000, 187802)}
        assert sorted({row[2] for row in again.content()["grants"]}) == [0, 1, 2, 3]

    def test_ids_go_on_after_those_of_the_company(self, source: Place, target: Place) -> None:
        with_company(source).copy_to(target)
        with target.store() as store:
            last = int(store.orders.page(100)[-1].order_id)
            assert int(order(store, "jo", "gym").order_id) > last
            assert order(store, "new", "netflix").user_id == "new"
            GrantMoney(store)("last", {"jo": Decimal(1), TEXTS[0]: Decimal(1)}, SIGNED)
            references = [grant.reference for grant in store.grants.of_user(TEXTS[0])]

        assert references == ["opening", *(letter + TEXTS[0][1:] for letter in "zyx"), "last"]
        assert database_at(target.location).audit().findings == ()

    def test_a_number_that_an_order_was_given_and_that_was_not_kept_is_not_given_again(
        self, server: Place, tmp_path: Path
    ) -> None:
        [[drawn]] = server.run("SELECT max(nextval('order_numbers')) FROM generate_series(1, 50)")
        target = KINDS["postgres"](tmp_path / "target")
        server.copy_to(target)
        with target.store() as store:
            assert int(order(store, "jo", "gym").order_id) > drawn

    def test_a_company_without_anything_is_a_company(self, source: Place, target: Place) -> None:
        with source.store():
            pass
        source.copy_to(target)

        assert target.content() == {}
        with target.store() as store:
            assert order(stocked(store), "jo", "gym").order_id == "1"

    def test_it_is_of_one_moment(self, source: Place, target: Place) -> None:
        before = readings(with_company(source))
        with database_at(source.location).read_company() as company:
            with source.store() as store:
                order(store, "later", "netflix")
                GrantMoney(store)("later", {"jo": Decimal(1)}, SIGNED)
            assert database_at(target.location).write_company(company).findings == ()

        assert readings(target) == before != readings(source)

    def test_no_other_program_writes_to_the_database_meanwhile(self, file: Place, tmp_path: Path) -> None:
        target = KINDS["postgres"](tmp_path / "target")
        refused = []

        def write() -> None:
            for table in ("writers", *COLUMNS):
                with psycopg.connect(target.location) as connection:
                    connection.execute("SET lock_timeout = 1")
                    with pytest.raises(psycopg.errors.LockNotAvailable):
                        connection.execute(f"DELETE FROM {table}".encode())
                    refused.append(table)

        with database_at(file.location).read_company() as company:
            database_at(target.location).write_company(before_orders(company, write))

        assert len(refused) == 7
        assert target.content()["orders"]

    def test_the_file_is_read_only_by_its_owner_and_alone_in_its_folder(
        self, file: Place, tmp_path: Path
    ) -> None:
        (tmp_path / "folder").mkdir()
        file.copy_to(Place(f"{tmp_path}/folder/copy.db"))

        [copy] = (tmp_path / "folder").iterdir()
        assert copy.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(
        "moment", ["2026-07-01T14:30:00+02:30", "2026-07-01T12:00:00Z", "20260701T12+00"]
    )
    def test_a_moment_of_another_form_becomes_one_in_utc(
        self, file: Place, target: Place, moment: str
    ) -> None:
        file.run(f"UPDATE orders SET placed_at = '{moment}'")
        file.copy_to(target)
        with target.store() as store:
            assert {placed.placed_at for placed in store.orders.page(100)} == {SIGNED.at}

    def test_every_column_of_both_schemas_is_copied(self, file: Place, server: Place) -> None:
        """A new column needs an entry in ``COLUMNS``; a new table too, if it is not the store's own."""
        of_file = file.run(
            "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns"
            " WHERE tables.type = 'table'"
        )
        of_server = server.run(
            "SELECT table_name::text, column_name::text FROM information_schema.columns"
            " WHERE table_schema = current_schema()"
        )
        own = {"catalogue", "_sqlite_migrations", "sqlite_sequence", "benefits_migrations", "writers"}
        copied = {(table, column) for table, columns in COLUMNS.items() for column in columns}

        for columns in of_file, of_server:
            assert {(table, column) for table, column in columns if table not in own} - copied == set()
            assert copied <= set(columns)


def before_orders(company: Company, do: Callable[[], object]) -> Company:
    """Return a company that does something before its first order is read."""

    def rows(table: str) -> Iterator[Row]:
        if table == "orders":
            do()
        yield from company.rows(table)

    return attrs.evolve(company, rows=rows)


class TestRefusedSource:
    def refused(self, benefits: Command, source: Place, target: Place) -> str:
        """Return the error of a copy that fails and leaves nothing."""
        folder = Path(target.location).parent
        before = names(folder) if target.is_file else set()
        status, out, err = benefits("copy", source.location, target.location)

        assert (status, out, err.count("\n"), target.content()) == (2, "", 1, {})
        assert not target.is_file or names(folder) == before
        return err.removeprefix("benefits: ").removesuffix("\n")

    def test_a_file_that_is_not_there(self, benefits: Command, target: Place) -> None:
        error = self.refused(benefits, Place("no.db"), target)

        assert error == "no.db: there is no such file; name the database to copy from"

    def test_a_file_of_another_program(self, benefits: Command, target: Place) -> None:
        Place("other.db").run("CREATE TABLE notes (text)")
        error = self.refused(benefits, Place("other.db"), target)

        assert error == "other.db: it is the database of another program; name another file"

    @pytest.mark.parametrize("migration", ["number_the_catalogue", "cancel_orders"])
    def test_a_file_of_an_earlier_version(self, benefits: Command, target: Place, migration: str) -> None:
        with closing(Database("earlier.db")) as db:
            migrations.apply(db, stop_before=[migration])
        error = self.refused(benefits, Place("earlier.db"), target)

        assert (
            error == "earlier.db: it is empty or of an earlier version; `benefits serve` brings it up to date"
        )

    def test_a_server_without_tables(self, benefits: Command, target: Place, tmp_path: Path) -> None:
        error = self.refused(benefits, KINDS["postgres"](tmp_path / "nothing"), target)

        assert error.startswith("postgresql://postgres@/")
        assert error.endswith(": it is empty or of an earlier version; `benefits serve` brings it up to date")

    def test_a_file_with_a_second_name(self, benefits: Command, file: Place, target: Place) -> None:
        Path("second.db").hardlink_to(file.location)
        error = self.refused(benefits, Place("second.db"), target)

        assert error.endswith("SQLite keeps a log beside each; remove the other names, or copy the file")

    @pytest.mark.parametrize(
        "moment", ["2026-07-01 12:00", "now", "infinity", "2026-07-01", "0001-01-01T00:00+01:00"]
    )
    def test_what_is_no_moment(self, benefits: Command, file: Place, target: Place, moment: str) -> None:
        file.run(f"UPDATE orders SET placed_at = '{moment}' WHERE order_number = 3")
        error = self.refused(benefits, file, target)

        assert error == f"{file.location}: table orders: {moment!r} is no moment; see benefits check"

    @pytest.mark.parametrize("moment", ["infinity", "0001-01-01 BC", "10000-01-01"])
    def test_a_moment_that_python_does_not_know(
        self, benefits: Command, server: Place, target: Place, moment: str
    ) -> None:
        server.run(f"UPDATE orders SET placed_at = '{moment}'")
        error = self.refused(benefits, server, target)

        assert error.startswith(f"{database_at(server.location).name}: timestamp too ")

    def test_text_that_is_not_utf_8(self, benefits: Command, file: Place, target: Place) -> None:
        file.run("UPDATE products SET name = CAST(x'67FF' AS TEXT) WHERE product_id = 'gym'")
        error = self.refused(benefits, file, target)

        assert error.startswith(f"{file.location}: ")

    def test_a_file_that_is_damaged(self, benefits: Command, file: Place, target: Place) -> None:
        [[size]], [[root]] = (
            file.run("PRAGMA page_size"),
            file.run("SELECT rootpage FROM sqlite_schema WHERE name = 'orders'"),
        )
        with Path(file.location).open("r+b") as opened:
            opened.seek((root - 1) * size)
            opened.write(b"?" * size)
        error = self.refused(benefits, file, target)

        assert error == f"{file.location}: it is damaged; restore it from a backup"

    @pytest.mark.parametrize("column", ["balance = balance - 1", "granted = granted + 1"])
    def test_books_that_are_not_sound(
        self, benefits: Command, source: Place, target: Place, column: str
    ) -> None:
        with_company(source).run(f"UPDATE users SET {column} WHERE user_id = 'jo'")
        status, out, err = benefits("copy", source.location, target.location)
        *findings, last = err.splitlines()

        assert (status, out, target.content()) == (2, "", {})
        assert last == "benefits: nothing was copied, since the books are not sound; see benefits check"
        assert all(
            line.startswith(f"benefits: {database_at(source.location).name}: user 'jo': the ")
            for line in findings
        )
        assert findings

    def test_a_row_that_breaks_a_constraint(self, benefits: Command, file: Place, target: Place) -> None:
        file.run("UPDATE users SET balance = granted + 1 WHERE user_id = 'jo'")
        error = self.refused(benefits, file, target)

        assert error.startswith(f"{database_at(target.location).name}: ")
        assert "constraint" in error

    def test_a_text_that_postgresql_can_not_have(
        self, benefits: Command, file: Place, tmp_path: Path
    ) -> None:
        file.run("UPDATE products SET name = 'a' || char(0) || 'b' WHERE product_id = 'gym'")
        error = self.refused(benefits, file, KINDS["postgres"](tmp_path / "target"))

        assert error.endswith("PostgreSQL text fields cannot contain NUL (0x00) bytes")


def names(folder: Path) -> set[str]:
    """Return what is in a folder, without what lies beside a database in use."""
    return {
        entry.name
        for entry in folder.iterdir()
        if not entry.name.endswith(("-wal", "-shm", "-lock", "-next"))
    }


class TestRefusedTarget:
    @pytest.mark.parametrize("name", ["copy.db", "copy.db-wal", "copy.db-journal"])
    def test_a_file_that_exists(self, benefits: Command, file: Place, name: str) -> None:
        Path(name).write_text("precious")

        assert benefits("copy", file.location, "copy.db") == (
            2,
            "",
            f"benefits: {name}: it exists; name a new file for the copy\n",
        )
        assert Path(name).read_text() == "precious"
        assert names(Path()) - {name} == {"file.db"}

    def test_a_link_that_leads_nowhere(self, benefits: Command, file: Place) -> None:
        Path("copy.db").symlink_to("nowhere")

        assert benefits("copy", file.location, "copy.db")[0] == 2
        assert names(Path()) == {"file.db", "copy.db"}

    def test_the_log_of_a_database(self, benefits: Command, file: Place) -> None:
        assert benefits("copy", file.location, "file.db-wal")[0] == 2

    def test_a_folder_that_is_not_there(self, benefits: Command, file: Place) -> None:
        assert benefits("copy", file.location, "no/copy.db") == (
            2,
            "",
            "benefits: no/copy.db: its folder does not exist; create it first\n",
        )

    def test_a_file_that_appears_meanwhile_is_left_alone(self, file: Place, tmp_path: Path) -> None:
        copy = tmp_path / "copy.db"
        with (
            database_at(file.location).read_company() as company,
            pytest.raises(StorageUnavailableError, match=f"copy.db: {os.strerror(17)}"),
        ):
            database_at(str(copy)).write_company(before_orders(company, lambda: copy.write_text("precious")))

        assert copy.read_text() == "precious"
        assert names(tmp_path) == {"file.db", "copy.db"}

    @pytest.mark.parametrize(
        "make",
        [stocked, lambda store: add_user(store, "jo")],
        ids=["products", "a user"],
    )
    def test_a_server_with_a_company(
        self, benefits: Command, source: Place, tmp_path: Path, make: Callable[[Store], object]
    ) -> None:
        target = KINDS["postgres"](tmp_path / "target")
        with target.store() as store:
            make(store)
        before = target.content()
        status, out, err = benefits("copy", with_company(source).location, target.location)

        assert (status, out) == (2, "")
        assert err.endswith(": it has a company already; name an empty database for the copy\n")
        assert target.content() == before

    def test_the_same_database(self, benefits: Command, source: Place) -> None:
        before = with_company(source).content()

        assert benefits("copy", source.location, source.location)[0] == 2
        assert source.content() == before


class TestInterruption:
    def test_ctrl_c_leaves_nothing(self, file: Place, target: Place, tmp_path: Path) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        with database_at(file.location).read_company() as company, pytest.raises(KeyboardInterrupt):
            database_at(target.location).write_company(before_orders(company, interrupt))

        assert target.content() == {}
        assert names(tmp_path) == {"file.db"}
        file.copy_to(target)

    def test_killed_while_it_writes_it_leaves_nothing(
        self, file: Place, target: Place, tmp_path: Path
    ) -> None:
        killed = run(KILLED_AMONG_THE_ROWS, file.location, target.location)

        assert killed.returncode == -signal.SIGKILL
        assert target.content() == {}
        assert [name for name in names(tmp_path) - {"file.db"} if not name.endswith(".unfinished")] == []
        file.copy_to(target)

    def test_killed_at_any_step_it_leaves_no_file_or_a_whole_one(self, file: Place, tmp_path: Path) -> None:
        target, states = KINDS["sqlite"](tmp_path / "target"), list[dict[str, list[tuple[Any, ...]]]]()
        while not states or not states[-1]:
            done = run(KILLED_AT_A_STEP, file.location, target.location, len(states) + 1)
            assert done.returncode in {0, -signal.SIGKILL}, done.stderr
            states.append(target.content())

        assert len(states) > 4
        assert states == [*[{}] * (len(states) - 1), file.content()]

    def test_a_connection_that_is_lost_meanwhile_leaves_nothing(self, file: Place, tmp_path: Path) -> None:
        """Also what is written afterwards, on another connection, is not kept."""
        target = KINDS["postgres"](tmp_path / "target")
        with (
            database_at(file.location).read_company() as company,
            pytest.raises(StorageUnavailableError, match="the connection was lost"),
        ):
            database_at(target.location).write_company(
                before_orders(company, lambda: end_connections(target))
            )

        assert target.content() == {}
        file.copy_to(target)

    def test_a_source_that_is_lost_meanwhile_leaves_nothing(self, server: Place, tmp_path: Path) -> None:
        target = KINDS["sqlite"](tmp_path / "target")
        with (
            database_at(server.location).read_company() as company,
            pytest.raises(StorageUnavailableError, match="^postgresql://postgres@/.*: "),
        ):
            database_at(target.location).write_company(
                before_orders(company, lambda: end_connections(server))
            )

        assert names(tmp_path) == set()

    @pytest.mark.parametrize(("fault", "kept"), [(lose_answer, True), (lose_message, False)])
    def test_a_commit_whose_answer_is_lost_is_said_to_be_unknown(
        self, file: Place, fault: Fault, *, kept: bool
    ) -> None:
        with new_server(tcp_port=reserve_port()) as server, proxy_to(server.port) as proxy:
            direct = Place(server.url())
            with direct.store():
                proxy.faults.append(fault)
            lossy = server.url(host="127.0.0.1", port=proxy.port, sslmode="disable", gssencmode="disable")
            with (
                database_at(file.location).read_company() as company,
                pytest.raises(StorageUnavailableError, match="not known whether the copy was kept"),
            ):
                database_at(lossy).write_company(company)
            assert (direct.content() != {}) is kept


def end_connections(place: Place) -> None:
    """End all other connections of a server that are in a transaction, and return once they have noticed it."""
    ended = place.run(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE state LIKE 'idle in%'"
    )
    assert ended == [(True,)]


# Copies a company, and is killed when the first row of an order is read.
KILLED_AMONG_THE_ROWS = """
import os, signal, sys
import attrs
from benefits_service.databases import database_at

source, target = map(database_at, sys.argv[1:])
with source.read_company() as company:
    def rows(table):
        for row in company.rows(table):
            if table == "orders":
                os.kill(os.getpid(), signal.SIGKILL)
            yield row
    target.write_company(attrs.evolve(company, rows=rows))
"""

# Copies a company, and is killed at its given use of the unfinished file: the first, the second, and so on.
KILLED_AT_A_STEP = """
import os, signal, sys
from benefits_service.databases import database_at

def count(event, arguments):
    global steps_left
    if any(".unfinished" in str(argument) for argument in arguments):
        steps_left -= 1
        if steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

steps_left = int(sys.argv[3])
sys.addaudithook(count)
with database_at(sys.argv[1]).read_company() as company:
    database_at(sys.argv[2]).write_company(company)
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=A_LONG_TIME,
        check=False,
    )


class TestCommand:
    def test_it_shows_its_progress_on_a_terminal(
        self, benefits: Command, file: Place, target: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        status, out, err = benefits("copy", file.location, target.location)

        assert (status, out.count("\n")) == (0, 1)
        assert err.count("Copying ") > 2
        assert "Checking" in err.rpartition("100%")[0].rpartition("Copying ")[2]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("{file}", "postgresql://jo:secret@127.0.0.1:{port}/benefits"),
            ("postgresql://jo:secret@127.0.0.1:{port}/benefits", "copy.db"),
            ("{file}", "postgresql://jo@127.0.0.1:{port}/benefits?password=secret"),
            ("{file}", "postgresql://jo:%secret@host/benefits"),
            ("{file}", "copy.db", "postgresql://jo:secret@host/benefits"),
            ("{file}", "copy.db", "postgresql://host/benefits?user=jo&password=secret"),
            ("mysql://jo:se/c:secret@host/benefits", "copy.db"),
            ("{file}", "mysql://jo:secret@host/benefits"),
        ],
    )
    def test_no_password_is_printed(self, benefits: Command, file: Place, arguments: tuple[str, ...]) -> None:
        given = [part.format(file=file.location, port=reserve_port()) for part in arguments]
        status, out, err = benefits("copy", *given)

        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "secret" not in err

    def test_nor_if_all_is_well(self, benefits: Command, server: Place, tmp_path: Path) -> None:
        target = KINDS["postgres"](tmp_path / "target")
        urls = [place.location.replace("postgres@", "postgres:secret@") for place in (server, target)]
        status, out, err = benefits("copy", *urls)

        assert (status, err) == (0, "")
        assert out.startswith(f"{database_at(target.location).name} is a copy of ")
        assert "secret" not in out

    def test_without_psycopg_a_line_says_what_to_install(self, file: Place) -> None:
        script = (
            "import sys; sys.modules['psycopg'] = None; from benefits_service import main;"
            f" sys.argv = ['benefits', 'copy', {file.location!r}, 'postgresql://host/name']; main()"
        )
        done = run(script)

        assert (done.returncode, done.stdout, done.stderr) == (
            2,
            "",
            "benefits: the package psycopg is not installed; run: pip install 'benefits[postgres]'\n",
        )
