"""PostgreSQL behind PgBouncer: in its transaction mode, each transaction may get another session of the server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Barrier, Event
from typing import Final

import attrs
import psycopg
import pytest

from benefits_core import StorageUnavailableError
from benefits_postgres import PostgresStore
from contract.builders import CATALOGUE, add_user, order, stocked
from contract.running import Service, reserve_port, running
from contract.stores import PATIENCE, Kind, StoreKind

# These tests are run over PgBouncer too.
from contract.test_administration import TestCancelling, TestGrants  # noqa: F401
from contract.test_concurrency import TestRacingThreads  # noqa: F401
from contract.test_store import TestChange, TestOrders  # noqa: F401
from postgres_server import Server, new_server
from waiting import A_LONG_TIME, wait_for

# Debian installs it where users without rights do not look for programs.
PGBOUNCER: Final = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

# Without PgBouncer these tests are skipped. With REQUIRE_PGBOUNCER, which CI sets, they fail.
if PGBOUNCER is None and not os.environ.get("REQUIRE_PGBOUNCER"):
    pytest.skip(
        "NO PGBOUNCER, SO NOT TESTED: PostgreSQL behind it; apt-get install pgbouncer",
        allow_module_level=True,
    )

CLIENTS = 32
# It takes the server's sessions in turn, so that a transaction hardly ever gets the session of the one before. It has fewer
# of them than the stores of a test have connections.
_SETTINGS = """
[databases]
* = host={folder} port={port} auth_user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
admin_users = postgres
pool_mode = {mode}
default_pool_size = 3
server_round_robin = 1
server_login_retry = 1
server_idle_timeout = 5
max_client_conn = 1000
"""


@attrs.define
class Pooler:
    """A PgBouncer before a server.

    :ivar port: where it listens, at 127.0.0.1.
    """

    settings: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it answers."""
        assert PGBOUNCER, "REQUIRE_PGBOUNCER is set, and there is no PgBouncer"
        user = ("--user", "nobody") if os.geteuid() == 0 else ()  # it refuses to run as root
        command = (PGBOUNCER, "--quiet", *user, self.settings)
        with self.settings.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.settings.with_suffix(".log").read_text()
        try:
            self.run("SHOW VERSION")
        except psycopg.OperationalError:
            return False
        return True

    def run(self, command: str) -> None:
        """Run a command of its own."""
        with psycopg.connect(self.url("postgres", "pgbouncer"), autocommit=True) as connection:
            psycopg.ClientCursor(connection).execute(command.encode())

    def url(self, user: str, database: str = "postgres") -> str:
        """Return the URL of a database behind it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def end(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it, and with it all connections, and return once it has ended. SIGTERM would wait until all clients have left."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(A_LONG_TIME)


@contextmanager
def _pooler(server: Server, folder: Path, *, mode: str = "transaction") -> Iterator[Pooler]:
    pooler = Pooler(folder / f"{mode}.ini", reserve_port())
    users = folder / "users.txt"
    users.write_text('"postgres" ""\n', encoding="utf-8")
    settings = _SETTINGS.format(
        folder=server.folder, port=server.port, listen_port=pooler.port, users=users, mode=mode
    )
    pooler.settings.write_text(settings, encoding="utf-8")
    pooler.start()
    try:
        yield pooler
    finally:
        pooler.end()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server for the tests of this module."""
    with new_server() as started:
        yield started


@pytest.fixture(scope="module")
def pooler(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooler]:
    """Return a PgBouncer in transaction mode before that server."""
    with _pooler(server, tmp_path_factory.mktemp("pgbouncer")) as started:
        yield started


def _role(server: Server, folder: Path) -> str:
    """Return the name of a role and of its schema, which stand for a folder. It has no rights but to its schema."""
    # PgBouncer refuses the parameter of the URL that would choose a schema. By default, that of the role's name is used.
    name = f"folder_{sha256(bytes(folder)).hexdigest()[:32]}"
    if not server.psql(f"SELECT FROM pg_roles WHERE rolname = '{name}'"):
        server.psql(f"CREATE ROLE {name} LOGIN; CREATE SCHEMA {name} AUTHORIZATION {name}")
    return name


@pytest.fixture
def url(server: Server, pooler: Pooler, tmp_path: Path) -> str:
    """Return the URL of an empty database behind PgBouncer."""
    return pooler.url(_role(server, tmp_path))


@pytest.fixture
def kind(server: Server, pooler: Pooler) -> StoreKind:
    """Return the kind of stores whose connections lead through PgBouncer. The tests that are imported use it."""

    def opened(folder: Path, /, *, patience: float = PATIENCE) -> PostgresStore:
        return PostgresStore(pooler.url(_role(server, folder)), patience=patience)

    return Kind("pgbouncer", opened, lasting=True)


