"""What happens to real machines, done to real processes: kills, locks, full disks, files that come and go."""

from __future__ import annotations

import http.client
import os
import random
import resource
import signal
import socket
import sqlite3
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path

import attrs
import pytest

from benefits_core import OfferProducts, Order, PlaceOrder
from benefits_sqlite import SqliteStore, audit_database
from contract.builders import CATALOGUE
from contract.running import SEED, Service, answer_on, benefits, reserve_port, running, seed, start
from contract.stores import LASTING, StoreKind
from contract.storms import ITEMS, Storm, storming
from waiting import A_LONG_TIME, wait_for

OK, REFUSED, UNAVAILABLE = HTTPStatus.OK, HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE


@contextmanager
def write_lock_held(database: Path) -> Iterator[sqlite3.Connection]:
    """Hold SQLite's write lock, as another program might."""
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return where the database of a test lies."""
    return tmp_path / "benefits.db"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_order_that_was_answered_is_lost_by_killing_the_service(database: Path) -> None:
    """Twenty times ``kill -9`` of the whole service at random moments of a storm."""
    seed(database)
    dice = random.Random(20)  # noqa: S311 - which moment is no secret
    storm = Storm()
    for _ in range(20):
        service = start(database)
        service.wait_until_it_answers()
        storm.verify(
            database
        )  # while the service runs, so that it starts over the log as the kill has left it
        with storming([service], 8, storm):
            enough = len(storm.placed) + dice.randrange(1, 200)
            wait_for(lambda enough=enough: len(storm.placed) >= enough)  # type: ignore[misc]
            service.kill()

    storm.verify(database)
    assert set(storm.refused) <= {REFUSED}


def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(database: Path) -> None:
    clients = 8
    with running(database, traced=True) as service, storming([service], clients) as storm:
        wait_for(lambda: len(storm.placed) > 50)
        before = service.workers()
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(service.workers() - before) == 1)
        after = len(storm.placed)
        wait_for(lambda: len(storm.placed) > after + 200)

    assert storm.lost <= clients
    assert set(storm.refused) <= {REFUSED}
    storm.verify(database)


def kill_a_worker(service: Service) -> None:
    """Kill a worker, and wait for the one that replaces it."""
    before = service.workers()
    os.kill(min(before), signal.SIGKILL)
    wait_for(lambda: len(service.workers() - before) == 1)


def test_workers_that_are_killed_one_after_the_other_are_all_replaced(database: Path) -> None:
    with running(database) as service:
        files = Path(f"/proc/{service.process.pid}/fd")
        before = len(list(files.iterdir()))
        for _ in range(4):
            kill_a_worker(service)
        service.wait_until_it_answers()
        assert service.order("jo", "netflix").status == OK
        wait_for(lambda: len(list(files.iterdir())) <= before)  # nothing is left of those that died


def test_a_worker_that_dies_while_orders_wait_for_another_program_is_replaced_at_once(database: Path) -> None:
    with running(database) as service, ThreadPoolExecutor(8) as pool:
        with write_lock_held(database):
            waiting = [pool.submit(service.order, f"user-{number}", "netflix") for number in range(8)]
            wait_for(lambda: connections(service) >= 8)
            began = time.monotonic()
            kill_a_worker(service)
            assert time.monotonic() - began < service.seconds(4)  # others wait for five
        for order in waiting:
            with suppress(OSError, http.client.HTTPException):  # those that the killed one held
                assert order.result(A_LONG_TIME).status in {OK, UNAVAILABLE}


def test_a_service_that_can_not_replace_a_worker_ends(database: Path) -> None:
    """Then a service manager starts it again. Otherwise half of it would go on for ever, unnoticed."""
    with running(database, traced=True) as service:
        workers = service.workers()
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (4, 4))
        os.kill(min(workers), signal.SIGKILL)
        assert service.process.wait(A_LONG_TIME) == 2
        wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_killing_the_process_that_writes_loses_nothing_that_was_answered(database: Path) -> None:
    with running(database) as service, storming([service], 8) as storm:
        wait_for(lambda: len(storm.placed) > 50)
        service.process.kill()
        wait_for(lambda: service.listeners() == 0)

    assert set(storm.refused) <= {REFUSED, UNAVAILABLE}
    storm.verify(database)


def test_a_worker_that_dies_while_the_file_is_away_is_replaced_when_it_is_back(database: Path) -> None:
    aside = database.with_name("aside.db")
    with running(database) as service:
        assert service.order("known", "netflix").status == OK
        database.rename(aside)
        kill_a_worker(service)
        kill_a_worker(service)
        assert not database.exists()
        aside.rename(database)
        service.wait_until_it_answers()

        assert service.user("known")["product_ids"] == ["netflix"]


def test_a_stalled_client_does_not_keep_a_worker_alive_whose_parent_is_gone(database: Path) -> None:
    with running(database, workers=1, traced=True) as service:
        workers = service.workers()
        with socket.create_connection(("127.0.0.1", service.port)) as stalled:
            stalled.sendall(b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            wait_for(lambda: connections(service) == 1)
            service.process.kill()
            wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_workers_do_not_outlive_their_parent(database: Path) -> None:
    with running(database, traced=True) as service:
        workers = service.workers()
        service.process.kill()
        wait_for(lambda: service.listeners() == 0)
        wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_is_in_flight_and_ends_well(database: Path, how: signal.Signals) -> None:
    """SIGTERM as a supervisor sends it, Ctrl-C as a terminal does: to every process of the service."""
    with running(database) as service, ExitStack() as opened:
        with write_lock_held(database):
            in_flight = send_orders(service, 16, opened)
            began = time.monotonic()
            if how == signal.SIGINT:
                os.killpg(service.process.pid, how)
            else:
                service.process.send_signal(how)
            wait_for(lambda: not accepts(service))
        assert Counter(answer_on(one).status for one in in_flight) == {OK: 16}
        assert service.process.wait(A_LONG_TIME) == 0
        assert time.monotonic() - began < service.seconds(10)

    assert audit_database(str(database)).orders == 16


def send_orders(service: Service, number: int, opened: ExitStack) -> list[http.client.HTTPConnection]:
    """Send orders, each for another user; return the connections, which the stack closes, once the service has read all."""
    sent = [opened.enter_context(closing(service.send_order(f"user-{n}", "netflix"))) for n in range(number)]
    wait_for(lambda: connections(service) >= number)
    return sent


def connections(service: Service) -> int:
    """Return how many connections the service has accepted and read the request of: nothing of it waits to be read."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    local = f"0100007F:{service.port:04X}"
    return sum(1 for row in table if row[1] == local and row[3] == "01" and row[4].endswith(":00000000"))


