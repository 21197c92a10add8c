"""Several machines over one PostgreSQL database: services in folders of their own, and what happens to them and to the server."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from threading import Barrier

import psycopg
import pytest

from benefits_postgres import PostgresStore, audit_database
from contract.running import Answer, Service, benefits, seed, start
from contract.storms import Storm, storming
from postgres_server import Server, new_server
from waiting import A_LONG_TIME, wait_for

KILLS = int(os.environ.get("KILLS", "30"))

OK, REFUSED, UNAVAILABLE = HTTPStatus.OK, HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_server() as server:
        yield server


@contextmanager
def services(folder: Path, *urls: str, workers: int = 1) -> Iterator[list[Service]]:
    """Run services over one database, each by its URL and as on a machine of its own.

    The block may replace one by another.
    """
    seed(urls[0])
    started: list[Service] = []
    try:
        started.extend(start(url, folder=folder, workers=workers) for url in urls)
        for service in started:
            service.wait_until_it_answers()
        yield started
    finally:
        for service in started:
            service.kill()


@pytest.fixture(scope="module")
def machines(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    """Return three services over one database."""
    with services(tmp_path_factory.mktemp("machines"), *[server.url()] * 3) as machines:
        yield machines


@pytest.fixture
def other(server: Server) -> Iterator[psycopg.Connection]:
    """Return a connection of another program."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        yield connection


def all_at_once(machines: Sequence[Service], orders: Sequence[tuple[str, str]]) -> list[Answer]:
    """Order at the machines in turn, all at the same moment: each order is a user and a product."""
    barrier = Barrier(len(orders))

    def place(number: int) -> Answer:
        barrier.wait(A_LONG_TIME)
        return machines[number % len(machines)].order(*orders[number])

    with ThreadPoolExecutor(len(orders)) as pool:
        return list(pool.map(place, range(len(orders))))


def wait_for_orders(storm: Storm, number: int) -> None:
    """Wait until so many further orders have been placed."""
    enough = len(storm.placed) + number
    wait_for(lambda: len(storm.placed) >= enough)


def count(connection: psycopg.Connection, what: str) -> int:
    row: tuple[int] | None = connection.execute(f"SELECT count(*) FROM {what}".encode()).fetchone()
    assert row is not None
    return row[0]


class TestRaces:
    def test_of_identical_orders_at_three_machines_exactly_one_is_placed(
        self, server: Server, machines: list[Service]
    ) -> None:
        for number in range(5):
            answers = all_at_once(machines, [(f"identical-{number}", "netflix")] * 32)

            placed, *refused = sorted(answers, key=lambda answer: answer.status)
            assert placed.status == OK
            assert {(one.status, one.json["error"]) for one in refused} == {
                (REFUSED, "products_already_purchased")
            }
            for machine in machines:
                assert machine.user(f"identical-{number}") == {"balance": 424.01, "product_ids": ["netflix"]}
        assert audit_database(server.url()).findings == ()

    def test_orders_of_one_user_at_three_machines_never_overdraw_the_balance(
        self, server: Server, machines: list[Service]
    ) -> None:
        prices = {one["id"]: one["price"] for one in machines[0].request("GET", "/products").json["products"]}
        for number in range(5):
            user_id = f"different-{number}"
            answers = all_at_once(machines, [(user_id, item) for item in prices])

            assert {answer.status for answer in answers} == {OK, REFUSED}
            user = machines[0].user(user_id)
            spent = sum(Decimal(str(prices[item])) for item in user["product_ids"])
            assert Decimal(str(user["balance"])) == 500 - spent
            assert len(user["product_ids"]) == sum(answer.status == OK for answer in answers)
        assert audit_database(server.url()).findings == ()

    def test_grants_to_a_thousand_users_while_they_order(
        self, server: Server, machines: list[Service], tmp_path: Path
    ) -> None:
        users = [f"user-{number}" for number in range(1000)]
        file = tmp_path / "budgets.csv"
        file.write_text("user_id,amount\n" + "".join(f"{user_id},7\n" for user_id in users))

        with storming(machines, 3, users=2_000) as storm:
            for reference in ("budget-1", "budget-2"):
                wait_for_orders(storm, 10)
                done = benefits("grant", reference, "--from", file, "--create", "--database", server.url())
                assert done.returncode == 0, done.stderr
            wait_for_orders(storm, 10)

        assert set(storm.refused) <= {REFUSED, UNAVAILABLE}
        assert storm.lost == 0
        storm.verify(server.url())
        with PostgresStore(server.url()) as store:
            assert set(store.grants.sums(users).values()) == {Decimal(514)}


