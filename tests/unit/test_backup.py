"""``benefits backup``: the copy is consistent, and complete or absent, even if the process is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from benefits_core import GetUser, OfferProducts, Product, StorageUnavailableError, UnitOfWork
from benefits_sqlite import SqliteStore, audit_database, back_up_database
from benefits_sqlite.backup import _limited
from contract.builders import CATALOGUE, opening, order, stocked
from contract.faults import KILLED_AT_A_STEP
from unit.command import Command
from waiting import A_LONG_TIME

# Makes a backup of a database that another program locks, for good, when the copy begins.
LOCKED = """
import sqlite3, sys
from pathlib import Path
from benefits_sqlite import back_up_database

source, target = sys.argv[1:]
other = sqlite3.connect(source, isolation_level=None)

def lock(event, arguments):
    if event == "sqlite3.connect" and "unfinished" in str(arguments[0]):
        other.execute("BEGIN EXCLUSIVE")

sys.addaudithook(lock)
try:
    back_up_database(source, Path(target))
except Exception as error:
    print(type(error).__name__, error)
"""

# Makes a backup where files have a maximum size: there, the process is killed, or its write fails.
STOPPED_AT_A_SIZE = """
import resource, signal, sys
from pathlib import Path
from benefits_core import StorageUnavailableError
from benefits_sqlite import back_up_database

