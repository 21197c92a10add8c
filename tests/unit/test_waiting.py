"""Waiting for what others hold: tries until a deadline, SQLite's busy locks, and the lock between processes."""

from __future__ import annotations

import fcntl
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from benefits_sqlite.waiting import ProcessLock, unless_busy, wait_for
from waiting import A_LONG_TIME

# Takes the lock, says so, and keeps it until its input ends.
HOLDER = """
import sys, time
from benefits_sqlite.waiting import ProcessLock
lock = ProcessLock(sys.argv[1])
print(lock.acquire(time.monotonic() + 300), flush=True)
sys.stdin.read()
"""


def now() -> float:
    """Return a deadline that leaves one try."""
    return time.monotonic()


def much_later() -> float:
    """Return a deadline that never comes."""
    return time.monotonic() + A_LONG_TIME


class TestWaitFor:
    def test_it_tries_until_it_succeeds(self) -> None:
        outcomes = iter([False] * 10 + [True, False])

        assert wait_for(lambda: next(outcomes), much_later())
        assert list(outcomes) == [False]

    def test_it_gives_up_at_the_deadline(self) -> None:
        assert not wait_for(lambda: False, time.monotonic() + 0.01)

    def test_it_tries_once_even_if_the_deadline_is_past(self) -> None:
        assert wait_for(lambda: True, now() - 1)


class TestUnlessBusy:
    @pytest.fixture
    def connection(self, tmp_path: Path) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(tmp_path / "any.db", isolation_level=None, timeout=0)) as connection:
            yield connection

    def test_a_busy_lock_is_a_failed_try(self, tmp_path: Path, connection: sqlite3.Connection) -> None:
        begin = unless_busy(lambda: connection.execute("BEGIN IMMEDIATE"))
        with closing(sqlite3.connect(tmp_path / "any.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert not begin()
            other.execute("ROLLBACK")

        assert begin()
        assert connection.in_transaction

    def test_a_snapshot_that_is_too_old_to_write_is_a_failed_try(
        self, tmp_path: Path, connection: sqlite3.Connection
    ) -> None:
        """SQLite has further codes for that, which share their lowest byte."""
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM t").fetchall()
        with closing(sqlite3.connect(tmp_path / "any.db", isolation_level=None)) as other:
            other.execute("INSERT INTO t VALUES (1)")

        assert not unless_busy(lambda: connection.execute("INSERT INTO t VALUES (2)"))()

    def test_any_other_error_is_raised(self, connection: sqlite3.Connection) -> None:
        with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
            unless_busy(lambda: connection.execute("SELECT * FROM nowhere"))()


def is_free(file: BinaryIO) -> bool:
    """Return whether a file is not locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


class TestProcessLock:
    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        return str(tmp_path / "lock")

    def test_one_at_a_time_has_it(self, path: str) -> None:
        with closing(ProcessLock(path)) as one, closing(ProcessLock(path)) as other:
            assert one.acquire(now())
            assert not other.acquire(now())
            one.release()
            assert other.acquire(now())
            assert not one.acquire(now())

    def test_a_process_that_releases_it_gets_it_again_after_the_one_that_waits(self, path: str) -> None:
        with (
            closing(ProcessLock(path)) as one,
            closing(ProcessLock(path)) as other,
            ThreadPoolExecutor() as pool,
        ):
            for _ in range(20):
                assert one.acquire(now())
                waiting = pool.submit(other.acquire, much_later())
                with Path(f"{path}-next").open("rb") as watched:
                    assert wait_for(lambda file=watched: not is_free(file), much_later())  # type: ignore[misc]
                one.release()
                assert not one.acquire(now())
                assert waiting.result()
                other.release()

    def test_closing_releases_it(self, path: str) -> None:
        with closing(ProcessLock(path)) as other:
            with closing(ProcessLock(path)) as one:
                assert one.acquire(now())
            assert other.acquire(now())

    def test_releasing_what_is_not_held_does_nothing(self, path: str) -> None:
        with closing(ProcessLock(path)) as one, closing(ProcessLock(path)) as other:
            assert one.acquire(now())
            other.release()
            assert not other.acquire(now())

    def test_its_files_stay_and_what_is_in_them_too(self, path: str) -> None:
        files = [Path(f"{path}-lock"), Path(f"{path}-next")]
        for file in files:
            file.write_text("kept")
        with closing(ProcessLock(path)) as lock:
            assert lock.acquire(now())

        assert [file.read_text() for file in files] == ["kept", "kept"]

    def test_a_child_process_does_not_inherit_it(self, path: str) -> None:
        child = "import sys; print('running', flush=True); sys.stdin.read()"
        with closing(ProcessLock(path)) as lock:
            assert lock.acquire(now())
            process = subprocess.Popen(
                [sys.executable, "-c", child],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                close_fds=False,
            )
        with process, closing(ProcessLock(path)) as other:
            assert process.stdout
            assert process.stdout.readline() == "running\n"
            assert other.acquire(now())
            process.communicate(timeout=A_LONG_TIME)

    @pytest.mark.parametrize("how", ["ended", "killed"])
    def test_another_process_holds_it_until_it_dies(self, path: str, how: str) -> None:
        with (
            subprocess.Popen(
                [sys.executable, "-c", HOLDER, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as holder,
            closing(ProcessLock(path)) as lock,
        ):
            assert holder.stdout
            assert holder.stdin
            assert holder.stdout.readline() == "True\n"
            assert not lock.acquire(now())
            if how == "killed":
                holder.send_signal(signal.SIGKILL)
            else:
                holder.stdin.close()

            assert lock.acquire(much_later())
