"""What becomes of a change on PostgreSQL whose COMMIT is lost, or whose connection, server or settings are not as usual."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partialmethod
from threading import Event
from typing import Final

import attrs
import psycopg
import pytest

from benefits_core import (
    BenefitsError,
    GrantMoney,
    InconsistentChangeError,
    OfferProducts,
    PlaceOrder,
    Product,
    StorageUnavailableError,
    UnitOfWork,
)
from benefits_postgres import PostgresStore, transaction
from benefits_postgres.connection import Database
from contract.builders import GYM, NETFLIX, NOON, SIGNED, add_user, buy, opening, order, stocked
from contract.running import reserve_port
from postgres_server import Server, new_server
from unit.postgres_proxy import Delay, Fault, Proxy, lose_answer, lose_message, lose_server, proxy_to
from waiting import A_LONG_TIME, wait_for

PATIENCE: Final = 60.0
UNKNOWN: Final = "it is not known whether that was kept"

# What an open transaction waits for, as pg_stat_activity calls it.
LOCK: Final = "wait_event_type = 'Lock'"
STANDBY: Final = "wait_event = 'SyncRep' AND application_name = 'benefits'"


@attrs.frozen
class Change:
    """A way to write, on a store that has the catalogue and the user jo.

    :param make: changes something; raises an error if it is done twice.
    :param table: to which it adds a row.
    :param condition: what is true of that row alone.
    """

    server: Server
    make: Callable[[PostgresStore], object]
    table: str
    condition: str

    def kept(self) -> int:
        """Return how often it was kept."""
        return count(self.server, f"SELECT count(*) FROM {self.table} WHERE {self.condition}")


def grant(store: PostgresStore) -> None:
    assert GrantMoney(store)("bonus", {"jo": Decimal(5)}, SIGNED).given == ("jo",)


CHANGES: Final = {
    "together": (lambda store: order(store, "jo", "netflix"), "orders", "true"),
    "alone": (grant, "grants", "reference = 'bonus'"),
}


@pytest.fixture(scope="module")
def module_server() -> Iterator[Server]:
    with new_server(tcp_port=reserve_port()) as server:
        yield server


@pytest.fixture
def server(module_server: Server) -> Server:
    """Return a server whose database is empty."""
    if not module_server.is_running:
        module_server.start()
    run(module_server, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return module_server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxy_to(server.port) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(proxy: Proxy, server: Server) -> Iterator[PostgresStore]:
    url = server.url(host="127.0.0.1", port=proxy.port, sslmode="disable", gssencmode="disable")
    with store_at(url) as store:
        yield store


@pytest.fixture
def store(server: Server) -> Iterator[PostgresStore]:
    with store_at(server.url()) as store:
        yield store


@contextmanager
def store_at(url: str) -> Iterator[PostgresStore]:
    """Open a store with the catalogue and the user jo."""
    with PostgresStore(url, patience=PATIENCE) as store:
        stocked(store)
        add_user(store, "jo")
        yield store


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest, server: Server) -> Change:
    """Return a change that shares its transaction with others, and one that does not."""
    return Change(server, *CHANGES[request.param])


@pytest.fixture
def other(server: Server) -> Iterator[psycopg.Connection]:
    """Return a connection of another program."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store find out within a moment whether a change was kept, or not at all."""
    monkeypatch.setattr(transaction, "_FINDING_OUT", 0.3)


def run(server: Server, statements: str, database: str = "postgres") -> psycopg.Cursor:
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        return connection.execute(statements.encode())


def count(server: Server, query: str) -> int:
    rows: list[tuple[int]] = run(server, query).fetchall()
    return rows[0][0]


def waits(server: Server, condition: str) -> bool:
    return count(server, f"SELECT count(*) FROM pg_stat_activity WHERE {condition}") == 1


