"""Waiting, up to a deadline, for what other programs hold: SQLite's locks, and a lock of our own between processes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 5.0
"""How long a unit of work waits for others before it gives up, in seconds, unless the store is told otherwise."""

# Between tries, in seconds: short enough to cost a waiting writer little, and longer the longer it waits.
_FIRST_PAUSE: Final = 0.0002
_LONGEST_PAUSE: Final = 0.005


def wait_for(attempt: Callable[[], bool], deadline: float) -> bool:
    """Try until it succeeds; return whether it did before the deadline, which is in ``time.monotonic()``'s seconds."""
    pause = _FIRST_PAUSE
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True


def unless_busy(action: Callable[[], object]) -> Callable[[], bool]:
    """Return an attempt at a statement: it fails while SQLite says that another connection has the lock."""

    def attempt() -> bool:
        try:
            action()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

    return attempt


class ProcessLock:
    """A lock that one process at a time holds, and that is let go when its holder dies.

    :param path: a file of its own; it is created, and stays.
    """

    def __init__(self, path: str) -> None:
        # For reading, which is enough to lock it: then it does not matter which user has made it.
        self._file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def acquire(self, deadline: float) -> bool:
        """Wait for it; return whether it came before the deadline."""
        return wait_for(self._try, deadline)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let it go, if it is held."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let it go for ever."""
        os.close(self._file)