def accepts(service: Service) -> bool:
    """Return whether the service still accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", service.port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_stop_under_a_storm_loses_nothing_that_was_answered(database: Path) -> None:
    with running(database) as service, storming([service], 8) as storm:
        wait_for(lambda: len(storm.placed) > 50)
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < service.seconds(10)

    storm.verify(database)


# What the first version had not.
NEWER = [
    "number_the_catalogue",
    "count_every_change_of_the_catalogue",
    "retire_products",
    "grant_money",
    "cancel_orders",
]


def older(database: Path) -> None:
    """Make a database as the first version made it."""
    from sqlite_utils import Database  # noqa: PLC0415

    from benefits_sqlite.schema import migrations  # noqa: PLC0415

    with closing(sqlite3.connect(database)) as connection:
        migrations.apply(Database(connection), stop_before=NEWER)


@pytest.mark.parametrize("prepare", [lambda _: None, older], ids=["new", "older"])
def test_services_that_start_together_migrate_once(database: Path, prepare: Callable[[Path], None]) -> None:
    prepare(database)
    with ExitStack() as stopping:
        services = [start(database) for _ in range(3)]
        for service in services:
            stopping.callback(service.stop)
        for service in services:
            service.wait_until_it_answers()
            assert service.user("jo") == {"balance": 500, "product_ids": []}
    with closing(sqlite3.connect(database)) as connection:
        names = connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id").fetchall()

    assert [name for [name] in names] == ["create_tables", *NEWER]


def test_while_another_program_holds_the_write_lock_reads_go_on_and_orders_get_503(
    database: Path,
) -> None:
    with running(database) as service, ThreadPoolExecutor(64) as pool:
        assert service.order("known", "netflix").status == OK
        with write_lock_held(database):
            waiting = [pool.submit(service.order, f"user-{number}", "netflix") for number in range(64)]
            wait_for(lambda: connections(service) >= 64)
            for _ in range(100):
                assert service.user("known")["product_ids"] == ["netflix"]
                assert service.request("GET", "/products").status == OK
                assert service.request("GET", "/healthz").status == OK
            answers = [order.result(A_LONG_TIME) for order in waiting]
        assert {(one.status, one.json["error"], one.headers["retry-after"]) for one in answers} == {
            (UNAVAILABLE, "storage_unavailable", "1")
        }

        assert service.order("user-1", "netflix").status == OK
    found = audit_database(str(database))
    assert (found.findings, found.users, found.orders) == ((), 2, 2)


def test_a_disk_without_room_refuses_orders_and_goes_on_reading(database: Path) -> None:
    """The file may not grow: what a full disk, or a limit on the size of files, comes to."""
    with running(database) as service:
        assert service.order("known", "netflix").status == OK
        processes = {service.process.pid, *service.workers()}
        limits = {process: resource.prlimit(process, resource.RLIMIT_FSIZE) for process in processes}
        for process, (_, hard) in limits.items():
            resource.prlimit(process, resource.RLIMIT_FSIZE, (1, hard))

        refused = [service.order(f"user-{number}", "netflix") for number in range(20)]
        assert {(one.status, one.json["error"]) for one in refused} == {(UNAVAILABLE, "storage_unavailable")}
        assert service.user("known")["product_ids"] == ["netflix"]
        assert service.request("GET", "/products").status == OK

        for process, limit in limits.items():
            resource.prlimit(process, resource.RLIMIT_FSIZE, limit)
        assert service.order("user-1", "netflix").status == OK

    found = audit_database(str(database))
    assert (found.findings, found.users, found.orders) == ((), 2, 2)


@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "replaced"])
def test_a_file_that_is_not_the_one_that_was_opened_is_never_answered_from(
    database: Path,
    replaced: bool,  # noqa: FBT001 - one of two ways
) -> None:
    aside = database.with_name("aside.db")
    with running(database) as service:
        assert service.order("known", "netflix").status == OK
        database.rename(aside)
        if replaced:
            other = database.with_name("other.db")
            seed(other)
            other.rename(database)

        for path in ("/users/known", "/users/new", "/products", "/healthz"):
            answer = service.request("GET", path)
            assert (answer.status, answer.json["error"]) == (UNAVAILABLE, "storage_unavailable")
        assert service.order("known", "spotify").status == UNAVAILABLE

        aside.rename(database)
        assert service.user("known")["product_ids"] == ["netflix"]
        assert service.order("known", "spotify").status == OK

    found = audit_database(str(database))
    assert (found.findings, found.users, found.orders) == ((), 1, 2)


def test_a_client_that_goes_away_leaves_its_order_whole_or_absent(database: Path) -> None:
    body = b'{"order":{"items":["netflix","spotify"],"user_id":"gone-%d"}}'
    head = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    dice = random.Random(9)  # noqa: S311 - where it is cut is no secret
    cut = 0
    with running(database) as service:
        for number in range(200):
            text = body % number
            whole = head % len(text) + text
            sent = whole if number % 2 else whole[: dice.randrange(len(whole))]
            cut += len(sent) < len(whole)
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(sent)  # and away, by a reset
        assert service.order("present", "netflix").status == OK

    found = audit_database(str(database))
    assert found.findings == ()
    assert 1 <= found.orders <= 1 + 200 - cut
    with SqliteStore(database) as store:
        for number in range(200):
            user = store.users.get(f"gone-{number}")
            assert user is None or user.product_ids == ("netflix", "spotify")


@pytest.mark.parametrize("users", [1, 64])
def test_64_clients_are_all_answered(database: Path, users: int) -> None:
    rounds = 5
    statuses: Counter[int] = Counter()

    def client(number: int) -> list[int]:
        answers = [service.order(f"user-{number % users}", item) for item in ITEMS[:rounds]]
        answers += [service.request("GET", f"/users/user-{number % users}") for _ in range(rounds)]
        return [answer.status for answer in answers]

    with running(database) as service, ThreadPoolExecutor(64) as pool:
        for answered in pool.map(client, range(64), timeout=A_LONG_TIME):
            statuses.update(answered)

    assert statuses == Counter({OK: rounds * (users + 64), REFUSED: rounds * (64 - users)})
    found = audit_database(str(database))
    assert (found.findings, found.users, found.orders) == ((), users, rounds * users)


@pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.name)
def test_a_clock_that_jumps_back_changes_neither_the_ids_nor_the_sequence(
    kind: StoreKind, tmp_path: Path
) -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    placed: list[Order] = []
    for days, product in zip((0, -1, -400, 3), CATALOGUE, strict=True):
        with kind.open(tmp_path) as store:
            OfferProducts(store)([attrs.evolve(product, price=Decimal(1))])
            place_order = PlaceOrder(store, now=lambda days=days: now + timedelta(days=days))  # type: ignore[misc]
            placed.append(place_order("jo", [product.product_id]))

    with kind.open(tmp_path) as store:
        assert store.orders.of_user("jo") == tuple(placed)
    assert len({order.order_id for order in placed}) == len(placed)


def directory(path: Path) -> None:
    path.mkdir()


def not_a_database(path: Path) -> None:
    path.write_bytes(b"Not a database, whatever its size. " * 1000)


def cut_short(path: Path) -> None:
    seed(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def newer(path: Path) -> None:
    seed(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('benefits', 'later', '')"
        )


@pytest.mark.parametrize("command", ["serve", "seed"])
@pytest.mark.parametrize("make", [directory, not_a_database, cut_short, newer])
def test_a_file_that_can_not_be_used_is_named_in_one_line_and_left_as_it_was(
    database: Path, make: Callable[[Path], None], command: str
) -> None:
    make(database)
    before = database.read_bytes() if database.is_file() else None
    # At the default port, a service may be running on this machine.
    arguments = (SEED,) if command == "seed" else ("--port", str(reserve_port()))

    done = benefits(command, *arguments, "--database", database)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"benefits: {database}: ")
    assert done.stderr.count("\n") == 1
    assert (database.read_bytes() if database.is_file() else None) == before


def test_an_empty_file_is_a_new_database(database: Path) -> None:
    database.touch()
    with running(database) as service:
        assert service.order("jo", "netflix").status == OK


@pytest.mark.slow
def test_a_backup_taken_in_a_storm_is_sound(database: Path, tmp_path: Path) -> None:
    with running(database) as service, storming([service], 8) as storm:
        for number in range(5):
            known = len(storm.placed)
            wait_for(lambda known=known: len(storm.placed) > known + 50)  # type: ignore[misc]
            copy = tmp_path / f"copy-{number}.db"
            before = len(storm.placed)
            assert benefits("backup", copy, "--database", database).returncode == 0
            found = audit_database(str(copy))
            assert found.findings == ()
            assert found.orders >= before
    storm.verify(database)
