"""Waiting has a limit, whatever holds the store: another program, a process that is stopped, a disk that hangs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from benefits_sqlite import audit_database
from contract.faults import impatient, require, serving
from contract.running import Answer, Service, answer_on, benefits, start
from contract.storms import storming
from contract.test_faults import send_orders, write_lock_held
from waiting import A_LONG_TIME, wait_for

OK, UNAVAILABLE = HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE

PATIENCE = 10
"""How long a request may wait for its change to begin, in seconds, and four more for a busy machine."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return where the database of a test lies."""
    return tmp_path / "benefits.db"


@contextmanager
def stopped_while_holding(program: str, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until it prints a line, and stop it there; let it go on and end afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=A_LONG_TIME)


HOLD_A_FILE = """
import fcntl, sys
with open(sys.argv[1]) as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print('held', flush=True)
    sys.stdin.read()
"""

HOLD_THE_WRITE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()
"""


def health(service: Service) -> tuple[int, str]:
    """Return what the service says of its health."""
    answer = service.request("GET", "/healthz")
    return answer.status, answer.json["status"]


def is_refused_for_now(answer: Answer) -> bool:
    """Return whether an answer tells the client to try again."""
    return (answer.status, answer.json, "retry-after" in answer.headers) == (
        UNAVAILABLE,
        {"error": "storage_unavailable"},
        True,
    )


@pytest.mark.parametrize(
    ("program", "suffix"), [(HOLD_A_FILE, "-lock"), (HOLD_A_FILE, "-next"), (HOLD_THE_WRITE_LOCK, "")]
)
def test_while_a_stopped_process_holds_the_store_orders_are_refused_in_time_and_reads_go_on(
    database: Path, program: str, suffix: str
) -> None:
    with serving(database) as service, ThreadPoolExecutor(24) as pool:
        assert service.order("known", "netflix").status == OK
        assert health(service) == (OK, "ok")
        with stopped_while_holding(program, f"{database}{suffix}"):
            began = time.monotonic()
            waiting = [pool.submit(service.order, f"user-{number}", "netflix") for number in range(16)]
            waiting += [pool.submit(service.request, "GET", f"/users/new-{number}") for number in range(8)]
            for _ in range(50):
                assert service.user("known")["product_ids"] == ["netflix"]
                assert service.request("GET", "/products").status == OK
            assert health(service) == (OK, "read_only")
            assert all(is_refused_for_now(order.result(A_LONG_TIME)) for order in waiting)
            assert time.monotonic() - began < PATIENCE
            assert health(service) == (OK, "read_only")
            # A worker that starts meanwhile needs nothing of what is held.
            workers = service.workers()
            os.kill(min(workers), signal.SIGKILL)
            wait_for(lambda: len(service.workers() - workers) == 1)
            service.wait_until_it_answers()
            assert service.user("known")["product_ids"] == ["netflix"]
        for number in range(20):
            assert service.order(f"late-{number}", "netflix").status == OK
        wait_for(lambda: Counter(health(service) for _ in range(10)) == {(OK, "ok"): 10})

    found = audit_database(str(database))
    assert (found.findings, found.users, found.orders) == ((), 21, 21)


def test_a_stopped_process_that_holds_the_store_delays_no_command_for_ever(database: Path) -> None:
    with serving(database):
        pass
    with stopped_while_holding(HOLD_A_FILE, f"{database}-lock"):
        done = benefits("seed", Path(__file__).parents[2] / "seed.json", "--database", database)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert benefits("check", "--database", database).returncode == 0


def test_a_worker_that_was_stopped_places_no_order_whose_time_is_over(database: Path) -> None:
    """No timer runs in a process that is stopped. When it goes on, its clients may have left long ago."""
    with serving(database, workers=1) as service, ExitStack() as opened:
        [worker] = service.workers()
        with write_lock_held(database):
            in_flight = send_orders(service, 8, opened)
            # Which takes a second: by then, all of them wait for the lock.
            assert health(service) == (OK, "read_only")
            os.kill(worker, signal.SIGSTOP)
            time.sleep(7)  # longer than an order waits; a worker that is stopped for 10 s is replaced
        os.kill(worker, signal.SIGCONT)
        assert all(is_refused_for_now(answer_on(one)) for one in in_flight)
        assert service.workers() == {worker}

    assert audit_database(str(database)).orders == 0


def test_a_worker_that_stays_stopped_is_replaced_and_what_it_holds_is_free_again(database: Path) -> None:
    with serving(database) as service, storming([service], 8) as storm:
        wait_for(lambda: len(storm.placed) > 50)
        workers = service.workers()
        victim = min(workers)
        os.kill(victim, signal.SIGSTOP)
        wait_for(lambda: victim not in service.workers())
        wait_for(lambda: len(service.workers()) == 2)
        after = len(storm.placed)
        wait_for(lambda: len(storm.placed) > after + 100)

    assert storm.lost <= 8
    assert f"worker {victim} has done nothing for 10 s; it is killed" in service.log.read_text()
    storm.verify(database)


def test_a_worker_that_never_begins_to_serve_is_replaced(database: Path) -> None:
    with serving(database, program=impatient(START=20)) as service:
        before = service.workers()
        os.kill(min(before), signal.SIGKILL)
        wait_for(lambda: bool(service.workers() - before))
        [stuck] = service.workers() - before
        os.kill(stuck, signal.SIGSTOP)
        assert service.order("jo", "netflix").status == OK
        wait_for(lambda: stuck not in service.workers())
        service.wait_until_it_answers()


def slow_flushes(seconds: int) -> list[str]:
    """Return a command of strace that makes every flush to the disk take so many seconds."""
    require(shutil.which("strace"), "this test needs strace")
    flushes = "fsync,fdatasync"
    injection = f"inject={flushes}:delay_enter={seconds}s"
    return ["strace", "-f", "-o", "/dev/null", "-e", f"trace={flushes}", "-e", injection]


@contextmanager
def slow_disk(process: int, seconds: int) -> Iterator[None]:
    """Make every flush of a process to the disk take so many seconds."""
    tracer = subprocess.Popen([*slow_flushes(seconds), "-p", str(process)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr
    line = tracer.stderr.readline()
    require("attached" in line, f"this test needs the right to trace a process: {line}")
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait(A_LONG_TIME)
        tracer.stderr.close()


def test_while_the_disk_hangs_in_one_worker_orders_are_refused_in_time_and_the_rest_is_known_in_the_end(
    database: Path,
) -> None:
    """The change whose flush hangs has begun, so its client waits. All others are told in time, in every worker."""
    with serving(database) as service, ThreadPoolExecutor(40) as pool:
        assert service.order("known", "netflix").status == OK
        with slow_disk(min(service.workers()), 14):
            first = [pool.submit(service.order, f"first-{number}", "netflix") for number in range(20)]
            wait_for(lambda: health(service) == (OK, "read_only"))
            began = time.monotonic()
            others = [pool.submit(timed, service, f"other-{number}") for number in range(20)]
            for _ in range(50):
                assert service.user("known")["product_ids"] == ["netflix"]
            refused = [order.result(A_LONG_TIME) for order in others]
            assert all(is_refused_for_now(answer) and seconds < PATIENCE for answer, seconds in refused)
            assert time.monotonic() - began < PATIENCE + 2
            answers = [order.result(A_LONG_TIME) for order in first]
        assert all(answer.status == OK or is_refused_for_now(answer) for answer in answers)
        placed = sum(answer.status == OK for answer in answers)
        wait_for(lambda: service.order("late", "netflix").status == OK)

    found = audit_database(str(database))
    assert (found.findings, found.orders) == ((), placed + 2)


def timed(service: Service, user_id: str) -> tuple[Answer, float]:
    """Order something, and return how many seconds it took too."""
    began = time.monotonic()
    return service.order(user_id, "spotify"), time.monotonic() - began


def test_a_disk_that_hangs_at_the_start_ends_it_with_status_2(database: Path) -> None:
    hanging = [*slow_flushes(100), "--daemonize"]
    service = start(database, before=hanging, program=impatient(START=1), traced=True)
    try:
        wait_for(lambda: f"benefits: {database} could not be opened within 1 s\n" in service.log.read_text())
        # It would keep the process until the flush ends.
        os.kill(tracer_of(service.process.pid), signal.SIGKILL)
        assert service.process.wait(A_LONG_TIME) == 2
    finally:
        service.kill()


def tracer_of(process: int) -> int:
    """Return the process that traces another one."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in status if line.startswith("TracerPid:")]
    return int(line.split()[1])
