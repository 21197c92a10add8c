"""A backup: a consistent copy of a database in one file, taken while a service may be writing to it."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benefits_core.errors import StorageUnavailableError
from benefits_sqlite.inspection import inspect, open_for_reading, require_own_name
from benefits_sqlite.ownership import copy_ownership
from benefits_sqlite.publishing import publish, unfinished_beside
from benefits_sqlite.second_name import find_second_name
from benefits_sqlite.waiting import PATIENCE


def back_up_database(path: str, target: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Copy a database as it stands at one moment, and return remarks.

    The copy is there whole, or not at all. (On a file system that can neither link nor rename without replacing, a process
    that is killed at the very end may leave an empty file.) It has the owner and the mode of the database, as far as
    this process may give them to it.

    :param path: the database.
    :param target: the file to write; until it is whole, it lies beside that under another name.
    :param overwrite: whether a file of that name may be replaced. A symbolic link is followed then.
    :raises FileExistsError: it may not, and there is one.
    :raises OSError: the copy can't be written.
    :raises StorageUnavailableError: the database can't be read, or the target is no file that a copy may replace.
    """
    inspect(path, to_write=False)
    require_own_name(str(target))
    _refuse_special_file(target)
    if overwrite:
        target = Path(os.path.realpath(target))
    elif target.exists():
        raise FileExistsError
    logs = [Path(f"{target}-{kind}") for kind in ("wal", "journal")]
    if any(log.exists() for log in logs) or (target.exists() and target.samefile(path)):
        # SQLite would read the log that lies there into the copy.
        raise StorageUnavailableError(f"{target}: it is a database in use; name another file")
    with unfinished_beside(target) as (unfinished, handle):
        _copy(path, unfinished, target)
        copy_ownership(path, handle)
        publish(unfinished, target, overwrite=overwrite)
    second = find_second_name(path)
    if second is None:
        return ()
    return (f"{path}: {second.fact}; the copy lacks what only a log beside its other name holds",)


def _refuse_special_file(target: Path) -> None:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise StorageUnavailableError(f"{target}: it is a directory; name a file in it")
    if not stat.S_ISREG(mode):  # a device or a pipe, which the copy would replace
        raise StorageUnavailableError(f"{target}: it is not a regular file; name another file")


def _limited(clock: Callable[[], float]) -> Callable[[int, int, int], None]:
    """Return what ends a copy that waits for too long. Without it, Python would wait for ever."""
    last = clock()

    def progress(status: int, _: int, __: int) -> None:
        nonlocal last
        if status not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            last = clock()
        elif clock() > last + PATIENCE:
            raise StorageUnavailableError(f"another program has locked it for {PATIENCE} s")

    return progress


def _copy(path: str, unfinished: Path, target: Path) -> None:
    try:
        with closing(open_for_reading(path)) as source, closing(sqlite3.connect(unfinished)) as copy:
            copy.execute("PRAGMA fullfsync = ON")  # see connection.py
            source.backup(copy, progress=_limited(time.monotonic))
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, and nothing that belongs beside it
    except (sqlite3.DatabaseError, StorageUnavailableError) as error:
        raise StorageUnavailableError(f"{path}: it can't be copied to {target}: {error}") from error
