"""Output that can't be written: it stops no service, and hides nothing of what a command has done."""

from __future__ import annotations

import json
import os
import select
import socket
import sqlite3
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from benefits_service.output import Output, _write_if_ready
from benefits_sqlite import audit_database
from contract.faults import in_mount_namespace, serving
from contract.running import PROGRAM, SEED, Service, benefits, reserve_port
from waiting import A_LONG_TIME, wait_for

OK = HTTPStatus.OK


def damage(database: Path) -> None:
    """Make a balance wrong."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO users VALUES (1, 'jo', 50000, 49999)")


def run(command: str, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the shell, in which "$@" is the ``benefits`` command with its arguments."""
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command, "bash", *PROGRAM, *map(str, arguments)],
        capture_output=True,
        timeout=A_LONG_TIME,
        check=False,
        env=os.environ | variables,
    )


@pytest.mark.parametrize(
    ("redirection", "status", "error"),
    [
        ("> /dev/full", 2, b"benefits: can't write to standard output: No space left on device\n"),
        (">&-", 0, b""),
        (">&- 2>&- <&-", 0, b""),
        ("| true", 0, b""),
    ],
)
def test_check_of_a_sound_file_never_says_that_it_is_damaged(
    database: Path, redirection: str, status: int, error: bytes
) -> None:
    done = run(f'"$@" {redirection}', "check", "--database", database)

    assert (done.returncode, done.stderr) == (status, error)


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "2> /dev/full", "| true", "> /dev/full 2>&1"])
def test_check_of_a_damaged_file_says_so_by_its_status_whatever_becomes_of_its_output(
    database: Path, redirection: str
) -> None:
    damage(database)

    assert run(f'"$@" {redirection}', "check", "--database", database).returncode == 1


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "> /dev/full 2>&1", ">&- 2>&- <&-", "| true"])
def test_what_is_done_is_done_although_nothing_can_be_printed_about_it(
    tmp_path: Path, redirection: str
) -> None:
    database, copy = tmp_path / "new.db", tmp_path / "copy.db"

    seeded = run(f'"$@" {redirection}', "seed", SEED, "--database", database)
    copied = run(f'"$@" {redirection}', "backup", copy, "--database", database)

    assert [(done.returncode, done.stderr) for done in (seeded, copied)] == [(0, b""), (0, b"")]
    assert audit_database(str(copy)).products == 15


@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-", "> /dev/full 2>&1", ">&- 2>&- <&-"])
@pytest.mark.parametrize("arguments", [["check", "--database", "missing.db"], ["no-such-command"], []])
def test_a_mistake_has_status_2_although_its_message_can_not_be_printed(
    redirection: str, arguments: list[str]
) -> None:
    assert run(f'"$@" {redirection}', *arguments).returncode == 2


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_can_not_be_printed_is_no_success(option: str) -> None:
    assert run('"$@" > /dev/full', option).returncode == 2


