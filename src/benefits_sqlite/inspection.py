"""The inspection of a file before anything is written to it: whether it is a database, ours, whole, and of no newer version."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from sqlite_utils import Database

from benefits_core.errors import StorageUnavailableError
from benefits_sqlite.connection import decoded
from benefits_sqlite.schema import MIGRATION_NAMES, migrations
from benefits_sqlite.waiting import PATIENCE, unless_busy, wait_for

# The length of the header with which every SQLite file begins.
_HEADER_BYTES: Final = 100

# How the names of the files end that SQLite and this package keep beside a database.
_COMPANIONS: Final = ("-wal", "-shm", "-journal", "-lock", "-next")

# The result codes by which SQLite says that it could not read or write, and not that something is wrong in the file.
_UNREADABLE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


class UnsoundDatabaseError(StorageUnavailableError):
    """The content of the file is not a sound database of this program."""


def is_unreadable(error: sqlite3.DatabaseError) -> bool:
    """Return whether SQLite could not read the file, so that nothing is known about its content."""
    return _code(error) in _UNREADABLE


def finding(error: sqlite3.DatabaseError) -> str:
    """Return what SQLite has found wrong.

    :raises sqlite3.DatabaseError: the given error, if it says nothing about the content.
    """
    if is_unreadable(error):
        raise error
    return f"SQLite: {error}"


def _code(error: sqlite3.DatabaseError) -> int | None:
    # Errors of Python's own, such as text that is not UTF-8, have no code. Extended codes have more in the upper bytes.
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def require_own_name(path: str) -> None:
    """Refuse the name of a file that belongs to a database beside it, such as its log.

    :raises StorageUnavailableError: it is such a name. To replace a log loses what only the log holds.
    """
    file = os.path.realpath(path)
    for ending in _COMPANIONS:
        database = Path(file.removesuffix(ending))
        if file.endswith(ending) and database.exists():
            raise StorageUnavailableError(f"{path}: it belongs to the database {database}; name another file")


def inspect(path: str, *, to_write: bool = True, patience: float = PATIENCE) -> None:
    """Raise an error unless the file is our database, or can become it: a missing or an empty one can. It is not touched.

    :param to_write: whether the file must be writable.
    :param patience: how long to wait for another program that has locked it, in seconds.
    :raises UnsoundDatabaseError: its content is not a sound database of this program.
    :raises StorageUnavailableError: it can't for another reason. The message names the file and what to do.
    """
    status = _inspect_place(path, to_write=to_write)
    if status is None or status.st_size == 0:
        return
    if status.st_size < _HEADER_BYTES:  # SQLite takes some of these for empty
        raise UnsoundDatabaseError(f"{path}: it is not a database; name another file")
    with explained(path):
        if not wait_for(unless_busy(lambda: _inspect_content(path)), time.monotonic() + patience):
            raise StorageUnavailableError(f"{path}: another program has locked it for {patience} s")


def _inspect_place(path: str, *, to_write: bool) -> os.stat_result | None:
    require_own_name(path)
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise StorageUnavailableError(f"{path}: its folder does not exist; create it first")
    if to_write and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise StorageUnavailableError(f"{path}: its folder may not be written to; change its permissions")
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageUnavailableError(f"{path}: {error.strerror}; name another file") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise StorageUnavailableError(f"{path}: it is {kind}; name a file")
    if not os.access(path, os.R_OK, effective_ids=True):
        raise StorageUnavailableError(f"{path}: it may not be read; change its permissions")
    if to_write and not os.access(path, os.W_OK, effective_ids=True):
        raise StorageUnavailableError(f"{path}: it may not be written to; change its permissions")
    return status


def open_for_reading(path: str, wait: float = PATIENCE) -> sqlite3.Connection:
    """Return a connection that changes nothing, not even when it is closed.

    :param wait: how long its statements wait for another program that has locked the file, in seconds.
    :raises StorageUnavailableError: its log can't be read in this folder.
    """
    file = Path(path).resolve()
    options = "&immutable=1" if _never_changes(path, file) else ""
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro{options}", uri=True, timeout=wait)
    connection.text_factory = decoded
    return connection


def _never_changes(path: str, file: Path) -> bool:
    """Return whether SQLite has to be told that nothing writes to the file, because it can't create a log beside it."""
    if os.access(file.parent, os.W_OK | os.X_OK, effective_ids=True):
        return False
    wal, index, journal = (Path(f"{file}-{kind}") for kind in ("wal", "shm", "journal"))
    if wal.exists() and index.exists():  # SQLite reads the log by its index
        return False
    for log in wal, journal:
        if log.exists() and log.stat().st_size > 0:
            raise StorageUnavailableError(
                f"{path}: its log can't be read in a folder that may not be written to;"
                f" copy it and {log.name} to another folder"
            )
    return True


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what SQLite reports about a file into an error that names the file and what to do.

    :raises UnsoundDatabaseError: the content of the file is not a sound database of this program.
    :raises StorageUnavailableError: SQLite could not read or write it.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_unreadable(error):
            raise StorageUnavailableError(f"{path}: {error}") from error
        if _code(error) == sqlite3.SQLITE_NOTADB:
            raise UnsoundDatabaseError(f"{path}: it is not a database; name another file") from error
        if _code(error) == sqlite3.SQLITE_CORRUPT:
            raise UnsoundDatabaseError(f"{path}: it is damaged; restore it from a backup") from error
        raise UnsoundDatabaseError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:  # SQLite's own message names what it has found
        raise UnsoundDatabaseError(f"{path}: it is damaged; restore it from a backup") from error


def _inspect_content(path: str) -> None:
    with closing(Database(open_for_reading(path, wait=0), execute_plugins=False)) as db:
        _inspect_origin(path, db)
        _inspect_size(path, db)


def _inspect_origin(path: str, db: Database) -> None:
    tables = db.table_names()
    applied = {migration.name for migration in migrations.applied(db)}
    if tables and not applied:
        raise UnsoundDatabaseError(f"{path}: it is the database of another program; name another file")
    unknown = applied - MIGRATION_NAMES
    if unknown:
        raise StorageUnavailableError(
            f"{path}: it was written by a newer version ({', '.join(sorted(unknown))}); use that version"
        )


def _inspect_size(path: str, db: Database) -> None:
    # SQLite does not notice that a part of the last page is missing. Another process may be writing, so the order matters:
    # first the pages in the log, then the size of the file, which only grows by what leaves the log.
    [[pages]] = db.execute("PRAGMA page_count").fetchall()
    [[page_size]] = db.execute("PRAGMA page_size").fetchall()
    logged = _pages_in_log(Path(f"{os.path.realpath(path)}-wal"), page_size)
    here = Path(path).stat().st_size // page_size
    if not logged.issuperset(range(here + 1, pages + 1)):
        raise UnsoundDatabaseError(f"{path}: it is cut short; restore it from a backup")


def _pages_in_log(log: Path, page_size: int) -> set[int]:
    """Return the numbers of the pages in the log: it has a header of 32 bytes, and one of 24 before each page."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            starts = range(32, size, 24 + page_size)
            return {int.from_bytes(_read_at(file, start, 4)) for start in starts}
    except FileNotFoundError:
        return set()


def _read_at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)
