"""One service at a time has an address, however both are started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Thread

import pytest

from contract.faults import require, run_as, serving
from contract.running import PROGRAM, Service, reserve_port
from waiting import A_LONG_TIME, wait_for

SERVE = [*PROGRAM, "serve"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return where the database of a test lies."""
    return tmp_path / "benefits.db"


def second_service(service: Service, host: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Start another service at the port of one, with a database of its own, and wait until it ends."""
    folder = service.database.parent / "second"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return subprocess.run(
        [*before, *SERVE, "--host", host, "--port", str(service.port), "--database", folder / "second.db"],
        capture_output=True,
        text=True,
        timeout=A_LONG_TIME,
        check=False,
    )


def in_use(host: str, port: int) -> str:
    """Return the line of a service that can't have its address."""
    return f"benefits: can't listen at {host} port {port}: Address already in use; see --host and --port\n"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),  # noqa: S104 - all addresses include that of the first
        ("127.0.0.1", "::"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - all addresses include that of the second
        ("::", "127.0.0.1"),
        ("::", "::1"),
    ],
)
def test_a_second_service_at_an_address_of_the_first_is_refused_in_one_line(
    database: Path, first: str, second: str
) -> None:
    with listening_at(first, database) as service:
        done = second_service(service, second)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", in_use(second, service.port))


@contextmanager
def listening_at(host: str, database: Path) -> Iterator[Service]:
    """Run a service that listens at an address, and that answers at 127.0.0.1."""
    port = reserve_port(host)
    with serving_anywhere(database, port, host) as process:
        service = Service(process, port, database, database, 2, time.monotonic())
        wait_for(service.answers_at_all)
        yield service


@contextmanager
def serving_anywhere(database: Path, port: int, host: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service at an address, without waiting for it."""
    process = subprocess.Popen(
        [*SERVE, "--host", host, "--port", str(port), "--database", database, "--workers", "2"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(A_LONG_TIME)


def test_a_second_service_of_another_user_is_refused_in_one_line(database: Path) -> None:
    require(os.geteuid() == 0, "this test needs another user: be root")
    with serving(database) as service:
        # The interpreter may lie where others may not read. What matters is who binds.
        bind = "import socket, sys; socket.create_server(('127.0.0.1', int(sys.argv[1])), reuse_port=True)"
        done = subprocess.run(
            [*run_as(65534), "/usr/bin/env", "python3", "-c", bind, str(service.port)],
            capture_output=True,
            text=True,
            timeout=A_LONG_TIME,
            check=False,
            cwd="/",
        )

    assert "Address already in use" in done.stderr


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_of_services_started_at_the_same_moment_one_serves(tmp_path: Path, attempt: int) -> None:
    """Several times, since they have to meet by chance."""
    port = reserve_port()
    processes: list[subprocess.Popen[str]] = []
    ended: list[tuple[int, str, str]] = []

    def run(number: int) -> None:
        database = tmp_path / f"{attempt}-{number}.db"
        process = subprocess.Popen(
            [*SERVE, "--port", str(port), "--database", database],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        out, err = process.communicate(timeout=A_LONG_TIME)
        ended.append((process.returncode, out, err))

    threads = [Thread(target=run, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(ended) == 3)
        wait_for(lambda: accepts(port))
        assert ended == [(2, "", in_use("127.0.0.1", port))] * 3
    finally:
        for process in processes:
            process.terminate()
        for thread in threads:
            thread.join(A_LONG_TIME)
    assert ended[-1][0] == 0


def accepts(port: int) -> bool:
    """Return whether a process listens at a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_of_processes_that_claim_an_address_at_the_same_moment_one_gets_it() -> None:
    """The same without all that makes them start at different times, and often."""
    program = (
        "import sys\n"
        "from benefits_service.runtime.address import claim\n"
        "for port in map(int, sys.argv[1:]):\n"
        "    sys.stdin.readline()\n"
        "    try:\n"
        "        held = claim('127.0.0.1', port)\n"
        "        print('claimed', flush=True)\n"
        "    except OSError as error:\n"
        "        print(error.strerror, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    ports = [str(reserve_port()) for _ in range(100)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, *ports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for _ in ports:
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in processes if process.stdout]
        assert sorted(answers) == ["Address already in use\n"] * 3 + ["claimed\n"]
    for process in processes:
        process.communicate("\n", timeout=A_LONG_TIME)


def test_a_restart_right_after_a_stop_gets_the_address_although_connections_are_still_closing(
    database: Path,
) -> None:
    with listening_at("127.0.0.1", database) as service:
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while connection.recv(1000):  # it is the service that closes
            pass
        connection.close()
    with serving_anywhere(database, service.port, "127.0.0.1") as process:
        again = Service(process, service.port, database, database, 2, time.monotonic())
        wait_for(again.answers_at_all)


def test_a_worker_that_is_stopped_does_not_hold_the_address_when_its_parent_is_killed(database: Path) -> None:
    with serving(database) as service:
        os.kill(min(service.workers()), signal.SIGSTOP)
        service.process.kill()
        service.process.wait(A_LONG_TIME)
        with serving(database) as after:
            wait_for(lambda: service.listeners() == 0)
            assert after.order("jo", "netflix").status == HTTPStatus.OK


def test_the_address_is_held_while_no_worker_lives_and_until_the_last_has_ended(database: Path) -> None:
    with serving(database) as service:
        database.rename(database.with_name("aside.db"))
        for worker in service.workers():
            os.kill(worker, 9)
        wait_for(lambda: service.listeners() == 0)
        assert second_service(service, "127.0.0.1").stderr == in_use("127.0.0.1", service.port)
        database.with_name("aside.db").rename(database)
        service.wait_until_it_answers()

        with socket.create_connection(("127.0.0.1", service.port)) as stalled:
            stalled.sendall(b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            service.process.kill()  # whose workers end only later
            service.process.wait(A_LONG_TIME)
            assert second_service(service, "127.0.0.1").stderr == in_use("127.0.0.1", service.port)
