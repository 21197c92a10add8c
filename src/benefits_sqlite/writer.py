"""Writing: every unit of work of this process goes through one connection, a round of them in one transaction.

Each unit but the first is a savepoint in that transaction, so that one can be given up without the others. Nobody is told
how a unit ended before the commit that holds it has reached the disk: neither who changed something, nor who was refused
because of what another had changed. So the ``with`` of a unit returns when those of its round have all left their blocks:
keep blocks short, and never wait in one for another thread's unit to end. Between processes, rounds take turns on a lock
of files: SQLite's own wait polls with pauses of up to 100 ms, and lets two busy processes starve each other.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import TypeVar

from sqlite_utils import Database

from benefits_core.errors import StorageUnavailableError
from benefits_sqlite.repositories import Known
from benefits_sqlite.turns import Turn, TurnDidNotComeError, Turns
from benefits_sqlite.unit_of_work import SqliteUnitOfWork, core_error
from benefits_sqlite.waiting import ProcessLock, unless_busy, wait_for

_Given = TypeVar("_Given")


class Writer:
    """The connection that writes.

    :param db: a connection of its own, in autocommit mode.
    :param lock: the lock between processes.
    :param patience: how long a unit of work waits for others, in seconds.
    :param verify: raises StorageUnavailableError when the file is not the one that was opened.
    """

    def __init__(self, db: Database, lock: ProcessLock, patience: float, verify: Callable[[], None]) -> None:
        db.execute("PRAGMA busy_timeout = 0")  # all waiting is done here, up to one deadline
        self._db = db
        self._begin = unless_busy(lambda: db.conn.execute("BEGIN IMMEDIATE"))
        self._lock = lock
        self._patience = patience
        self._verify = verify
        self._turns = Turns(self._settle)
        self._holder: int | None = None  # the thread whose turn it is
        self._deadline = 0.0  # until when it waits for other processes
        self._open = False  # whether it has a unit of work open, which is neither kept nor undone yet
        self._changed = False  # whether the open transaction holds anything to keep
        self._known = Known()  # of the tables
        self._failure: Exception | None = None  # why SQLite has given up the round's transaction by itself

    @contextmanager
    def unit_of_work(self) -> Iterator[SqliteUnitOfWork]:
        """See :class:`~benefits_core.ports.Store`."""
        if self._holder != get_ident():
            yield from self._in_turn(time.monotonic() + self._patience, self._unit())
        elif not self._open:  # it is in a batch, and opens one after the other
            yield from self._unit()
        else:
            raise RuntimeError("this thread has a unit of work open already")

    @contextmanager
    def batch(self, deadline: float) -> Iterator[None]:
        """See :meth:`~benefits_sqlite.store.SqliteStore.batch`."""
        yield from self._in_turn(deadline, (None,))

    def _in_turn(self, deadline: float, block: Iterable[_Given]) -> Iterator[_Given]:
        # No context manager, which another one would open: Ctrl-C between the two would leave it open.
        turn = self._wait_for_turn(deadline)
        try:
            yield from block
        finally:
            self._holder = None  # before anything in which Ctrl-C could come
            self._leave(turn)

    def _wait_for_turn(self, deadline: float) -> Turn:
        thread = get_ident()
        try:
            turn = self._turns.take(max(0, deadline - time.monotonic()))
        except TurnDidNotComeError as error:
            raise StorageUnavailableError(f"others have been writing for {self._patience} s") from error
        self._holder, self._deadline = thread, deadline
        return turn

    def _leave(self, turn: Turn) -> None:
        failure = self._turns.leave(turn)
        if failure is not None:
            raise StorageUnavailableError(str(failure)) from failure

    def _join_transaction(self) -> bool:
        """Begin a transaction, if none is open; return whether it was so."""
        if self._open:  # the one before was interrupted, and what it did is still there
            raise StorageUnavailableError("another unit of work was interrupted")
        if self._failure is not None:
            raise StorageUnavailableError(str(self._failure)) from self._failure
        if self._db.conn.in_transaction:
            return False
        try:
            if self._lock.acquire(self._deadline) and wait_for(self._begin, self._deadline):
                return True
        except sqlite3.DatabaseError as error:
            raise core_error(error) from error
        raise StorageUnavailableError(f"another process has been writing for {self._patience} s")

    def _unit(self) -> Iterator[SqliteUnitOfWork]:
        # The first unit of a transaction, and so one that is alone in it, needs no savepoint: to undo it is to undo all,
        # and the next one begins afresh.
        first = self._join_transaction()
        if first:
            self._known.expire()
        work = SqliteUnitOfWork(self._db, self._known)
        self._open = True
        try:
            if not first:
                self._db.execute("SAVEPOINT unit")
            yield work
            work.finish()
            if not first:
                self._db.execute("RELEASE unit")
            self._changed = True
        except BaseException as error:
            self._known = Known()
            if first:
                self._db.rollback()
            else:
                self._undo(error)
            self._open = False
            raise
        finally:
            work.end()
        self._open = False

    def _undo(self, error: BaseException) -> None:
        try:
            self._db.execute("ROLLBACK TO unit")
            self._db.execute("RELEASE unit")
        except sqlite3.DatabaseError:
            # Some failures, a full disk among them, make SQLite undo the whole transaction, whose every unit is lost.
            self._failure = StorageUnavailableError(str(error))

    def _settle(self) -> Exception | None:
        failure, self._failure = self._failure, None
        if self._open:  # it was interrupted before it could be undone
            failure, self._open = InterruptedError("a unit of work was interrupted"), False
        changed, self._changed = self._changed, False
        known, self._known = self._known, Known()  # nothing, unless it is kept
        try:
            try:
                if failure is None:
                    self._verify()  # while all can still be undone, and once more when it is too late for that
                    if changed:
                        self._db.execute("COMMIT")
                        self._verify()
                    self._known = known
            finally:
                self._db.rollback()  # whatever is left: refusals alone, or a transaction that has failed
        except (sqlite3.DatabaseError, StorageUnavailableError) as error:
            failure = error
        finally:
            self._lock.release()
        return failure

    def close(self) -> None:
        """Close the connection and the lock. No unit of work may be open."""
        self._db.close()
        self._lock.close()
