"""Connections that may write to the file, with the settings that each of them needs."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sqlite_utils import Database

LOG_SIZE_LIMIT: Final = 4 * 1024 * 1024
"""To how many bytes SQLite cuts the write-ahead log once nobody reads its older part.

Without a reader that stays, the log is a little shorter: SQLite begins it again after 1000 pages of 4 KiB.
"""

# SQLite runs none of these for the file, but for each connection anew. Any of them may write a checkpoint: the last one
# of a process does when it is closed.
_SETTINGS: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # a commit returns once it has reached the disk
    # On macOS, fsync leaves the data in the cache of the drive, and F_FULLFSYNC does not. No other system has it, so the
    # tests show that both are set, and not what they do.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    f"PRAGMA journal_size_limit = {LOG_SIZE_LIMIT}",
)


def connect(file: str, *, timeout: float, create: bool = False) -> Database:
    """Return a connection in autocommit mode; any thread may use it.

    :param file: the absolute path of the file.
    :param timeout: how long its statements wait for another connection that has locked the file, in seconds.
    :param create: whether a missing file is created.
    """
    # Never recreate a missing file: SQLite would replay the old write-ahead log into it.
    name = f"{Path(file).as_uri()}?mode={'rwc' if create else 'rw'}"
    # isolation_level=None: transactions begin and end where this package says so, nowhere else.
    connection = sqlite3.connect(
        name, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    try:
        db = Database(connection, execute_plugins=False)
        for setting in _SETTINGS:
            db.execute(setting)
    except BaseException:
        connection.close()
        raise
    return db


def decoded(text: bytes) -> str:
    """Decode a text that may be no UTF-8, such as the name of another program's table: a text factory of a connection."""
    return text.decode(errors="backslashreplace")
