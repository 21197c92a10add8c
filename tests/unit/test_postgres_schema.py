"""The tables in PostgreSQL: how they are created, by many processes at once, and brought up to date. And folded user ids."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benefits_core import GetUser, StorageUnavailableError, User
from benefits_postgres import PostgresStore, audit_database, fold_user_ids, schema, shown
from benefits_postgres.connection import Database
from benefits_service.databases import database_at
from benefits_service.user_ids import folded_user_id
from contract.builders import add_user, opening, order, stocked
from contract.processes import forked
from postgres_schemas import schema_url
from unit.postgres_stores import Waiting, running
from waiting import A_LONG_TIME, wait_for

PROCESSES = 10
LOCK = "SELECT pg_advisory_lock(hashtextextended('benefits_migrations', hashtext(current_schema())))"


@pytest.fixture
def url(tmp_path: Path, postgres_server: None) -> str:  # noqa: ARG001 - the server must run
    """Return the URL of an empty database."""
    return schema_url(tmp_path)


@pytest.fixture
def by_hand(url: str) -> Iterator[psycopg.Connection]:
    """Return a connection of a program that knows nothing of stores."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def tables(by_hand: psycopg.Connection) -> set[str]:
    """Return the names of all tables of the database."""
    rows = by_hand.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    return {str(name) for (name,) in rows}


def applied(by_hand: psycopg.Connection) -> list[str]:
    """Return the names of the migrations that were applied, in their sequence."""
    rows = by_hand.execute("SELECT name FROM benefits_migrations ORDER BY applied_at, name")
    return [str(name) for (name,) in rows]


def open_with_all_others(url: str, barrier: Barrier) -> None:
    """Open a store at the same moment as all other processes, and use it."""
    barrier.wait(A_LONG_TIME)
    with PostgresStore(url, patience=A_LONG_TIME) as store:
        add_user(store, f"user-{os.getpid()}")


def open_halfway(url: str, reached: Event) -> None:
    """Open a store, and stop for ever when the tables are there and the migration is not recorded."""
    run = Database.run

    def stop(database: Database, statements: str, *arguments: Any, **options: Any) -> Any:
        if statements.startswith("INSERT INTO benefits_migrations"):
            reached.set()
            time.sleep(A_LONG_TIME)
        return run(database, statements, *arguments, **options)

    Database.run = stop  # type: ignore[assignment,method-assign]
    PostgresStore(url)


