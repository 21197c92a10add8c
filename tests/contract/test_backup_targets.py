"""Where a backup can go: file systems that can do little, and targets that are no regular files."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from benefits_core import StorageUnavailableError
from benefits_sqlite import SqliteStore, audit_database, back_up_database
from contract.faults import KILLED_AT_A_STEP, with_failing, with_mounts
from contract.running import SEED, benefits

# It writes no .pyc files: they would be renamed too.
BENEFITS = (sys.executable, "-B", "-m", "benefits_service")

# How file systems say that they have no hard links: FAT, network file systems, and a folder that is several mounts.
NO_LINKS = [f"?link,linkat:error={error}" for error in ("EPERM", "EOPNOTSUPP", "EXDEV")]

# How kernels and file systems say that they have no renaming without replacing.
NO_EXCLUSIVE_RENAMING = [f"renameat2:error={error}" for error in ("EINVAL", "ENOSYS")]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return where a copy is to be, in an empty folder."""
    folder = tmp_path / "copies"
    folder.mkdir()
    return folder / "copy.db"


def assert_whole(copy: Path) -> None:
    """Assert that a copy is sound, and alone in its folder."""
    assert audit_database(str(copy)).findings == ()
    assert [entry.name for entry in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize(
    "injections",
    [
        *([no_links] for no_links in NO_LINKS),
        *([NO_LINKS[0], no_renaming] for no_renaming in NO_EXCLUSIVE_RENAMING),
    ],
    ids=" ".join,
)
def test_without_hard_links_a_backup_is_made_and_never_replaces_a_file(
    database: Path, copy: Path, injections: Sequence[str]
) -> None:
    done = with_failing(injections, *BENEFITS, "backup", copy, "--database", database)

    assert (done.returncode, done.stderr) == (0, "")
    assert_whole(copy)

    # It is seen only when the copy gets its name, as is a file that has come meanwhile.
    copy.unlink()
    copy.symlink_to("nowhere")
    done = with_failing(injections, *BENEFITS, "backup", copy, "--database", database)

    assert done.returncode == 2
    assert done.stderr == f"benefits: {copy} exists; name another file, or use --overwrite\n"
    assert copy.readlink() == Path("nowhere")
    assert len(list(copy.parent.iterdir())) == 1


def test_without_hard_links_a_killed_backup_leaves_the_copy_absent_or_whole(
    database: Path, copy: Path
) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        script = (sys.executable, "-c", KILLED_AT_A_STEP, database, copy, "", str(step))
        killed = with_failing(NO_LINKS[:1], *script).returncode == -signal.SIGKILL
        if copy.exists():
            assert audit_database(str(copy)).findings == ()
            copy.unlink()

    assert step > 4


def test_a_backup_that_can_not_get_its_name_leaves_nothing(database: Path, copy: Path) -> None:
    injections = [NO_LINKS[0], NO_EXCLUSIVE_RENAMING[0], "?rename,renameat:error=EIO:when=1"]
    done = with_failing(injections, *BENEFITS, "backup", copy, "--database", database)

    assert (done.returncode, done.stderr) == (2, f"benefits: {copy}: {os.strerror(5)}\n")
    assert list(copy.parent.iterdir()) == []


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS"])
def test_a_backup_is_made_where_files_have_no_owner_and_no_mode(
    database: Path, copy: Path, error: str
) -> None:
    injections = [f"fchmod,fchown,?chmod,fchmodat,?chown,fchownat:error={error}"]
    done = with_failing(injections, *BENEFITS, "backup", copy, "--database", database)

    assert (done.returncode, done.stderr) == (0, "")
    assert_whole(copy)


@pytest.mark.parametrize("error", ["EINVAL", "EOPNOTSUPP", "EBADF"])
def test_a_backup_is_made_where_folders_can_not_be_flushed(database: Path, copy: Path, error: str) -> None:
    done = with_failing(
        [f"fsync:error={error}"], *BENEFITS, "backup", copy, "--database", database, only=copy.parent
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert_whole(copy)


def test_a_backup_whose_folder_fails_to_be_flushed_is_reported(database: Path, copy: Path) -> None:
    done = with_failing(
        ["fsync:error=EIO"], *BENEFITS, "backup", copy, "--database", database, only=copy.parent
    )

    assert (done.returncode, done.stderr) == (2, f"benefits: {copy}: {os.strerror(5)}\n")


def test_a_full_disk_is_reported_and_nothing_is_left(database: Path, copy: Path) -> None:
    mounts = f"mount -t tmpfs -o size=16k none '{copy.parent}'"
    script = '"$@"; status=$?; ls -A "$0"; exit $status'
    done = with_mounts(
        mounts, "sh", "-c", script, copy.parent, *BENEFITS, "backup", copy, "--database", database
    )

    message = f"benefits: {database}: it can't be copied to {copy}: database or disk is full\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def device(path: Path) -> None:
    """Make what ``/dev/null`` is."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a device")
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def link_to_a_fifo(path: Path) -> None:
    fifo(path.with_name("fifo"))
    path.symlink_to("fifo")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def link_to_a_link_to_a_directory(path: Path) -> None:
    path.symlink_to("again")
    path.with_name("again").symlink_to(".")


@pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize(
    "make",
    [fifo, unix_socket, device, Path.mkdir, link_to_a_fifo, link_to_a_device, link_to_a_link_to_a_directory],
)
def test_what_is_no_regular_file_is_not_replaced(
    database: Path, copy: Path, make: Callable[[Path], None], options: Sequence[str]
) -> None:
    make(copy)
    before = copy.lstat().st_ino, sorted(copy.parent.iterdir())
    done = benefits("backup", copy, *options, "--database", database, traced=True)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr in {
        f"benefits: {copy}: it is not a regular file; name another file\n",
        f"benefits: {copy}: it is a directory; name a file in it\n",
    }
    assert (copy.lstat().st_ino, sorted(copy.parent.iterdir())) == before


def test_the_file_that_a_link_names_is_replaced_and_the_link_stays(database: Path, copy: Path) -> None:
    """So ``/dev/stdout``, which is a link, stays one."""
    latest = copy.with_name("latest.db")
    latest.symlink_to(copy.name)
    copy.write_text("an older copy")

    assert benefits("backup", latest, "--overwrite", "--database", database).returncode == 0
    assert latest.readlink() == Path(copy.name)
    latest.unlink()
    assert_whole(copy)


def test_a_link_to_a_database_in_use_is_not_written_through(database: Path, copy: Path) -> None:
    copy.write_text("")
    copy.with_name("copy.db-wal").write_text("log")
    link = copy.with_name("link.db")
    link.symlink_to(copy.name)
    done = benefits("backup", link, "--overwrite", "--database", database)

    assert (done.returncode, "it is a database in use" in done.stderr) == (2, True)
    assert copy.read_text() == ""


def test_a_long_name_can_be_given(database: Path, copy: Path) -> None:
    longest = copy.with_name("ü" * 120)

    assert benefits("backup", longest, "--database", database).returncode == 0
    assert_whole(longest)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_copy_that_root_makes_has_the_owner_and_the_mode_of_the_database(
    database: Path, copy: Path
) -> None:
    os.chown(database, 12_345, 23_456)
    database.chmod(0o640)
    before = os.umask(0o077)
    try:
        assert benefits("backup", copy, "--database", database).returncode == 0
    finally:
        os.umask(before)

    status = copy.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12_345, 23_456, 0o640)


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal", "-lock", "-next"])
@pytest.mark.parametrize("through", ["the name", "a link to it", "a link to the folder"])
def test_a_file_that_belongs_to_a_database_is_not_replaced_and_not_created(
    database: Path, copy: Path, ending: str, through: str
) -> None:
    """Its own files, and those of any other database: what only a log holds would be lost."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT 1 FROM catalogue").fetchall()  # so that all of them are there
        companion = Path(f"{database}{ending}")
        before = companion.read_bytes() if companion.exists() else None
        target = companion
        if through == "a link to it":
            target = copy.with_name("link")
            target.symlink_to(companion)
        elif through == "a link to the folder":
            copy.with_name("folder").symlink_to(database.parent)
            target = copy.with_name("folder") / companion.name
        for source in make_another(copy), database:
            for overwrite in False, True:
                message = f"^{target}: it belongs to the database {database}; name another file$"
                with pytest.raises(StorageUnavailableError, match=message):
                    back_up_database(str(source), target, overwrite=overwrite)
        assert (companion.read_bytes() if companion.exists() else None) == before


def make_another(copy: Path) -> Path:
    """Return another database."""
    another = copy.with_name("another.db")
    SqliteStore(another).close()
    return another


def test_a_log_is_not_taken_for_an_empty_database(database: Path) -> None:
    for name in f"{database}-wal", f"{database}-journal":
        done = benefits("seed", SEED, "--database", name)

        assert (done.returncode, done.stdout) == (2, "")
        assert "belongs to the database" in done.stderr


def test_a_name_that_only_ends_like_that_of_a_log_can_be_given(database: Path, copy: Path) -> None:
    copy = copy.with_name("company-journal")

    assert benefits("backup", copy, "--database", database).returncode == 0
    assert_whole(copy)


def test_a_target_that_ends_in_a_slash_is_no_file(database: Path, copy: Path) -> None:
    for name in f"{copy}/", f"{copy}/.":
        done = benefits("backup", name, "--database", database, traced=True)

        assert done.returncode == 2
        assert f"{name} names a directory; name a file in it" in done.stderr
        assert not copy.exists()
