"""A look at a file before anything is written to it: whether it is a database, ours, whole, and of no later version."""

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
from benefits_sqlite.schema import MIGRATION_NAMES, migrations
from benefits_sqlite.waiting import PATIENCE, unless_busy, wait_for

_HEADER_BYTES: Final = 100
"""What every SQLite file begins with."""


def inspect(path: str, *, to_write: bool = True, patience: float = PATIENCE) -> None:
    """Raise an error unless the file is our database, or can become it: a missing or an empty one can. It is not touched.

    :param to_write: whether it has to be possible to write to it, too.
    :param patience: how long to wait for another program that has locked it, in seconds.
    :raises StorageUnavailableError: it can't; the message names the file and what to do.
    """
    status = _inspect_place(path, to_write=to_write)
    if status is None or status.st_size == 0:
        return
    if status.st_size < _HEADER_BYTES:  # SQLite takes some of these for empty
        raise StorageUnavailableError(f"{path}: it is not a database; name another file")
    with _understood(path):
        if not wait_for(unless_busy(lambda: _inspect_content(path)), time.monotonic() + patience):
            raise StorageUnavailableError(f"{path}: another program has locked it for {patience} s")


def _inspect_place(path: str, *, to_write: bool) -> os.stat_result | None:
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
    """Return a connection that changes nothing, not even by tidying up when it is closed.

    :param wait: how long its statements wait for another program that has locked the file, in seconds.
    """
    return sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True, timeout=wait)


@contextmanager
def _understood(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise StorageUnavailableError(f"{path}: it is not a database; name another file") from error
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise StorageUnavailableError(f"{path}: it is damaged; restore it from a backup") from error
        raise StorageUnavailableError(f"{path}: {error}") from error


def _inspect_content(path: str) -> None:
    with closing(Database(open_for_reading(path, wait=0), execute_plugins=False)) as db:
        _inspect_origin(path, db)
        _inspect_size(path, db)


def _inspect_origin(path: str, db: Database) -> None:
    tables = db.table_names()
    applied = {migration.name for migration in migrations.applied(db)}
    if tables and not applied:
        raise StorageUnavailableError(f"{path}: it is the database of another program; name another file")
    unknown = applied - MIGRATION_NAMES
    if unknown:
        raise StorageUnavailableError(
            f"{path}: it was written by a newer version ({', '.join(sorted(unknown))}); use that version"
        )


def _inspect_size(path: str, db: Database) -> None:
    # SQLite itself does not notice that a part of the last page is missing. In this order, because others may be writing:
    # pages that the log has not handed over yet are not missed, and the file only grows.
    [[pages]] = db.execute("PRAGMA page_count").fetchall()
    [[page_size]] = db.execute("PRAGMA page_size").fetchall()
    logged = _pages_in_log(Path(f"{os.path.realpath(path)}-wal"), page_size)
    here = Path(path).stat().st_size // page_size
    if not logged.issuperset(range(here + 1, pages + 1)):
        raise StorageUnavailableError(f"{path}: it is cut short; restore it from a backup")


def _pages_in_log(log: Path, page_size: int) -> set[int]:
    """Return the numbers of the pages that the log holds: after a header of 32 bytes, each page with 24 before it."""
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
