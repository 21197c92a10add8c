"""The look at a file before anything is written to it: what is refused, in which words, and that it stays as it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from benefits_core import GetUser, OfferProducts, StorageUnavailableError
from benefits_sqlite import SqliteStore
from benefits_sqlite.inspection import inspect
from contract.builders import CATALOGUE, order, stocked

INSPECT = """
import sys
from benefits_core import StorageUnavailableError
from benefits_sqlite.inspection import inspect
try:
    inspect(sys.argv[1], to_write=sys.argv[2] == "to write")
except StorageUnavailableError as error:
    print(error)
"""

# What lets the superuser read and write whatever the permissions say.
PRIVILEGES = "-dac_override,-dac_read_search"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database with something in it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "benefits.db"
    with SqliteStore(path) as store:
        order(stocked(store), "jo", "netflix")
    return path


def by_hand(path: Path, *statements: str) -> None:
    """Change a database as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def files_in(folder: Path) -> list[str] | None:
    """Return what is in a folder, without what SQLite makes to read a database with a log, and may leave there."""
    if not folder.is_dir():
        return None
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(("-wal", "-shm")))


def refusal(path: Path, *, to_write: bool = True) -> str:
    """Return why the file is refused, without its name, by the inspection and by the store; it stays as it was."""
    content = path.read_bytes() if path.is_file() else None
    beside = files_in(path.parent)

    with pytest.raises(StorageUnavailableError) as refused:
        inspect(str(path), to_write=to_write)
    message = str(refused.value)
    if to_write:
        with pytest.raises(StorageUnavailableError) as refused:
            SqliteStore(path)
        assert str(refused.value) == message

    assert content == (path.read_bytes() if path.is_file() else None)
    assert beside == files_in(path.parent)
    name, _, rest = message.partition(": ")
    assert name == str(path)
    return rest


class TestWhatIsFine:
    def test_a_database_of_ours(self, path: Path) -> None:
        inspect(str(path))

    def test_a_file_that_is_not_there_yet_which_is_not_made(self, tmp_path: Path) -> None:
        inspect(str(tmp_path / "new.db"))

        assert list(tmp_path.iterdir()) == []

    def test_an_empty_file_becomes_a_database(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.db"
        path.touch()
        inspect(str(path))
        assert path.read_bytes() == b""

        with SqliteStore(path) as store:
            OfferProducts(store)(CATALOGUE)
            assert store.products.list_all() == CATALOGUE

    def test_a_symbolic_link_to_a_database(self, path: Path, tmp_path: Path) -> None:
        link = tmp_path / "link.db"
        link.symlink_to(path)

        inspect(str(link))
        with SqliteStore(link) as store:
            assert store.users.get("jo") is not None
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "link.db"]

    def test_a_database_whose_last_changes_are_still_in_its_log(self, path: Path) -> None:
        with SqliteStore(path) as store:
            for number in range(100):
                order(store, f"user{number}", "netflix")
            copy = path.with_name("copy.db")
            shutil.copy(path, copy)
            shutil.copy(f"{path}-wal", f"{copy}-wal")
        inspect(str(copy))

        with SqliteStore(copy) as store:
            assert store.users.get("user99") is not None

    def test_a_name_with_characters_that_are_special_in_a_uri(self, tmp_path: Path) -> None:
        path = tmp_path / "a?mode=memory#%41.db"
        SqliteStore(path).close()

        inspect(str(path))