@contextmanager
def in_one_batch(store: PostgresStore) -> Iterator[None]:
    """Keep changes waiting, so that those which are submitted in the block share a transaction."""
    begun, may_end = Event(), Event()

    def wait(_: UnitOfWork) -> None:
        begun.set()
        assert may_end.wait(A_LONG_TIME)

    held = store.submit(wait)
    assert begun.wait(A_LONG_TIME)
    yield
    may_end.set()
    held.result(A_LONG_TIME)


def order_in(user_id: str, *items: str) -> Callable[[UnitOfWork], None]:
    """Return a change that places an order together with others."""

    def place(work: UnitOfWork) -> None:
        work.users.get_or_add(opening(user_id))
        buy(work, user_id, *work.products.find(items).values())

    return place


class TestLostCommit:
    @pytest.mark.parametrize("fault", [lose_answer, lose_server])
    def test_a_change_whose_answer_is_lost_was_kept_and_is_not_run_again(
        self, proxy: Proxy, through_proxy: PostgresStore, change: Change, fault: Fault
    ) -> None:
        proxy.faults.append(fault)

        change.make(through_proxy)

        assert not proxy.faults
        assert change.kept() == 1

    def test_a_change_whose_commit_is_lost_is_run_again(
        self, proxy: Proxy, through_proxy: PostgresStore, change: Change
    ) -> None:
        proxy.faults.append(lose_message)

        change.make(through_proxy)

        assert not proxy.faults
        assert change.kept() == 1

    @pytest.mark.parametrize("then", [Delay.deliver, Delay.drop])
    def test_a_commit_that_may_still_arrive_is_waited_for(
        self,
        server: Server,
        proxy: Proxy,
        through_proxy: PostgresStore,
        change: Change,
        then: Callable[[Delay], None],
    ) -> None:
        delay = Delay()
        proxy.faults.append(delay)
        with ThreadPoolExecutor() as pool:
            made = pool.submit(change.make, through_proxy)
            assert delay.kept_back.wait(A_LONG_TIME)
            wait_for(lambda: waits(server, LOCK))
            assert not made.done()

            then(delay)

            made.result(A_LONG_TIME)
        assert change.kept() == 1

    def test_a_commit_that_never_arrives_is_waited_for_until_the_server_ends_its_transaction(
        self, server: Server, proxy: Proxy, through_proxy: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transaction, "_BEGIN", transaction._BEGIN.replace("10s", "1s"))  # noqa: SLF001 - to wait for less
        proxy.faults.append(Delay())

        order(through_proxy, "jo", "netflix")

        assert count(server, "SELECT count(*) FROM orders") == 1

    def test_the_outcome_is_found_out_although_that_answer_is_lost_too(
        self, proxy: Proxy, through_proxy: PostgresStore, change: Change
    ) -> None:
        proxy.faults += [lose_answer, lose_answer, lose_message]

        change.make(through_proxy)

        assert not proxy.faults
        assert change.kept() == 1

    @pytest.mark.usefixtures("hasty")
    @pytest.mark.parametrize(("fault", "kept"), [(lose_answer, 1), (lose_message, 0)])
    def test_the_outcome_is_unknown_if_the_database_stays_unreachable(
        self,
        proxy: Proxy,
        through_proxy: PostgresStore,
        change: Change,
        fault: Fault,
        kept: int,
    ) -> None:
        proxy.faults.append(proxy.then_unreachable(fault))

        with pytest.raises(StorageUnavailableError, match=UNKNOWN):
            change.make(through_proxy)

        assert change.kept() == kept
        proxy.is_open = True
        assert order(through_proxy, "jo", "flu-shot").items == ("flu-shot",)

    @pytest.mark.usefixtures("hasty")
    def test_no_change_of_a_batch_is_run_again_if_the_outcome_is_unknown(
        self, server: Server, proxy: Proxy, through_proxy: PostgresStore
    ) -> None:
        proxy.faults.append(proxy.then_unreachable(lose_answer))
        with in_one_batch(through_proxy):
            placed = [through_proxy.submit(order_in(f"user-{number}", "netflix")) for number in range(3)]

        for future in placed:
            with pytest.raises(StorageUnavailableError, match=UNKNOWN):
                future.result(A_LONG_TIME)
        assert count(server, "SELECT count(*) FROM orders") == 3

    def test_all_changes_of_a_batch_are_run_again_if_its_commit_is_lost(
        self, server: Server, proxy: Proxy, through_proxy: PostgresStore
    ) -> None:
        proxy.faults.append(lose_message)
        with in_one_batch(through_proxy):
            placed = [through_proxy.submit(order_in(f"user-{number}", "netflix")) for number in range(3)]

        for future in placed:
            future.result(A_LONG_TIME)
        assert count(server, "SELECT count(*) FROM orders") == 3