class TestMigrations:
    def test_the_first_store_creates_the_tables(self, url: str, by_hand: psycopg.Connection) -> None:
        with PostgresStore(url) as store:
            assert store.users.page(1) == ()

        assert applied(by_hand) == list(schema.MIGRATIONS)
        assert audit_database(url).findings == ()

    def test_the_next_one_needs_no_lock_and_changes_nothing(
        self, url: str, by_hand: psycopg.Connection
    ) -> None:
        PostgresStore(url).close()
        by_hand.execute(LOCK)

        for create in True, False:
            PostgresStore(url, create=create).close()

    def test_many_processes_may_start_at_once(self, url: str, by_hand: psycopg.Connection) -> None:
        barrier = forked.Barrier(PROCESSES)
        processes = [
            forked.Process(target=open_with_all_others, args=(url, barrier)) for _ in range(PROCESSES)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(A_LONG_TIME)

        assert [process.exitcode for process in processes] == [0] * PROCESSES
        assert applied(by_hand) == list(schema.MIGRATIONS)
        assert audit_database(url).users == PROCESSES

    def test_one_that_is_killed_half_way_leaves_nothing_and_the_next_one_succeeds(
        self, url: str, by_hand: psycopg.Connection
    ) -> None:
        reached = forked.Event()
        process = forked.Process(target=open_halfway, args=(url, reached))
        process.start()
        assert reached.wait(A_LONG_TIME)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(A_LONG_TIME)

        assert tables(by_hand) == set()
        with PostgresStore(url, patience=A_LONG_TIME) as store:
            assert add_user(store, "jo") == store.users.get("jo")
        assert audit_database(url).findings == ()

    def test_one_that_fails_leaves_nothing(
        self, url: str, by_hand: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        migrations = {**schema.MIGRATIONS, "second": "CREATE TABLE second (x int); SELECT 1 / 0"}
        monkeypatch.setattr(schema, "MIGRATIONS", migrations)

        with pytest.raises(StorageUnavailableError, match=r"^postgresql://postgres@/.*: division by zero$"):
            PostgresStore(url)
        assert tables(by_hand) == set()

    def test_defaults_of_the_database_do_not_end_them(self, url: str, by_hand: psycopg.Connection) -> None:
        options = "-clock_timeout%3D1ms%20-cidle_in_transaction_session_timeout%3D1ms"
        store = PostgresStore(url.replace("options=", f"options={options}%20"))

        store.close()
        assert applied(by_hand) == list(schema.MIGRATIONS)

    @pytest.mark.parametrize("create", [True, False])
    def test_a_database_of_an_earlier_version_gets_what_it_lacks(
        self, url: str, by_hand: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, *, create: bool
    ) -> None:
        with PostgresStore(url) as store:
            jo = order(stocked(store), "jo", "gym")
        monkeypatch.setattr(
            schema, "MIGRATIONS", {**schema.MIGRATIONS, "second": "CREATE TABLE second AS SELECT 1 AS x"}
        )

        said: list[str] = []
        for _ in range(2):
            with database_at(url).open(said.append, create=create) as store:
                assert store.orders.of_user("jo") == (jo,)
        assert said == [f"{shown(url)} is of an earlier version; it is brought up to date."]
        assert applied(by_hand) == list(schema.MIGRATIONS)
        assert by_hand.execute("SELECT x FROM second").fetchall() == [(1,)]

    def test_a_newer_version_is_refused_by_name(self, url: str, by_hand: psycopg.Connection) -> None:
        PostgresStore(url).close()
        by_hand.execute("INSERT INTO benefits_migrations (name) VALUES ('from_the_future'), ('and_beyond')")

        for create in True, False:
            with pytest.raises(StorageUnavailableError) as refused:
                PostgresStore(url, create=create)
            assert str(refused.value) == (
                f"{shown(url)}: it was written by a newer version (and_beyond, from_the_future); use that version"
            )
            assert applied(by_hand)[-2:] == ["and_beyond", "from_the_future"]

    def test_a_newer_version_that_appears_while_a_store_waits_is_refused(
        self, url: str, by_hand: psycopg.Connection
    ) -> None:
        by_hand.execute(LOCK)
        with ThreadPoolExecutor() as pool:
            opening = pool.submit(PostgresStore, url)
            waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            wait_for(lambda: by_hand.execute(waiting).fetchone() is not None)
            by_hand.execute(
                "CREATE TABLE benefits_migrations AS SELECT 'from_the_future' AS name, now() AS applied_at"
            )
            by_hand.execute("SELECT pg_advisory_unlock_all()")
            with pytest.raises(StorageUnavailableError, match="newer version"):
                opening.result(A_LONG_TIME)
        assert tables(by_hand) == {"benefits_migrations"}

    def test_a_database_without_tables_is_refused_unless_it_may_be_created(
        self, url: str, by_hand: psycopg.Connection
    ) -> None:
        by_hand.execute("CREATE TABLE of_another_program (x int)")

        with pytest.raises(StorageUnavailableError) as refused:
            PostgresStore(url, create=False)
        assert str(refused.value) == (
            f"{shown(url)}: it has no tables of this program; benefits seed creates them"
        )
        assert tables(by_hand) == {"of_another_program"}

    def test_the_search_path_names_the_schema_in_which_it_all_is(
        self, url: str, by_hand: psycopg.Connection
    ) -> None:
        """Two companies may share a database: nothing of one is locked, or counted, for the other."""
        other = url.replace("folder_", "other_")
        [[mine]] = by_hand.execute("SELECT current_schema()").fetchall()
        by_hand.execute(f"CREATE SCHEMA {mine.replace('folder_', 'other_')}".encode())
        with PostgresStore(url, patience=A_LONG_TIME) as store, PostgresStore(other) as second:
            stocked(store)
            holding = Waiting(
                lambda work: work.grants.sums([]),
                lambda work: work.users.get_or_add(opening("new", 0)),
                lambda work: work.users.get_or_add(opening("jo", 0)),
            )
            with running(store.submit, holding):
                assert order(stocked(second), "jo", "gym").order_id == "1"
            assert store.users.page(9) == (User("jo", Decimal(0)), User("new", Decimal(0)))
            assert [user.user_id for user in second.users.page(9)] == ["jo"]


class TestFoldedUserIds:
    @pytest.fixture
    def store(self, url: str) -> Iterator[PostgresStore]:
        """Return a store in which JDoe has ordered, and al is there."""
        with PostgresStore(url, patience=A_LONG_TIME) as store:
            order(stocked(store), "JDoe", "netflix")
            GetUser(store)("al")
            yield store
            assert audit_database(url).findings == ()

    def ids(self, store: PostgresStore) -> list[str]:
        return [user.user_id for user in store.users.page(9)]

    def test_a_user_keeps_everything_under_the_folded_id(self, url: str, store: PostgresStore) -> None:
        assert fold_user_ids(url, folded_user_id) == 1
        assert self.ids(store) == ["al", "jdoe"]
        assert GetUser(store)("jdoe").product_ids == ("netflix",)
        assert [placed.user_id for placed in store.orders.of_user("jdoe")] == ["jdoe"]

    def test_a_second_time_changes_nothing_and_locks_nothing(
        self, url: str, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        fold_user_ids(url, folded_user_id)
        with by_hand.transaction():
            by_hand.execute("SELECT FROM users FOR UPDATE")
            assert fold_user_ids(url, folded_user_id) == 0
        assert self.ids(store) == ["al", "jdoe"]

    def test_ids_that_differ_only_by_case_are_named_and_nothing_changes(
        self, url: str, store: PostgresStore
    ) -> None:
        for name in ("jdoe", "AL", "Other"):
            GetUser(store)(name)

        with pytest.raises(StorageUnavailableError) as refused:
            fold_user_ids(url, folded_user_id)
        assert str(refused.value) == (
            f"{shown(url)}: user ids differ only by case: 'AL' and 'al'; 'JDoe' and 'jdoe'; rename all but one of each"
        )
        assert self.ids(store) == ["AL", "JDoe", "Other", "al", "jdoe"]

    def test_an_id_that_is_added_meanwhile_is_folded_or_named_too(
        self, url: str, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        """It is found once no change can add another one."""
        with ThreadPoolExecutor() as pool:
            with by_hand.transaction():
                by_hand.execute("INSERT INTO users SELECT 1000, 'JDOE', 0, 0")
                folding = pool.submit(fold_user_ids, url, folded_user_id)
                wait_for_table_lock(by_hand)
            with pytest.raises(StorageUnavailableError, match="'JDOE' and 'JDoe'"):
                folding.result(A_LONG_TIME)
        by_hand.execute("DELETE FROM users WHERE user_number = 1000")
        assert self.ids(store) == ["JDoe", "al"]

    def test_it_waits_for_an_order_and_the_next_one_waits_for_it(
        self, url: str, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        """A change locks its user long before it writes; nothing may come in between."""
        buying = Waiting(
            lambda work: work.users.lock(["JDoe"]), then=lambda work: work.users.rename("JDoe", "Renamed")
        )
        with ThreadPoolExecutor() as pool:
            with running(store.submit, buying):
                folding = pool.submit(fold_user_ids, url, folded_user_id)
                wait_for_table_lock(by_hand)
                later = store.submit(lambda work: work.users.get_or_add(opening("renamed")))
            assert folding.result(A_LONG_TIME) == 1

        assert later.result(A_LONG_TIME) == store.users.get("renamed")
        assert self.ids(store)[0] == "al"

    def test_a_database_that_can_not_be_written_to_is_named(
        self, url: str, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        by_hand.execute("ALTER TABLE users ADD CONSTRAINT forbidden CHECK (user_id <> 'jdoe')")
        with pytest.raises(StorageUnavailableError) as refused:
            fold_user_ids(url, folded_user_id)
        by_hand.execute("ALTER TABLE users DROP CONSTRAINT forbidden")

        assert str(refused.value).startswith(f"{shown(url)}: ")
        assert "forbidden" in str(refused.value)
        assert self.ids(store) == ["JDoe", "al"]


def wait_for_table_lock(by_hand: psycopg.Connection) -> None:
    """Return once a transaction waits for the table of users."""
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"
    wait_for(lambda: by_hand.execute(waiting).fetchone() is not None)