class TestWhatIsRefused:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "no" / "x.db") == "its folder does not exist; create it first"

    def test_a_folder_that_is_a_file(self, path: Path) -> None:
        assert refusal(path / "x.db") == "its folder does not exist; create it first"

    def test_a_directory(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == "it is a directory; name a file"

    def test_a_pipe(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)

        assert refusal(pipe) == "it is not a regular file; name a file"

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(link)

        assert refusal(link) == f"{os.strerror(40)}; name another file"

    @pytest.mark.parametrize("content", [b"a", b"ab", b"Not a database, whatever its size. " * 1000])
    def test_what_is_not_a_database(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "notes.txt"
        path.write_bytes(content)

        assert refusal(path) == "it is not a database; name another file"

    def test_one_that_is_cut_short_while_pages_of_it_are_in_the_log_only(self, tmp_path: Path) -> None:
        """As a crash leaves it: whole as long as what the file lacks is in the log, and only so long."""
        path, crashed = tmp_path / "benefits.db", tmp_path / "crashed.db"
        with SqliteStore(path) as store:
            stocked(store)
            shutil.copy(path, crashed)
            shutil.copy(f"{path}-wal", f"{crashed}-wal")
        inspect(str(crashed))
        with SqliteStore(crashed) as store:
            assert store.products.list_all() == CATALOGUE

        with SqliteStore(path) as store:
            GetUser(store)("jo")
            shutil.copy(path, crashed)
            shutil.copy(f"{path}-wal", f"{crashed}-wal")
        with crashed.open("r+b") as file:
            file.truncate(2 * 4096)

        assert refusal(crashed).endswith("; restore it from a backup")

    def test_the_database_of_another_program(self, tmp_path: Path) -> None:
        path = tmp_path / "music.db"
        by_hand(path, "CREATE TABLE songs (title TEXT)")

        assert refusal(path) == "it is the database of another program; name another file"

    def test_the_database_of_another_program_that_uses_the_same_library(self, tmp_path: Path) -> None:
        path = tmp_path / "music.db"
        by_hand(
            path,
            "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set, name, applied_at)",
            "INSERT INTO _sqlite_migrations VALUES (1, 'music', 'create_tables', '')",
        )

        assert refusal(path) == "it is the database of another program; name another file"

    def test_one_from_a_newer_version(self, path: Path) -> None:
        by_hand(
            path,
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('benefits', 'z', '')",
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('benefits', 'y', '')",
        )

        assert refusal(path) == "it was written by a newer version (y, z); use that version"

    @pytest.mark.parametrize("missing", [1, 2048, 4096, 4097, 3 * 4096])
    def test_one_that_is_cut_short(self, path: Path, missing: int) -> None:
        os.truncate(path, path.stat().st_size - missing)

        assert refusal(path).endswith("; restore it from a backup")

    def test_one_of_which_only_1000_bytes_are_left(self, path: Path) -> None:
        os.truncate(path, 1000)

        assert refusal(path)

    def test_one_whose_first_page_is_damaged(self, path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"\xff" * 1000)

        assert refusal(path) == "it is damaged; restore it from a backup"

    def test_one_whose_log_can_not_be_opened(self, path: Path) -> None:
        path.with_name("benefits.db-wal").mkdir()

        assert refusal(path) == "unable to open database file"

    def test_one_that_another_program_has_locked_exclusively(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")

            with pytest.raises(StorageUnavailableError, match="benefits.db: another program has locked it"):
                inspect(str(path), patience=0.01)

    @pytest.mark.parametrize("to_write", [True, False])
    def test_a_database_opened_for_reading_is_inspected_the_same_way(
        self, path: Path, *, to_write: bool
    ) -> None:
        os.truncate(path, path.stat().st_size - 1)

        assert refusal(path, to_write=to_write) == "it is cut short; restore it from a backup"


def as_one_who_obeys_permissions(command: Sequence[str]) -> str:
    """Run a command, without the superuser's privileges if need be, and return what it says."""
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip(
                "the superuser may do everything here, and setpriv, which could change that, is missing"
            )
        command = [setpriv, "--bounding-set", PRIVILEGES, "--inh-caps", PRIVILEGES, *command]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def forbid_folder(path: Path) -> None:
    path.parent.chmod(0o555)


def forbid_reading(path: Path) -> None:
    path.chmod(0o222)


def forbid_writing(path: Path) -> None:
    path.chmod(0o444)


@pytest.mark.parametrize(
    ("forbid", "purpose", "complaint"),
    [
        (forbid_folder, "to write", "its folder may not be written to; change its permissions"),
        (forbid_reading, "to write", "it may not be read; change its permissions"),
        (forbid_reading, "to read", "it may not be read; change its permissions"),
        (forbid_writing, "to write", "it may not be written to; change its permissions"),
        (forbid_writing, "to read", None),
    ],
)
def test_permissions_are_obeyed(
    path: Path, forbid: Callable[[Path], None], purpose: str, complaint: str | None
) -> None:
    content, beside = path.read_bytes(), files_in(path.parent)
    forbid(path)
    try:
        said = as_one_who_obeys_permissions([sys.executable, "-c", INSPECT, str(path), purpose])
    finally:
        path.parent.chmod(0o755)
        path.chmod(0o644)

    assert said == (f"{path}: {complaint}\n" if complaint else "")
    assert path.read_bytes() == content
    assert files_in(path.parent) == beside
