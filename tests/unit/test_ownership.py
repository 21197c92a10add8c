"""Owner and mode: what root creates beside a database, the user of the service can use."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benefits_core import StorageUnavailableError
from benefits_sqlite import SqliteStore
from contract.builders import order, stocked
from contract.running import SEED, benefits

SERVICE = 12_345
"""The user of the service, and its group. It needs no entry in a list of users."""

OTHER = 23_456

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder of the service's user, which that user can reach. Pytest's own folders are private."""
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, SERVICE, SERVICE)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def path(folder: Path) -> Path:
    """Return where the database of a test lies."""
    return folder / "benefits.db"


@contextmanager
def acting_as(user: int, *more_groups: int) -> Iterator[None]:
    """Act as another user, without rights, and with a strict umask."""
    umask, groups = os.umask(0o077), os.getgroups()
    os.setgroups(more_groups)
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(umask)


def order_as(user: int, path: Path, *more_groups: int) -> None:
    """Open a database and place an order as another user."""
    with acting_as(user, *more_groups), SqliteStore(path) as store:
        order(store, f"user {user}", "netflix")


def seed_as_root(path: Path) -> None:
    """Run ``umask 077; benefits seed``."""
    before = os.umask(0o077)
    try:
        assert benefits("seed", SEED, "--database", path).returncode == 0
    finally:
        os.umask(before)


def ownership(path: Path) -> tuple[int, int, int]:
    """Return the owner, the group and the permissions of a file."""
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def lock_files(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}-{kind}") for kind in ("lock", "next")]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_lock_files_that_root_creates_have_the_owner_and_the_mode_of_the_database(
    path: Path, mode: int
) -> None:
    path.touch()
    os.chown(path, SERVICE, OTHER)
    path.chmod(mode)
    seed_as_root(path)

    assert [ownership(file) for file in lock_files(path)] == [(SERVICE, OTHER, mode)] * 2
    order_as(SERVICE, path)


def test_lock_files_follow_a_database_whose_owner_changes(path: Path) -> None:
    seed_as_root(path)
    os.chown(path, SERVICE, SERVICE)
    seed_as_root(path)

    assert [ownership(file) for file in lock_files(path)] == [(SERVICE, SERVICE, 0o600)] * 2
    order_as(SERVICE, path)


def test_the_service_starts_once_the_database_alone_is_given_to_its_user(path: Path) -> None:
    seed_as_root(path)
    os.chown(path, SERVICE, SERVICE)

    order_as(SERVICE, path)
    assert [ownership(file) for file in lock_files(path)] == [(SERVICE, SERVICE, 0o600)] * 2


def test_a_new_database_and_its_lock_files_have_the_same_owner_and_mode(path: Path) -> None:
    seed_as_root(path)

    assert [ownership(file) for file in lock_files(path)] == [ownership(path)] * 2 == [(0, 0, 0o600)] * 2


def test_members_of_a_group_can_share_a_database(folder: Path, path: Path) -> None:
    with SqliteStore(path) as store:
        stocked(store)
    for file in lock_files(path):
        file.unlink()
    folder.chmod(0o770)
    os.chown(folder, SERVICE, OTHER)
    os.chown(path, SERVICE, OTHER)
    path.chmod(0o660)

    order_as(SERVICE, path, OTHER)
    assert [ownership(file) for file in lock_files(path)] == [(SERVICE, OTHER, 0o660)] * 2
    order_as(SERVICE + 1, path, OTHER)


def test_the_logs_that_a_member_of_the_group_creates_can_be_used_by_the_others(
    folder: Path, path: Path
) -> None:
    """Although the folder does not hand its group down."""
    with SqliteStore(path) as created:
        stocked(created)
    folder.chmod(0o770)
    os.chown(folder, SERVICE, OTHER)
    for file in folder.iterdir():
        os.chown(file, SERVICE, OTHER)
        file.chmod(0o660)

    with acting_as(SERVICE + 1, OTHER):
        store = SqliteStore(path)
    with store:
        assert [ownership(Path(f"{path}-{kind}")) for kind in ("wal", "shm")] == [
            (SERVICE + 1, OTHER, 0o660)
        ] * 2
        order_as(SERVICE, path, OTHER)


def test_a_lock_file_of_another_user_in_a_shared_folder_is_an_error_that_says_what_to_do(
    folder: Path, path: Path
) -> None:
    """In a folder such as ``/tmp``, only the owner of a file may remove it."""
    os.chown(folder, 0, 0)
    folder.chmod(0o1777)
    with SqliteStore(path) as store:
        stocked(store)
    os.chown(path, SERVICE, SERVICE)
    lock, _ = lock_files(path)
    lock.chmod(0o600)

    with pytest.raises(
        StorageUnavailableError, match=f"{lock}: it may not be opened; remove this empty file"
    ):
        order_as(SERVICE, path)


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_the_place_of_a_lock_file_does_not_give_another_file_away(
    folder: Path, path: Path, link: Callable[[Path, Path], None]
) -> None:
    """The owner of the folder could place it there, and root may change the owner of every file."""
    secret = folder / "secret"
    secret.touch()
    path.touch()
    os.chown(path, SERVICE, SERVICE)
    for file in lock_files(path):
        link(file, secret)
    benefits("seed", SEED, "--database", path)

    assert ownership(secret)[:2] == (0, 0)