@contextmanager
def held_row(other: psycopg.Connection, user_id: str) -> Iterator[None]:
    """Hold a user who exists, as an operator does with psql."""
    with other.transaction():
        assert other.execute("SELECT FROM users WHERE user_id = %s FOR UPDATE", [user_id]).rowcount == 1
        yield


@contextmanager
def held_newcomer(other: psycopg.Connection, user_id: str) -> Iterator[None]:
    """Hold a user who need not exist, as another machine does."""
    key = "hashtextextended(%s, 'users'::regclass::oid::bigint)"
    with other.transaction():
        other.execute(f"SELECT pg_advisory_xact_lock({key})".encode(), [user_id])
        yield


class TestHeldUsers:
    @pytest.mark.parametrize("hold", [held_row, held_newcomer])
    def test_orders_of_others_go_through_while_a_user_is_held(
        self,
        machines: list[Service],
        other: psycopg.Connection,
        hold: Callable[[psycopg.Connection, str], AbstractContextManager[None]],
    ) -> None:
        user_id = hold.__name__
        machines[0].user(user_id)
        with ThreadPoolExecutor(3) as pool:
            with hold(other, user_id):
                held = [pool.submit(machine.order, user_id, "netflix") for machine in machines]
                for number in range(6):
                    assert machines[number % 3].order(f"{user_id}-{number}", "netflix").status == OK
                assert not any(order.done() for order in held)
            statuses = Counter(order.result(A_LONG_TIME).status for order in held)

        assert statuses == {OK: 1, REFUSED: 2}

    def test_an_order_for_a_user_who_stays_held_is_refused_after_the_patience(
        self, machines: list[Service], other: psycopg.Connection
    ) -> None:
        with held_newcomer(other, "held-for-long"):
            assert machines[0].order("held-for-long", "netflix").status == UNAVAILABLE

        assert machines[1].order("held-for-long", "netflix").status == OK


