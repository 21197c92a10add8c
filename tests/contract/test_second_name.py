"""A database with a second name: a hard link, or a mount of the file without its folder."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

import pytest

from benefits_sqlite.second_name import find_second_name
from contract.faults import with_mounts
from contract.running import PROGRAM, SEED, benefits, running

HARD_LINKS = "it has 2 names (hard links), and SQLite keeps a log beside each"
MOUNTED = "it is mounted without its folder, so SQLite's log is not kept beside the original"

WRITING: Sequence[Sequence[str | Path]] = [
    ("serve", "--port", "1"),
    ("seed", SEED),
    ("seed", "--if-empty", SEED),
]


def test_without_a_free_descriptor_no_second_name_is_seen(database: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert find_second_name(str(database)) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("arguments", WRITING, ids=["serve", "seed", "seed if empty"])
def test_a_file_with_a_second_hard_link_is_not_written_to(
    database: Path, arguments: Sequence[str | Path]
) -> None:
    other = database.with_name("other.db")
    other.hardlink_to(database)
    for path in (database, other):
        done = benefits(*arguments, "--database", path)

        message = f"benefits: {path}: {HARD_LINKS}; remove the other names, or copy the file\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_an_empty_file_with_a_second_hard_link_is_not_written_to(tmp_path: Path) -> None:
    database = tmp_path / "benefits.db"
    database.touch()
    database.with_name("other.db").hardlink_to(database)

    assert HARD_LINKS in benefits("seed", SEED, "--database", database).stderr
    assert database.read_bytes() == b""


def test_the_service_starts_once_the_second_hard_link_is_removed(database: Path) -> None:
    other = database.with_name("other.db")
    other.hardlink_to(database)
    other.unlink()
    with running(database) as service:
        assert service.order("jo", "netflix").status == HTTPStatus.OK


def test_a_symbolic_link_is_no_second_name(database: Path) -> None:
    link = database.with_name("link.db")
    link.symlink_to(database)

    assert benefits("seed", SEED, "--database", link).returncode == 0


def test_a_hard_link_that_is_made_later_does_not_end_a_service(database: Path) -> None:
    """Some backup programs make one for a while. Workers that start meanwhile open the file as before."""
    with running(database, workers=1) as service:
        database.with_name("other.db").hardlink_to(database)
        [worker] = service.workers()
        os.kill(worker, 9)
        service.wait_until_it_answers()
        assert service.order("jo", "netflix").status == HTTPStatus.OK


def mounted(database: Path, *arguments: str | Path, more: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command on a file that is mounted alone in another folder, as a container would see it."""
    inside = database.parent / "container" / "benefits.db"
    inside.parent.mkdir(exist_ok=True)
    inside.touch()
    mounts = f"mount --bind '{database}' '{inside}'\n{more}"
    return with_mounts(mounts, *PROGRAM, *arguments, "--database", inside)


@pytest.mark.parametrize("arguments", WRITING, ids=["serve", "seed", "seed if empty"])
def test_a_file_that_is_mounted_alone_is_not_written_to(
    database: Path, arguments: Sequence[str | Path]
) -> None:
    before = database.read_bytes()
    done = mounted(database, *arguments)

    inside = database.parent / "container" / "benefits.db"
    message = f"benefits: {inside}: {MOUNTED}; mount the folder instead\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
    assert database.read_bytes() == before


def test_a_new_file_that_is_mounted_alone_is_not_written_to(tmp_path: Path) -> None:
    database = tmp_path / "benefits.db"
    database.touch()

    assert MOUNTED in mounted(database, "seed", SEED).stderr
    assert database.read_bytes() == b""


def test_a_link_to_a_file_that_is_mounted_alone_is_refused_too(database: Path) -> None:
    inside = database.parent / "inside.db"
    inside.touch()
    link = database.parent / "link.db"
    link.symlink_to(inside)
    mounts = f"mount --bind '{database}' '{inside}'"

    done = with_mounts(mounts, *PROGRAM, "seed", SEED, "--database", link)

    assert (done.returncode, MOUNTED in done.stderr) == (2, True)


def test_a_folder_may_be_mounted(database: Path) -> None:
    """Also where the file alone was mounted before, and the mount of its folder hides that."""
    inside = database.parent / "container"
    more = f"mount --bind '{database.parent}' '{inside}'"
    done = mounted(database, "seed", SEED, more=more)

    assert (done.returncode, done.stderr) == (0, "")


def test_without_proc_a_file_is_written_to(database: Path) -> None:
    done = with_mounts("mount -t tmpfs none /proc", *PROGRAM, "seed", SEED, "--database", database)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_backup_of_a_file_with_a_second_name_says_what_it_may_lack(database: Path) -> None:
    inside, copy = database.parent / "container" / "benefits.db", database.with_name("copy.db")
    done = mounted(database, "backup", copy)

    warning = f"benefits: {inside}: {MOUNTED}; the copy lacks what only a log beside its other name holds\n"
    assert (done.returncode, done.stderr) == (0, warning)
    assert done.stdout == f"{copy} is a copy of {inside}.\n"


def test_check_of_a_file_with_a_second_name_says_what_it_may_not_see(database: Path) -> None:
    database.with_name("other.db").hardlink_to(database)
    done = benefits("check", "--database", database)

    remark = f"{database}: {HARD_LINKS}; what only a log beside its other name holds was not verified\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{remark}{database} is sound: 0 users, 0 orders, 15 products.\n"
