"""Waiting up to a deadline: for SQLite's locks, and for a lock of our own between processes."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benefits_core.errors import StorageUnavailableError
from benefits_sqlite.ownership import copy_ownership

try:
    import fcntl
except ModuleNotFoundError as error:
    error.add_note("The SQLite store runs on Linux and macOS; on Windows, use WSL or a container.")
    raise

PATIENCE: Final = 5.0
"""How long a change waits to begin, in seconds, unless the store has another patience."""

# The pause between two attempts, in seconds: about as long as a commit takes. It is the same for every process, so that
# each of them is as likely to be the next.
_PAUSE: Final = 0.0002


def wait_for(attempt: Callable[[], bool], deadline: float) -> bool:
    """Repeat an attempt until it succeeds; return False if the deadline, by ``time.monotonic()``, passes before."""
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def unless_busy(action: Callable[[], object]) -> Callable[[], bool]:
    """Return an attempt at a statement. It fails while another connection holds the lock of SQLite that it needs."""

    def attempt() -> bool:
        try:
            action()
        except sqlite3.OperationalError as error:
            # Errors of Python's own, such as text that is not UTF-8, have no code.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

    return attempt


class ProcessLock:
    """A lock that one process at a time holds, and that the system releases when its holder dies.

    It is two locks: one to hold, and one to be the next. A process that releases the first can't take it again at once: it
    would have to be the next before, and a process that waits is that already.

    It only makes the waiting fair. SQLite's own lock keeps two writers apart.

    :param path: the database. Two empty files beside it are created and stay; their names begin with this path.
    """

    def __init__(self, path: str) -> None:
        with ExitStack() as opened:
            self._lock = _open(f"{path}-lock", path)
            opened.callback(os.close, self._lock)
            self._next = _open(f"{path}-next", path)
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


def _open(path: str, database: str) -> int:
    # To lock a file, reading is enough. In a folder of another user, a link could lead root to any file.
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(path, flags, 0o644)
    except PermissionError:
        # The owner of the database changed later, or an earlier version of this program left it.
        try:
            Path(path).unlink()
        except PermissionError as error:  # the file of another user in a folder such as /tmp
            raise StorageUnavailableError(f"{path}: it may not be opened; remove this empty file") from error
        file = os.open(path, flags, 0o644)
    status = os.fstat(file)
    if status.st_size == 0 and status.st_nlink == 1:  # otherwise it is not one that this program created
        copy_ownership(database, file)
    return file


def _try(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
