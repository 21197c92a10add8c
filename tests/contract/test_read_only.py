"""Databases on a file system that is mounted read-only, with what a service or a copy has left beside them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from contract.faults import with_mounts

BENEFITS = (sys.executable, "-m", "benefits_service")


def on_read_only_mount(database: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command for the database, whose folder is mounted read-only."""
    folder = database.parent
    script = f"mount --bind '{folder}' '{folder}'; mount -o remount,ro,bind '{folder}'"
    return with_mounts(script, *BENEFITS, command, *arguments, "--database", database)


def leave(database: Path, *endings: str) -> Path:
    """Return a copy of the database as a process leaves it that is killed after a write, with some of its files."""
    folder = database.with_name("left")
    folder.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        with connection:
            connection.execute("INSERT INTO users VALUES (1, 'jo', 50000, 50000)")
            connection.execute(
                "INSERT INTO grants VALUES (1, 'opening', 0, 50000, 'benefits', '2026-07-01T12:00:00+00:00', '')"
            )
        for ending in ("", *endings):
            shutil.copy(f"{database}{ending}", folder)
    return folder / database.name


def touch(database: Path, *endings: str) -> Path:
    """Return the database with further files that are empty."""
    for ending in endings:
        Path(f"{database}{ending}").touch()
    return database


@pytest.mark.parametrize("endings", [(), ("-wal",), ("-journal",), ("-shm",), ("-wal", "-journal")])
def test_a_database_with_nothing_in_its_logs_is_checked_and_copied(
    database: Path, tmp_path_factory: pytest.TempPathFactory, endings: tuple[str, ...]
) -> None:
    touch(database, *endings)
    copy = tmp_path_factory.mktemp("copies") / "copy.db"
    for command in ("check",), ("backup", str(copy)):
        done = on_read_only_mount(database, *command)

        assert (done.returncode, done.stderr) == (0, "")


def test_what_only_the_log_holds_is_read_where_its_index_is_there_too(database: Path) -> None:
    done = on_read_only_mount(leave(database, "-wal", "-shm"), "check")

    assert (done.returncode, done.stderr) == (0, "")
    assert "1 user" in done.stdout


@pytest.mark.parametrize("command", [("check",), ("backup", "copy.db"), ("backup", "/tmp/copy.db")])  # noqa: S108
def test_a_log_that_can_not_be_read_there_is_an_error_that_says_what_to_copy(
    database: Path, command: tuple[str, ...]
) -> None:
    left = leave(database, "-wal")
    done = on_read_only_mount(left, *command)

    message = (
        f"{left}: its log can't be read in a folder that may not be written to;"
        f" copy it and {left.name}-wal to another folder"
    )
    assert (done.returncode, done.stderr) == (2, f"benefits: {message}\n")