source, target, overwrite, size, how = sys.argv[1], Path(sys.argv[2]), bool(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
if how == "killed":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    back_up_database(source, target, overwrite=overwrite)
except StorageUnavailableError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database with something in it, in this folder."""
    path = tmp_path / "benefits.db"
    with SqliteStore(path) as store:
        order(stocked(store), "jo", "netflix")
        order(store, "jo", "gym")
        order(store, "al", "gym", "flu-shot")
    return path


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=A_LONG_TIME,
        check=False,
    )


def content(path: Path) -> str:
    """Return all that is in a database."""
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump())


def names(folder: Path) -> set[str]:
    """Return what is in a folder, without what lies beside a database in use."""
    return {entry.name for entry in folder.iterdir() if not entry.name.startswith("benefits.db-")}


class TestCopy:
    def test_it_has_everything_and_passes_the_audit(self, path: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy.db"
        back_up_database(str(path), copy)

        assert audit_database(str(copy)) == audit_database(str(path))
        assert audit_database(str(copy)).findings == ()
        assert content(copy) == content(path)
        with SqliteStore(copy) as store, SqliteStore(path) as original:
            assert store.users.get("jo") == original.users.get("jo") is not None
            assert store.orders.of_user("al") == original.orders.of_user("al")
            assert store.products.list_all() == CATALOGUE
            order(store, "jo", "flu-shot")

    def test_it_is_one_file(self, path: Path, tmp_path: Path) -> None:
        folder = tmp_path / "backups"
        folder.mkdir()
        with SqliteStore(path) as store:
            order(store, "jo", "flu-shot")
            back_up_database(str(path), folder / "copy.db")

        assert names(folder) == {"copy.db"}

    def test_what_was_kept_before_is_in_it_and_what_is_not_kept_yet_is_not(
        self, path: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy.db"
        with SqliteStore(path) as store:
            GetUser(store)("kept")

            def add(work: UnitOfWork) -> None:
                work.users.get_or_add(opening("not yet"))
                back_up_database(str(path), copy)

            store.change(add)

        assert audit_database(str(copy)).findings == ()
        with SqliteStore(copy) as copied:
            assert copied.users.get("kept") is not None
            assert copied.users.get("not yet") is None

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
    def test_it_has_the_permissions_of_the_database(self, path: Path, tmp_path: Path, mode: int) -> None:
        path.chmod(mode)
        back_up_database(str(path), tmp_path / "copy.db")

        assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == mode

    def test_with_overwrite_it_replaces_another_file(self, path: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy.db"
        copy.write_text("something else")
        back_up_database(str(path), copy, overwrite=True)

        assert content(copy) == content(path)
        assert names(tmp_path) == {"benefits.db", "copy.db"}


class TestFailure:
    @pytest.fixture(autouse=True)
    def beside(self, path: Path, tmp_path: Path) -> set[str]:
        """Return what was there before."""
        return names(tmp_path) | {path.name}

    def test_a_file_that_exists_is_left_alone(self, path: Path, tmp_path: Path, beside: set[str]) -> None:
        copy = tmp_path / "copy.db"
        copy.write_text("precious")
        with pytest.raises(FileExistsError):
            back_up_database(str(path), copy)

        assert copy.read_text() == "precious"
        assert names(tmp_path) == beside | {"copy.db"}

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_file_beside_which_a_log_lies_is_a_database_in_use(
        self,
        path: Path,
        tmp_path: Path,
        beside: set[str],
        overwrite: bool,  # noqa: FBT001 - one of two ways
    ) -> None:
        (tmp_path / "copy.db-wal").write_text("log")
        with pytest.raises(StorageUnavailableError, match="it is a database in use"):
            back_up_database(str(path), tmp_path / "copy.db", overwrite=overwrite)

        assert names(tmp_path) == beside | {"copy.db-wal"}

    def test_the_database_itself_is_not_replaced_by_its_copy(
        self, path: Path, tmp_path: Path, beside: set[str]
    ) -> None:
        with SqliteStore(path) as store:
            with pytest.raises(StorageUnavailableError, match="it is a database in use"):
                back_up_database(str(path), path, overwrite=True)
            store.ping()
        with pytest.raises(StorageUnavailableError, match="it is a database in use"):
            back_up_database(str(path), path, overwrite=True)

        assert names(tmp_path) >= beside

    def test_a_dangling_link_is_not_replaced(self, path: Path, tmp_path: Path, beside: set[str]) -> None:
        """It is seen only when the copy is published, as is any file that has come in the meantime."""
        (tmp_path / "copy.db").symlink_to("nowhere")
        with pytest.raises(FileExistsError):
            back_up_database(str(path), tmp_path / "copy.db")

        assert names(tmp_path) == beside | {"copy.db"}

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_that_is_not_there(
        self, path: Path, tmp_path: Path, beside: set[str], *, overwrite: bool
    ) -> None:
        with pytest.raises(FileNotFoundError):
            back_up_database(str(path), tmp_path / "no" / "copy.db", overwrite=overwrite)

        assert names(tmp_path) == beside

    def test_a_folder_in_place_of_the_file(self, path: Path, tmp_path: Path, beside: set[str]) -> None:
        (tmp_path / "copy.db").mkdir()
        with pytest.raises(StorageUnavailableError, match="it is a directory; name a file in it"):
            back_up_database(str(path), tmp_path / "copy.db", overwrite=True)

        assert names(tmp_path) == beside | {"copy.db"}

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_source_that_is_no_database(
        self, path: Path, tmp_path: Path, beside: set[str], *, overwrite: bool
    ) -> None:
        path.write_text("Not a database, whatever its size. " * 100)
        with pytest.raises(StorageUnavailableError, match="it is not a database"):
            back_up_database(str(path), tmp_path / "copy.db", overwrite=overwrite)

        assert names(tmp_path) == beside

    def test_a_source_that_is_not_there(self, tmp_path: Path, beside: set[str]) -> None:
        with pytest.raises(StorageUnavailableError, match="no.db"):
            back_up_database(str(tmp_path / "no.db"), tmp_path / "copy.db")

        assert names(tmp_path) == beside


@attrs.frozen
class Target:
    """Where a backup is to go: nothing is there, or an older one is that it is to replace."""

    path: Path
    before: str | None

    @property
    def overwrite(self) -> str:
        """Return what a script takes for yes or no."""
        return "overwrite" if self.before else ""

    def state(self) -> str | None:
        """Return what is there now."""
        return content(self.path) if self.path.exists() else None


class TestKilled:
    @pytest.fixture(params=["nothing there", "an older copy there"])
    def target(self, request: pytest.FixtureRequest, path: Path, tmp_path: Path) -> Target:
        copy = tmp_path / "copy.db"
        if request.param == "nothing there":
            return Target(copy, None)
        back_up_database(str(path), copy)
        with SqliteStore(path) as store:
            GetUser(store)("later")
        return Target(copy, content(copy))

    def test_killed_at_any_step_it_leaves_the_file_as_it_was_or_whole(
        self, path: Path, target: Target
    ) -> None:
        whole = content(path)
        states: list[str | None] = []
        killed = True
        while killed:
            done = run(KILLED_AT_A_STEP, path, target.path, target.overwrite, len(states) + 1)
            killed = done.returncode == -signal.SIGKILL
            assert killed or done.returncode == 0, done.stderr
            states.append(target.state())
            if states[-1] == whole:
                assert audit_database(str(target.path)).findings == ()
                break

        assert len(states) > 4
        assert states == [*[target.before] * (len(states) - 1), whole]

    @pytest.mark.parametrize("how", ["killed", "refused"])
    def test_in_the_middle_of_the_copy_it_leaves_the_file_as_it_was(
        self, path: Path, target: Target, tmp_path: Path, how: str
    ) -> None:
        with SqliteStore(path) as store:
            OfferProducts(store)([Product(f"p{n}", "p" * 200, CATALOGUE[0].price) for n in range(4000)])
        size = path.stat().st_size // 2
        beside = names(tmp_path)

        done = run(STOPPED_AT_A_SIZE, path, target.path, target.overwrite, size, how)

        assert target.state() == target.before
        if how == "killed":
            assert done.returncode == -signal.SIGXFSZ
            [unfinished] = tmp_path.glob(".copy.db.*.unfinished")
            assert 0 < unfinished.stat().st_size <= size
        else:
            assert done.returncode == 1
            assert done.stderr.startswith(f"{path}: ")
            assert names(tmp_path) == beside

        back_up_database(str(path), target.path, overwrite=bool(target.overwrite))
        assert target.state() == content(path)


class TestCommand:
    def test_it_says_what_it_has_made(self, benefits: Command, path: Path) -> None:
        assert benefits("backup", "copy.db") == (0, "copy.db is a copy of benefits.db.\n", "")
        assert content(Path("copy.db")) == content(path)
        assert benefits("check", "--database", "copy.db")[0] == 0

    def test_a_file_that_exists_is_replaced_only_on_demand(self, benefits: Command, path: Path) -> None:
        Path("copy.db").write_text("precious")
        assert benefits("backup", "copy.db") == (
            2,
            "",
            "benefits: copy.db exists; name another file, or use --overwrite\n",
        )
        assert Path("copy.db").read_text() == "precious"

        assert benefits("backup", "copy.db", "--overwrite")[0] == 0
        assert content(Path("copy.db")) == content(path)

    def test_a_folder_that_is_not_there_is_one_line(self, benefits: Command, path: Path) -> None:
        assert path.exists()
        assert benefits("backup", "no/copy.db") == (
            2,
            "",
            f"benefits: no/copy.db: {os.strerror(2)}\n",
        )

    def test_a_database_that_is_not_there_is_one_line(self, benefits: Command, path: Path) -> None:
        assert benefits("backup", "copy.db", "--database", "no.db") == (
            2,
            "",
            "benefits: no.db: there is no such file; name another with --database, or create it with benefits seed\n",
        )
        assert names(path.parent) == {"benefits.db"}

    def test_a_database_that_is_none_is_one_line(self, benefits: Command, path: Path) -> None:
        path.write_text("Not a database, whatever its size. " * 100)

        assert benefits("backup", "copy.db") == (
            2,
            "",
            "benefits: benefits.db: it is not a database; name another file\n",
        )
        assert names(path.parent) == {"benefits.db"}


def test_a_database_that_another_program_locks_meanwhile_delays_it_not_for_ever(tmp_path: Path) -> None:
    path, copy = tmp_path / "benefits.db", tmp_path / "copy.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    done = subprocess.run(
        [sys.executable, "-c", LOCKED, path, copy],
        capture_output=True,
        text=True,
        timeout=A_LONG_TIME,
        check=True,
    )

    assert done.stdout == (
        f"StorageUnavailableError {path}: it can't be copied to {copy}: another program has locked it for 5.0 s\n"
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "benefits.db",
        "benefits.db-lock",
        "benefits.db-next",
    ]


def test_the_time_in_which_a_copy_makes_no_progress_is_limited_and_not_that_in_which_it_does() -> None:
    progress = _limited(iter([0.0, 4.0, 8.0, 12.0, 17.0, 17.1]).__next__)
    progress(sqlite3.SQLITE_BUSY, 9, 9)
    progress(sqlite3.SQLITE_OK, 5, 9)
    progress(sqlite3.SQLITE_LOCKED, 5, 9)
    with pytest.raises(StorageUnavailableError, match="locked it for 5.0 s"):
        progress(sqlite3.SQLITE_BUSY, 5, 9)