def kill_a_backend(server: Server) -> None:
    """Kill a process that serves a connection. The server then ends all others, and recovers."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        victims = "SELECT pid FROM pg_stat_activity WHERE application_name = 'benefits'"
        victim: tuple[int] | None = connection.execute(victims.encode()).fetchone()
        assert victim is not None
        os.kill(victim[0], signal.SIGKILL)
        wait_for(lambda: not responds(connection))
    wait_for(lambda: accepts_connections(server))


def responds(connection: psycopg.Connection) -> bool:
    with suppress(psycopg.OperationalError):
        connection.execute("SELECT 1")
    return not connection.closed


def accepts_connections(server: Server) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(server.url()).close()
        return True
    return False


def crash(server: Server) -> None:
    server.kill()
    server.start()


def assert_well(machines: Sequence[Service]) -> None:
    """Wait until each worker of the machines places orders again."""
    for machine in machines:
        numbers = itertools.count()
        for _ in range(10):
            wait_for(lambda: machine.order(f"well-{machine.port}-{next(numbers)}", "netflix").status == OK)  # noqa: B023


class TestFaults:
    @pytest.mark.parametrize("fault", [Server.restart, kill_a_backend, crash])
    def test_services_outlive_what_happens_to_the_server_under_load(
        self, server: Server, machines: list[Service], fault: Callable[[Server], None]
    ) -> None:
        workers = [machine.workers() for machine in machines]
        with storming(machines, 6) as storm:
            wait_for_orders(storm, 30)
            fault(server)
            wait_for_orders(storm, 30)
        assert_well(machines)

        assert set(storm.refused) <= {REFUSED, UNAVAILABLE}
        assert storm.lost == 0
        assert [machine.workers() for machine in machines] == workers
        storm.verify(server.url())

    def test_a_service_that_dies_within_a_transaction_holds_no_user_any_more(
        self, server: Server, machines: list[Service], other: psycopg.Connection, tmp_path: Path
    ) -> None:
        with services(tmp_path, server.url(application_name="victim")) as [victim]:
            with storming([victim], 4) as storm:
                wait_for_orders(storm, 10)
                freeze_within_a_transaction(victim, other)
                assert machines[0].order("not-held", "netflix").status == OK
                victim.kill()
            wait_for(lambda: count(other, "pg_locks WHERE locktype = 'advisory'") == 0)

        with storming(machines[:1], 4) as after:
            wait_for_orders(after, 10)
        for one in storm, after:
            one.verify(server.url())
        assert set(storm.refused) <= {REFUSED, UNAVAILABLE}  # a clock does not stop with a process
        assert set(after.refused) <= {REFUSED}

    def test_every_order_that_was_answered_is_there_after_a_failover(self, tmp_path: Path) -> None:
        with new_server() as primary:
            standby = primary.standby(synchronous=True)
            # The standby comes first: a service has to find the server that accepts changes.
            url = primary.url(host=f"{standby.folder},{primary.folder}", port="5432,5432")
            with services(tmp_path, url, f"{url}&target_session_attrs=read-write") as machines:
                workers = [machine.workers() for machine in machines]
                with storming(machines, 4) as storm:
                    wait_for_orders(storm, 100)
                    primary.kill()
                    refused = storm.refused[UNAVAILABLE]
                    wait_for(lambda: storm.refused[UNAVAILABLE] > refused + 4)
                    standby.promote()
                    wait_for_orders(storm, 50)
                assert_well(machines)

                assert set(storm.refused) <= {REFUSED, UNAVAILABLE}
                assert storm.lost == 0
                assert [machine.workers() for machine in machines] == workers
                storm.verify(standby.url())


def freeze_within_a_transaction(service: Service, other: psycopg.Connection) -> None:
    """Stop the processes of a service when it holds users: between two statements of a transaction."""
    backends = "pg_stat_activity WHERE application_name = 'victim' AND state"
    while True:
        os.killpg(service.process.pid, signal.SIGSTOP)
        wait_for(lambda: count(other, f"{backends} = 'active'") == 0)
        if count(other, f"{backends} = 'idle in transaction'") and count(
            other, "pg_locks WHERE locktype = 'advisory'"
        ):
            return
        os.killpg(service.process.pid, signal.SIGCONT)
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_of_services_backends_and_servers_lose_no_order_that_was_answered(tmp_path: Path) -> None:
    """As many as the variable KILLS says."""
    dice = random.Random(100)  # noqa: S311 - which moment is no secret
    faults = [None] * 5 + [kill_a_backend] * 3 + [Server.restart, crash]
    storm = Storm()
    with new_server() as server, services(tmp_path, *[server.url()] * 2, workers=2) as machines:
        with storming(machines, 8, storm, users=100_000):
            for _ in range(KILLS):
                wait_for_orders(storm, dice.randrange(1, 60))
                fault, victim = dice.choice(faults), dice.randrange(2)
                if fault is not None:
                    fault(server)
                    continue
                machines[victim].kill()
                machines[victim] = start(server.url(), folder=tmp_path, workers=2)
                machines[victim].wait_until_it_answers()
        assert_well(machines)

        assert set(storm.refused) <= {REFUSED, UNAVAILABLE}
        storm.verify(server.url())
