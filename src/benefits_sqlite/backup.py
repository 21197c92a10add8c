"""A backup: a consistent copy of a database in one file, taken while a service may be writing to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import mkstemp

from benefits_core.errors import StorageUnavailableError
from benefits_sqlite.inspection import inspect, open_for_reading


def back_up_database(path: str, target: Path, *, overwrite: bool = False) -> None:
    """Copy a database as it stands at one moment. The copy is there whole, or not at all.

    :param path: the database.
    :param target: the file to write; until it is whole, it lies beside that under another name.
    :param overwrite: whether a file of that name may be replaced.
    :raises FileExistsError: it may not, and there is one.
    :raises OSError: the copy can't be written.
    :raises StorageUnavailableError: the database can't be read, or the target is a database in use.
    """
    inspect(path, to_write=False)
    if target.exists() and not overwrite:
        raise FileExistsError
    logs = [Path(f"{target}-{kind}") for kind in ("wal", "journal")]
    if any(log.exists() for log in logs) or (target.exists() and target.samefile(path)):
        # SQLite would read the log that lies there into the copy.
        raise StorageUnavailableError(f"{target}: it is a database in use; name another file")
    handle, unfinished = mkstemp(prefix=f".{target.name}.", suffix=".unfinished", dir=target.parent)
    try:
        os.close(handle)
        _copy(path, unfinished)
        shutil.copymode(path, unfinished)
        _publish(unfinished, target, overwrite=overwrite)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _copy(path: str, unfinished: str) -> None:
    try:
        with closing(open_for_reading(path)) as source, closing(sqlite3.connect(unfinished)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, and nothing that belongs beside it
    except sqlite3.DatabaseError as error:
        raise StorageUnavailableError(f"{path}: it can't be copied: {error}") from error


def _publish(unfinished: str, target: Path, *, overwrite: bool) -> None:
    _sync(unfinished)
    if overwrite:
        Path(unfinished).replace(target)
    else:
        target.hardlink_to(
            unfinished
        )  # which, unlike a renaming, never replaces a file that has come meanwhile
    _sync(target.parent)


def _sync(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