@contextmanager
def missing_standby(server: Server, other: psycopg.Connection) -> Iterator[None]:
    """Let each COMMIT wait for a standby that does not exist, until the block ends."""

    def use(names: str) -> None:
        other.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
        other.execute("SELECT pg_reload_conf()")

    def commit_until_one_waits() -> None:
        with psycopg.connect(server.url(), autocommit=True, application_name="probe") as connection:
            while not over.is_set():
                connection.execute("CREATE TEMPORARY TABLE probe ()")
                connection.execute("DROP TABLE probe")

    over = Event()
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(commit_until_one_waits)
        try:
            use("missing")
            wait_for(lambda: waits(server, "wait_event = 'SyncRep' AND application_name = 'probe'"))
            yield
        finally:
            over.set()
            use("")
            probe.result(A_LONG_TIME)


class TestMissingStandby:
    """A COMMIT waits for a synchronous standby without a limit, and other sessions see nothing of it before."""

    @pytest.mark.usefixtures("hasty")
    def test_a_commit_that_waits_for_a_standby_ends_within_a_limit(
        self,
        server: Server,
        other: psycopg.Connection,
        store: PostgresStore,
        change: Change,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(Database, "run", partialmethod(Database.run, limit=0.3))
        with (
            missing_standby(server, other),
            pytest.raises(StorageUnavailableError, match=UNKNOWN),
        ):
            change.make(store)

        wait_for(lambda: change.kept() == 1)

    @pytest.mark.usefixtures("hasty")
    def test_a_commit_that_no_standby_has_is_not_taken_for_kept(
        self, server: Server, other: psycopg.Connection, store: PostgresStore, change: Change
    ) -> None:
        """The server ends the wait, and the change can be seen, but a failover would lose it."""
        with missing_standby(server, other), ThreadPoolExecutor() as pool:
            made = pool.submit(change.make, store)
            wait_for(lambda: waits(server, STANDBY))
            other.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {STANDBY}".encode())

            with pytest.raises(StorageUnavailableError, match=UNKNOWN):
                made.result(A_LONG_TIME)
            assert change.kept() == 1


class TestLostConnection:
    @pytest.mark.parametrize("alone", [False, True])
    def test_a_change_whose_connection_breaks_before_it_is_kept_sees_what_others_have_done_meanwhile(
        self,
        server: Server,
        other: psycopg.Connection,
        store: PostgresStore,
        alone: bool,  # noqa: FBT001 - one of two ways
    ) -> None:
        """Its locks are gone with the connection. So nothing that it has read can be relied on."""
        intact = [True]
        with PostgresStore(server.url(), patience=PATIENCE) as elsewhere:

            def buy_netflix(work: UnitOfWork) -> None:
                if alone:
                    work.users.lock(["jo"])
                work.users.get_or_add(opening("jo"))
                products = work.products.find(["netflix"])
                if intact:
                    intact.clear()
                    break_transaction(other)
                    order(elsewhere, "jo", "gym")
                buy(work, "jo", *products.values())

            store.change(buy_netflix)

        user = store.users.get("jo")
        assert user is not None
        assert user.product_ids == ("gym", "netflix")
        assert user.balance == 500 - GYM.price - NETFLIX.price

    def test_a_change_whose_connection_breaks_while_it_waits_is_run_again(
        self, server: Server, other: psycopg.Connection, store: PostgresStore
    ) -> None:
        with ThreadPoolExecutor() as pool, other.transaction():
            other.execute("SELECT FROM users FOR UPDATE")
            made = pool.submit(grant, store)
            wait_for(lambda: waits(server, LOCK))
            killed = count(server, f"SELECT pid FROM pg_stat_activity WHERE {LOCK}")
            run(server, f"SELECT pg_terminate_backend({killed})")
            wait_for(lambda: waits(server, f"{LOCK} AND pid <> {killed}"))
            assert not made.done()
        made.result(A_LONG_TIME)
        assert Change(server, *CHANGES["alone"]).kept() == 1

    def test_idle_connections_that_a_restart_has_broken_are_replaced(
        self, server: Server, store: PostgresStore
    ) -> None:
        store.ping()
        server.restart()

        assert store.users.get("jo") is not None
        order(store, "jo", "netflix")
        server.restart()

        grant(store)
        assert store.submit_read(lambda view: view.users.get("jo")).result(A_LONG_TIME) is not None

    def test_a_server_that_is_away_is_found_when_it_is_back(
        self, server: Server, store: PostgresStore, change: Change
    ) -> None:
        server.stop()
        with pytest.raises(StorageUnavailableError) as refused:
            change.make(store)
        with pytest.raises(StorageUnavailableError):
            store.users.get("jo")
        server.start()

        change.make(store)

        assert "\n" not in str(refused.value)
        assert change.kept() == 1


def break_transaction(other: psycopg.Connection) -> None:
    """End the connection that is in a transaction and runs no statement."""
    query = "FROM pg_stat_activity WHERE state = 'idle in transaction'"
    assert other.execute(f"SELECT count(pg_terminate_backend(pid)) {query}".encode()).fetchone() == (1,)
    wait_for(lambda: other.execute(f"SELECT count(*) {query}".encode()).fetchone() == (0,))


def raise_in_transactions(other: psycopg.Connection, table: str, code: str, when: str = "true") -> None:
    """Let the server raise an error when a row is added to a table.

    :param code: the SQLSTATE of the error.
    :param when: a condition; ``nextval('attempts')`` counts the rows.
    """
    other.execute(
        f"""
        CREATE SEQUENCE attempts;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF {when} THEN RAISE EXCEPTION 'as the test' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()
        """.encode()
    )


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("23505", InconsistentChangeError),  # unique violation
            ("23514", InconsistentChangeError),  # check violation
            ("22003", StorageUnavailableError),  # number out of range
            ("25006", StorageUnavailableError),  # read-only transaction
            ("53100", StorageUnavailableError),  # disk full
            ("55P03", StorageUnavailableError),  # lock timeout
            ("57014", StorageUnavailableError),  # query cancelled
        ],
    )
    def test_a_change_that_the_server_refuses_raises_an_error_of_the_core(
        self,
        other: psycopg.Connection,
        store: PostgresStore,
        change: Change,
        code: str,
        error: type[BenefitsError],
    ) -> None:
        raise_in_transactions(other, change.table, code)

        with pytest.raises(error, match="^as the test$") as raised:
            change.make(store)

        assert type(raised.value) is error
        assert change.kept() == 0
        other.execute(f"DROP TRIGGER fail ON {change.table}".encode())
        change.make(store)

    @pytest.mark.parametrize("code", ["40001", "40P01"])
    def test_a_change_that_the_server_has_undone_because_of_another_one_is_run_again(
        self, server: Server, other: psycopg.Connection, store: PostgresStore, change: Change, code: str
    ) -> None:
        raise_in_transactions(other, change.table, code, when="nextval('attempts') < 3")

        change.make(store)

        assert change.kept() == 1
        assert count(server, "SELECT last_value FROM attempts") == 3

    def test_two_changes_that_wait_for_each_other_are_both_kept(
        self, server: Server, store: PostgresStore
    ) -> None:
        add_user(store, "al")
        locked = {"jo": Event(), "al": Event()}

        def lock(first: str, second: str) -> Callable[[UnitOfWork], None]:
            def do(work: UnitOfWork) -> None:
                work.users.lock([first])
                locked[first].set()
                assert locked[second].wait(A_LONG_TIME)
                runs.append(first)
                work.users.lock([second])
                buy(work, first, NETFLIX)

            return do

        runs: list[str] = []
        with PostgresStore(server.url(), patience=PATIENCE) as elsewhere:
            futures: list[Future[None]] = [
                store.submit(lock("jo", "al")),
                elsewhere.submit(lock("al", "jo")),
            ]
            for future in futures:
                future.result(A_LONG_TIME)

        assert len(runs) >= 3  # the one that was ended may overtake the other, and be ended again
        assert count(server, "SELECT count(*) FROM orders") == 2

    def test_the_server_refuses_one_change_of_a_batch_and_the_others_are_kept(
        self, server: Server, other: psycopg.Connection, store: PostgresStore
    ) -> None:
        raise_in_transactions(other, "orders", "23514", when=f"NEW.total = {GYM.price * 100}")
        with in_one_batch(store):
            placed = [store.submit(order_in(f"user-{item}", item)) for item in ("netflix", "gym", "spotify")]

        with pytest.raises(InconsistentChangeError):
            placed[1].result(A_LONG_TIME)
        placed[0].result(A_LONG_TIME)
        placed[2].result(A_LONG_TIME)
        assert count(server, "SELECT count(*) FROM orders") == 2

    def test_a_change_that_catches_the_error_of_a_failed_transaction_is_not_kept(
        self, server: Server, other: psycopg.Connection, store: PostgresStore
    ) -> None:
        """PostgreSQL would answer its COMMIT without an error, and roll it back."""
        raise_in_transactions(other, "orders", "53100")

        def place(work: UnitOfWork) -> None:
            work.users.lock(["jo"])
            buy(work, "jo", NETFLIX)
            with suppress(StorageUnavailableError):
                work.users.get("jo")

        with pytest.raises(StorageUnavailableError, match="as the test"):
            store.change(place)
        assert count(server, "SELECT count(*) FROM orders") == 0

    @pytest.mark.parametrize("table", ["writers", "users"])
    def test_a_store_whose_tables_were_away_goes_on_when_they_are_back(
        self, other: psycopg.Connection, store: PostgresStore, change: Change, table: str
    ) -> None:
        other.execute(f"ALTER TABLE {table} RENAME TO away".encode())
        with pytest.raises(StorageUnavailableError, match="does not exist"):
            change.make(store)
        other.execute(f"ALTER TABLE away RENAME TO {table}".encode())

        change.make(store)

        assert change.kept() == 1

    def test_a_server_that_accepts_no_further_connection_is_an_error(
        self, server: Server, other: psycopg.Connection, change: Change
    ) -> None:
        def allow(count: int) -> None:
            other.execute(f"ALTER ROLE clerk CONNECTION LIMIT {count}".encode())

        other.execute("CREATE ROLE clerk LOGIN IN ROLE pg_read_all_data, pg_write_all_data")
        try:
            with (
                store_at(server.url()),
                PostgresStore(server.url(user="clerk"), patience=PATIENCE) as limited,
            ):
                allow(0)
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'clerk'"
                )
                with pytest.raises(StorageUnavailableError, match='too many connections for role "clerk"'):
                    change.make(limited)
                allow(5)
                change.make(limited)
        finally:
            other.execute("DROP ROLE clerk")

    def test_a_sequence_that_is_behind_its_table_is_an_error(
        self, other: psycopg.Connection, store: PostgresStore
    ) -> None:
        last = order(store, "jo", "netflix").order_id
        other.execute(f"SELECT setval('order_numbers', {last}, false)".encode())

        with pytest.raises(InconsistentChangeError):
            order(store, "al", "netflix")