class TestSessions:
    def test_a_transaction_gets_another_session_than_the_one_before(self, url: str) -> None:
        """Otherwise, the other tests would prove nothing."""
        with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as two:
            with one.transaction(), two.transaction():
                for connection in one, two:
                    connection.execute("SELECT")
            ids = [one.execute("SELECT pg_backend_pid()", prepare=False).fetchone() for _ in range(4)]

        assert len(set(ids)) > 1

    def test_a_store_leaves_nothing_in_a_session(self, server: Server, url: str) -> None:
        with PostgresStore(url) as store:
            stocked(store)
            for number in range(9):
                order(store, f"user-{number}", "netflix")
                assert store.users.get(f"user-{number}")

        left = "SELECT name FROM pg_settings WHERE source = 'session'"
        of_pgbouncer = {"DateStyle", "TimeZone", "application_name", "client_encoding"}
        with psycopg.connect(url, autocommit=True) as connection:
            for _ in range(6):
                cursor = psycopg.ClientCursor(connection)
                # PgBouncer sets what a client has named when it connected.
                assert {name for (name,) in cursor.execute(left.encode())} <= of_pgbouncer
                assert cursor.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
        assert server.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"

    def test_statement_mode_is_refused_with_its_reason(self, server: Server, tmp_path: Path) -> None:
        with (
            _pooler(server, tmp_path, mode="statement") as pooler,
            pytest.raises(StorageUnavailableError, match="statement pooling mode"),
            PostgresStore(pooler.url(_role(server, tmp_path))) as store,
        ):
            add_user(store, "jo")


class TestRestart:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_a_store_goes_on_after_a_restart(self, pooler: Pooler, url: str, how: signal.Signals) -> None:
        with PostgresStore(url) as store:
            order(stocked(store), "jo", "netflix")
            pooler.end(how)
            with pytest.raises(StorageUnavailableError):
                order(store, "jo", "spotify")
            pooler.start()

            order(store, "jo", "spotify")

            user = store.users.get("jo")
            assert user is not None
            assert user.product_ids == ("netflix", "spotify")

    def test_a_store_goes_on_after_the_server_was_restarted(self, server: Server, url: str) -> None:
        with PostgresStore(url) as store:
            order(stocked(store), "jo", "netflix")
            server.restart()

            order(store, "jo", "spotify")

            assert store.users.get("jo") is not None

    def test_no_order_is_lost_or_placed_twice_while_it_is_killed_again_and_again(
        self, pooler: Pooler, url: str
    ) -> None:
        stop = Event()
        numbers = count()  # a step of it can't be interrupted

        def keep_ordering() -> list[str]:
            placed = []
            while not stop.is_set():
                user_id = f"user-{next(numbers)}"
                try:
                    order(store, user_id, "netflix")
                except StorageUnavailableError:
                    time.sleep(0.01)
                else:
                    placed.append(user_id)
            return placed

        with PostgresStore(url) as store, ThreadPoolExecutor(8) as pool:
            stocked(store)
            clients = [pool.submit(keep_ordering) for _ in range(8)]
            try:
                for _ in range(5):
                    time.sleep(0.3)
                    pooler.end(signal.SIGKILL)
                    pooler.start()
                time.sleep(0.3)
            finally:
                stop.set()
            placed = {user_id for client in clients for user_id in client.result()}
            users = store.users.page(10**9)

        assert placed
        assert placed <= {user.user_id for user in users}
        assert {user.product_ids for user in users} == {("netflix",)}


def test_a_standby_that_becomes_the_primary_is_used_where_the_url_allows_any(tmp_path: Path) -> None:
    """PgBouncer tells new clients for ever what its first server was; the URL has to leave the choice to PgBouncer."""
    with new_server() as primary, ExitStack() as stack:
        with PostgresStore(primary.url()) as store:
            stocked(store)
        standby = primary.standby()
        wait_for(lambda: standby.psql("SELECT count(*) FROM pg_tables WHERE tablename = 'catalogue'") == "1")
        pooler = stack.enter_context(_pooler(standby, tmp_path))
        with pytest.raises(StorageUnavailableError):
            PostgresStore(pooler.url("postgres"))
        with PostgresStore(f"{pooler.url('postgres')}?target_session_attrs=any") as store:
            assert store.products.list_all() == CATALOGUE
            with pytest.raises(StorageUnavailableError, match="recovery"):
                order(store, "jo", "netflix")
            primary.stop()
            standby.promote()

            assert order(store, "jo", "netflix").order_id


def test_of_32_identical_orders_at_two_services_one_is_placed(url: str, tmp_path: Path) -> None:
    barrier = Barrier(CLIENTS)

    def buy(service: Service) -> tuple[int, str]:
        barrier.wait(A_LONG_TIME)
        answer = service.order("twin", "netflix")
        return answer.status, answer.json.get("error", "placed")

    with running(url, folder=tmp_path) as one, running(url, folder=tmp_path) as two:
        with ThreadPoolExecutor(CLIENTS) as pool:
            outcomes = Counter(pool.map(buy, [one, two] * (CLIENTS // 2)))

        assert outcomes == {(200, "placed"): 1, (400, "products_already_purchased"): CLIENTS - 1}
        for service in one, two:
            assert service.user("twin") == {"balance": 424.01, "product_ids": ["netflix"]}