def test_an_unforeseen_error_has_status_2_since_1_is_that_of_damage() -> None:
    program = (
        "import sys, benefits_service.commands.check as check\n"
        "check.require_database = lambda _: 1 / 0\n"
        "sys.argv = ['benefits', 'check']\n"
        "from benefits_service import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "ZeroDivisionError: division by zero")


@pytest.mark.parametrize("command", [["check"], ["backup", "copy.db"], ["seed", SEED], ["serve"]])
def test_an_error_of_the_system_is_one_line(command: list[str | Path]) -> None:
    port = ["--port", str(reserve_port())] if command == ["serve"] else []
    done = benefits(*command, *port, "--database", "a" * 300, traced=True)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{'a' * 300}: File name too long" in done.stderr


def test_a_pipe_that_another_program_has_made_non_blocking_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    before = Timer(0.2, os.read, [reader, 1 << 20])
    before.start()
    output = Output(writer, wait=True)
    output.write(b"done\n")
    before.join()

    assert (os.read(reader, 100), output.lost) == (b"done\n", 0)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "utf-8:strict"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_any_name_of_a_file_can_be_printed(tmp_path: Path, variables: dict[str, str]) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 " + "café \N{SNOWMAN}.db".encode()
    database, copy = os.fsdecode(name), os.fsdecode(name + b".copy")
    done = [
        run('"$@"', "seed", SEED, "--database", database, **variables),
        run('"$@"', "backup", copy, "--database", database, **variables),
        run('"$@"', "check", "--database", copy, **variables),
    ]
    assert [(one.returncode, one.stderr, one.stdout.count(b"\n")) for one in done] == [(0, b"", 1)] * 3
    assert all(rb"caf\udce9 " in one.stdout for one in done)


def test_the_name_of_a_file_in_an_error_is_one_line_and_moves_no_cursor(tmp_path: Path) -> None:
    done = benefits("check", "--database", tmp_path / "no\nsuch\x1b[31m.db")

    assert (done.returncode, done.stderr) == (
        2,
        (
            f"benefits: {tmp_path}/no\\nsuch\\x1b[31m.db: there is no such file; "
            "name another with --database, or create it with benefits seed\n"
        ),
    )


@pytest.mark.parametrize("options", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_a_service_serves_although_nothing_can_be_written(database: Path, options: list[str]) -> None:
    with Path("/dev/full").open("wb") as full, ExitStack() as stack:
        streams: dict[str, Any] = dict.fromkeys(options, full)
        service = stack.enter_context(serving(database, **streams))
        for number in range(20):
            assert service.order(f"user-{number}", "netflix").status == OK
        service.database.rename(service.database.with_suffix(".away"))
        assert service.request("GET", "/products").status == HTTPStatus.SERVICE_UNAVAILABLE  # which is logged
        service.database.with_suffix(".away").rename(service.database)
        assert service.stop() == 0


def test_a_service_serves_with_its_standard_streams_closed(database: Path) -> None:
    """What is opened next would have their numbers: a log line must never be written to the database."""
    before = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    with serving(database, before=before) as service:
        for number in range(20):
            assert service.order(f"user-{number}", "netflix").status == OK
        for process in (service.process.pid, *service.workers()):
            assert {Path(f"/proc/{process}/fd/{number}").readlink() for number in (0, 1, 2)} == {
                Path("/dev/null")
            }
        assert service.stop() == 0
    assert audit_database(str(database)).findings == ()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Return the two ends of a pipe."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


@contextmanager
def socket_pair() -> Iterator[tuple[int, int]]:
    """Return the two ends of a connection, as systemd gives one to a service for its log."""
    reader, writer = socket.socketpair()
    yield reader.fileno(), writer.detach()
    reader.close()


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Return the two ends of a terminal."""
    reader, writer = os.openpty()
    yield reader, writer
    os.close(reader)


@pytest.mark.parametrize("connected", [pipe, socket_pair, terminal])
def test_a_log_that_no_process_reads_delays_no_answer(
    database: Path, connected: Callable[[], AbstractContextManager[tuple[int, int]]]
) -> None:
    with connected() as (reader, writer), serving(database, workers=1, stderr=writer) as service:
        os.close(writer)
        for number in range(60):
            # Each is 20 lines of the log: far more than a pipe or a terminal holds.
            assert sum(request_twenty_times(service, f"{number}-" + "a" * 100)) == 20 * OK
        assert service.order("jo", "netflix").status == OK

        os.set_blocking(reader, False)
        text = b""

        def read_until(word: bytes) -> bool:
            nonlocal text
            try:
                text += os.read(reader, 100_000)
            except BlockingIOError:
                service.request("GET", "/products")
            return word in text

        wait_for(lambda: read_until(b"writes to the log were lost before this line"))
        wait_for(lambda: read_until(b"lost before this line: [Errno 11] Resource temporarily unavailable"))
        lines = text.replace(b"\r", b"").split(b"\n")
        assert all(json.loads(line) for line in lines[:-1])
        assert service.stop() == 0


def request_twenty_times(service: Service, request_id: str) -> Iterator[int]:
    """Send requests, on one connection each, and return the statuses."""
    for _ in range(20):
        yield service.request("GET", "/products", **{"X-Request-ID": request_id}).status


def test_a_reader_that_goes_away_stops_nothing(database: Path) -> None:
    with pipe() as (reader, writer), serving(database, stdout=writer, stderr=writer) as service:
        os.close(writer)
        os.dup2(os.open("/dev/null", os.O_RDONLY), reader)
        for number in range(50):
            assert service.order(f"user-{number}", "netflix").status == OK
        assert service.stop() == 0


def test_a_log_line_about_a_file_whose_name_is_not_utf_8_is_json(tmp_path: Path) -> None:
    database = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.db"))
    with serving(database) as service:
        database.rename(tmp_path / "away")
        assert service.request("GET", "/products").status == HTTPStatus.SERVICE_UNAVAILABLE
        wait_for(lambda: "storage unavailable" in service.log.read_text())
        (tmp_path / "away").rename(database)
        assert all(json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{"))
        assert "Logging error" not in service.log.read_text()


def test_a_second_service_says_in_one_line_why_it_ends_although_its_output_is_closed(database: Path) -> None:
    assert benefits("serve", "--host", "192.0.2.1", "--database", database).stderr.count("\n") == 1


def test_where_a_pipe_can_not_be_opened_again_a_write_takes_only_what_there_is_room_for() -> None:
    with pipe() as (reader, writer):
        assert _write_if_ready(writer, bytes(100_000)) == select.PIPE_BUF
        fill(writer)
        with pytest.raises(BlockingIOError):
            _write_if_ready(writer, b"more")
        assert os.read(reader, 1) == bytes(1)
        os.close(writer)


def fill(writer: int) -> None:
    """Write to a pipe or a terminal until it has no more room."""
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1))
    os.set_blocking(writer, True)


@pytest.mark.parametrize("connected", [pipe, socket_pair, terminal])
@pytest.mark.parametrize("reopened", [True, False])
def test_a_service_starts_although_no_process_reads_what_it_prints(
    database: Path,
    connected: Callable[[], AbstractContextManager[tuple[int, int]]],
    *,
    reopened: bool,
) -> None:
    # Another user's terminal can't be opened again.
    before = [] if reopened else in_mount_namespace("mount -t tmpfs none /proc")
    with connected() as (_, writer):
        fill(writer)
        with serving(database, before=before, traced=False, stdout=writer) as service:
            os.close(writer)
            assert service.order("jo", "netflix").status == OK
            assert service.stop() == 0


def test_a_service_starts_on_a_terminal_whose_output_is_stopped(database: Path) -> None:
    """As Ctrl-S does."""
    with terminal() as (_, writer):
        termios.tcflow(writer, termios.TCOOFF)
        with serving(database, stdout=writer, stderr=writer) as service:
            os.close(writer)
            for number in range(20):
                assert service.order(f"user-{number}", "netflix").status == OK
            assert service.stop() == 0