SETTINGS: Final = {
    "default_transaction_isolation": "'repeatable read'",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "idle_in_transaction_session_timeout": f"'{A_LONG_TIME}s'",
    "lock_timeout": "'1ms'",
    "statement_timeout": f"'{A_LONG_TIME}s'",
    "standard_conforming_strings": "off",
    "bytea_output": "'escape'",
    "IntervalStyle": "'iso_8601'",
    "DateStyle": "'SQL, DMY'",
    "TimeZone": "'Asia/Kolkata'",
}


class TestSettings:
    """Whatever a server, a database or a role has set."""

    @pytest.fixture(autouse=True)
    def _settings(self, server: Server) -> Iterator[None]:
        configure(server, *(f"SET {name} = {value}" for name, value in SETTINGS.items()))
        yield
        configure(server, "RESET ALL")

    @pytest.mark.parametrize(
        ("configured", "used"),
        [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
    )
    def test_a_change_is_as_durable_and_as_isolated_as_it_has_to_be(
        self, server: Server, change: Change, configured: str, used: str
    ) -> None:
        configure(server, f"SET synchronous_commit = {configured}")
        expected = {
            "synchronous_commit": used,
            "transaction_isolation": "read committed",
            "transaction_read_only": "off",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "10s",
        }
        with store_at(server.url()) as store:
            note_settings(server, change.table, expected)

            change.make(store)

        assert set(run(server, "SELECT * FROM seen").fetchall()) == set(expected.items())

    def test_a_change_that_runs_alone_waits_for_locks_as_long_as_its_patience(self, server: Server) -> None:
        with (
            store_at(server.url()) as store,
            psycopg.connect(server.url()) as other,
            ThreadPoolExecutor() as pool,
        ):
            other.execute("SET TRANSACTION READ WRITE; SELECT FROM users FOR UPDATE")
            made = pool.submit(grant, store)
            wait_for(lambda: waits(server, f"{LOCK} AND now() - state_change > '0.1 s'"))
            assert not made.done()
            other.rollback()
            made.result(A_LONG_TIME)

    def test_times_and_texts_come_back_as_they_were(self, server: Server) -> None:
        strange = Product("a\\'b", 'Läufer "x\\n" \\ %s {}', Decimal("1.50"))
        at = datetime(2026, 2, 1, 23, 59, 59, 999999, tzinfo=UTC)
        with store_at(server.url()) as store:
            OfferProducts(store)([strange])
            placed = PlaceOrder(store, now=lambda: at)("jo", [strange.product_id])
            GrantMoney(store)("it's\\", {"jo": Decimal(5)}, attrs.evolve(SIGNED, note="\\'"))

            assert store.products.list_all()[0] == strange
            assert store.orders.get(placed.order_id) == placed
            assert placed.placed_at == at
            assert [given.signature for given in store.grants.of_user("jo")][1:] == [
                attrs.evolve(SIGNED, note="\\'")
            ]
            assert store.grants.of_user("jo")[0].signature.at == NOON


def configure(server: Server, *settings: str) -> None:
    # From another database: in this one, transactions may be read-only.
    run(server, "; ".join(f"ALTER DATABASE postgres {setting}" for setting in settings), "template1")


def note_settings(server: Server, table: str, names: dict[str, str]) -> None:
    """Let the server note these settings when a row is added to a table."""
    statements = f"""
        CREATE TABLE seen (name text, value text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO seen SELECT name, current_setting(name) FROM unnest(ARRAY{list(names)}) AS name;
            RETURN NEW;
        END $$;
        CREATE TRIGGER note BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION note()
        """
    run(server, f"SET transaction_read_only = off; {statements}")
