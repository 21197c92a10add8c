"""Waiting, up to a deadline, for what other programs hold: SQLite's locks, and a lock of our own between processes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

PATIENCE: Final = 5.0
"""How long a change waits for others before it begins, in seconds, unless the store is given another patience."""

# Between tries, in seconds. The same for every process, so that each is as likely as any other to be the next; about as
# long as a commit takes, since one thread of a process waits at a time.
_PAUSE: Final = 0.0002


def wait_for(attempt: Callable[[], bool], deadline: float) -> bool:
    """Try until it succeeds; return whether it did before the deadline, which is in ``time.monotonic()``'s seconds."""
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
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
    """A lock that one process at a time holds, and that the system releases when its holder dies.

    It is two locks: one to hold, and one to be the next. A process that releases the first can't take it again at once: it
    would have to be the next before, and a process that waits is that already.

    :param path: the beginning of the names of two empty files, which are created and stay.
    """

    def __init__(self, path: str) -> None:
        with ExitStack() as opened:
            self._lock = _open(f"{path}-lock")
            opened.callback(os.close, self._lock)
            self._next = _open(f"{path}-next")
            opened.pop_all()

    def acquire(self, deadline: float) -> bool:
        """Wait for it; return whether it came before the deadline. Its holder has to release it first."""
        if not wait_for(lambda: _try(self._next), deadline):
            return False
        try:
            return wait_for(lambda: _try(self._lock), deadline)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)

    def release(self) -> None:
        """Release it. Calling it again does nothing, even if Ctrl-C has cut an acquisition short."""
        fcntl.flock(self._next, fcntl.LOCK_UN)
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release it for ever."""
        os.close(self._lock)
        os.close(self._next)


def _open(path: str) -> int:
    # For reading, which is enough to lock it: then it does not matter which user has made it.
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _try(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
