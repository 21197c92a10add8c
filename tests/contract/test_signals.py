"""Signals: what a terminal, a shell and a supervisor of services send."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from threading import Thread

import pytest

from benefits_sqlite import audit_database
from contract.faults import descendants, serving
from contract.running import answer_on, start
from contract.test_faults import send_orders, write_lock_held
from waiting import A_LONG_TIME, wait_for

OK = HTTPStatus.OK


@pytest.fixture(autouse=True, scope="module")
def hangup_is_not_ignored() -> Iterator[None]:
    """Let services begin as from a terminal, also where ``nohup`` has started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class Terminal:
    """A terminal in which a service runs, with a session of its own, and which can be closed."""

    def __init__(self, database: Path, *before: str) -> None:
        self._master, slave = os.openpty()
        self.said = b""
        self.service = start(
            database,
            before=["setsid", "--ctty", *before],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=False,
            cwd=database.parent,  # where nohup leaves a file
        )
        os.close(slave)
        self._reader = Thread(target=self._read)
        self._closing = False
        self._reader.start()

    def _read(self) -> None:
        os.set_blocking(self._master, False)
        while not self._closing:
            with suppress(OSError):  # there is nothing to read, or no process has it open any longer
                self.said += os.read(self._master, 65_536)
            time.sleep(0.01)

    def type(self, text: bytes) -> None:
        """Type something, such as Ctrl-C."""
        os.write(self._master, text)

    def close(self) -> None:
        """Close it, as the window of a terminal is closed."""
        if not self._closing:
            self._closing = True
            self._reader.join()
            os.close(self._master)


@contextmanager
def terminal(database: Path, *before: str) -> Iterator[Terminal]:
    """Run a service in a terminal."""
    with closing(Terminal(database, *before)) as opened:
        try:
            yield opened
        finally:
            if opened.service.process.poll() is None:
                opened.service.stop()


def test_when_its_terminal_closes_a_service_answers_what_is_in_flight_and_ends(database: Path) -> None:
    with terminal(database) as opened, ExitStack() as connections:
        service = opened.service
        service.wait_until_it_answers()
        with write_lock_held(database):
            in_flight = send_orders(service, 16, connections)
            opened.close()
            wait_for(lambda: service.listeners() == 0)
        assert {answer_on(one).status for one in in_flight} == {OK}
        assert service.process.wait(A_LONG_TIME) == 0
        assert not descendants(service.process.pid)
    assert audit_database(str(database)).orders == 16


def test_with_nohup_a_service_goes_on_when_its_terminal_closes(database: Path) -> None:
    with terminal(database, "nohup") as opened:
        service = opened.service
        service.wait_until_it_answers()
        workers = service.workers()
        opened.close()
        for number in range(20):
            assert service.order(f"user-{number}", "netflix").status == OK
        os.killpg(service.process.pid, signal.SIGHUP)
        for number in range(20):
            assert service.order(f"user-{number}", "spotify").status == OK
        assert service.workers() == workers
        os.kill(min(workers), signal.SIGKILL)  # the worker that replaces it ignores the signal too
        wait_for(lambda: len(service.workers() - workers) == 1)
        os.killpg(service.process.pid, signal.SIGHUP)
        service.wait_until_it_answers()
        assert service.stop() == 0


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.2])
def test_a_signal_to_all_processes_while_they_start_ends_them_without_a_traceback(
    database: Path, how: signal.Signals, seconds: float
) -> None:
    service = start(database, traced=False)
    wait_for(lambda: bool(service.workers()))
    time.sleep(seconds - 0.3)
    if how == signal.SIGTERM:
        service.process.send_signal(how)
    else:
        os.killpg(service.process.pid, how)

    assert service.process.wait(A_LONG_TIME) == 0
    assert "Traceback" not in service.log.read_text()
    assert "Unexpected exit" not in service.log.read_text()


def test_ctrl_c_in_a_terminal_ends_it_without_a_traceback(database: Path) -> None:
    with terminal(database) as opened:
        opened.service.wait_until_it_answers()
        opened.type(b"\x03")
        assert opened.service.process.wait(A_LONG_TIME) == 0
    assert b"Traceback" not in opened.said


def test_a_terminal_that_is_halted_delays_no_answer(database: Path) -> None:
    """Ctrl-S halts the output of a terminal until Ctrl-Q. A person may press it by chance."""
    with terminal(database) as opened:
        service = opened.service
        service.wait_until_it_answers()
        opened.type(b"\x13")
        for number in range(300):
            assert (
                service.request("GET", f"/{number}", **{"X-Request-ID": "a" * 128}).status
                == HTTPStatus.NOT_FOUND
            )
        opened.type(b"\x11")
        wait_for(lambda: service.request("GET", "/products") is not None and b"were lost" in opened.said)


def test_hangup_of_the_main_process_ends_the_service(database: Path) -> None:
    """Whoever has read Granian's documentation expects new workers."""
    service = start(database)
    service.wait_until_it_answers()
    assert service.stop(signal.SIGHUP) == 0
    assert all(json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{"))


def test_a_worker_that_dies_while_the_service_is_stopped_is_no_failure(database: Path) -> None:
    with serving(database) as service:
        os.kill(service.process.pid, signal.SIGSTOP)  # so that it learns of both at once
        os.kill(min(service.workers()), signal.SIGKILL)
        service.process.send_signal(signal.SIGTERM)
        os.kill(service.process.pid, signal.SIGCONT)
        assert service.process.wait(A_LONG_TIME) == 0
