"""A look at a file before anything is written to it: whether it is a database, ours, whole, and of no later version."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlite_utils import Database

from benefits_core.errors import StorageUnavailableError
from benefits_sqlite.schema import MIGRATION_NAMES, migrations


def inspect(path: str, *, to_write: bool = True) -> None:
    """Return if the file can become or be our database. A missing or an empty one can; it is not touched.

    :param to_write: whether it has to be possible to write to it, too.
    :raises StorageUnavailableError: it can't; the message names the file and what to do.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise StorageUnavailableError(f"{path}: its folder does not exist; create it first")
    if to_write and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise StorageUnavailableError(f"{path}: its folder may not be written to; change its permissions")
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageUnavailableError(f"{path}: {error.strerror}; name another file") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise StorageUnavailableError(f"{path}: it is {kind}; name a file")
    if not os.access(path, os.R_OK, effective_ids=True):
        raise StorageUnavailableError(f"{path}: it may not be read; change its permissions")
    if to_write and not os.access(path, os.W_OK, effective_ids=True):
        raise StorageUnavailableError(f"{path}: it may not be written to; change its permissions")
    if status.st_size:
        with _understood(path), closing(open_for_reading(path)) as connection:
            _inspect_content(path, status.st_size, connection)


def open_for_reading(path: str) -> sqlite3.Connection:
    """Return a connection that changes nothing, not even by tidying up when it is closed."""
    return sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)


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


def _inspect_content(path: str, size: int, connection: sqlite3.Connection) -> None:
    db = Database(connection, execute_plugins=False)
    tables = db.table_names()
    applied = {migration.name for migration in migrations.applied(db)}
    if tables and not applied:
        raise StorageUnavailableError(f"{path}: it is the database of another program; name another file")
    unknown = applied - MIGRATION_NAMES
    if unknown:
        raise StorageUnavailableError(
            f"{path}: it was written by a newer version ({', '.join(sorted(unknown))}); use that version"
        )
    [[pages], [page_size]] = (
        db.execute("PRAGMA page_count").fetchall(),
        db.execute("PRAGMA page_size").fetchall(),
    )
    # SQLite itself does not notice that a part of the last page is missing. What is in the log may be missing here.
    log = Path(f"{Path(path).resolve()}-wal")
    if size < pages[0] * page_size[0] and not (log.exists() and log.stat().st_size):
        raise StorageUnavailableError(f"{path}: it is cut short; restore it from a backup")
