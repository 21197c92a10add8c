"""The connection that writes: a transaction at a time, in it one change or several, each of which can be undone alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from sqlite_utils import Database

from benefits_core.changes import finally_do
from benefits_core.errors import BenefitsError, StorageUnavailableError
from benefits_core.ports import UnitOfWork
from benefits_sqlite.repositories import Cache, Session, SqliteUnitOfWork, core_error
from benefits_sqlite.waiting import ProcessLock, unless_busy, wait_for

_Result = TypeVar("_Result")


class Transaction:
    """The transaction of the connection that writes. One thread at a time may use it.

    Processes take turns by a lock on a file: SQLite's own waiting polls with pauses of up to 100 ms, and lets two busy
    processes starve each other.

    :param db: a connection of its own, in autocommit mode.
    :param lock: the lock between processes.
    :param verify: raises StorageUnavailableError if the file is not the one that was opened.
    """

    def __init__(self, db: Database, lock: ProcessLock, verify: Callable[[], None]) -> None:
        db.execute("PRAGMA busy_timeout = 0")  # all waiting is done here, up to one deadline
        self._db = db
        self._try_to_begin = unless_busy(lambda: db.conn.execute("BEGIN IMMEDIATE"))
        self._lock = lock
        self._deadline = 0.0
        self._holds_changes = False  # whether the open transaction holds changes that are to be kept
        self._cache = Cache()
        self._failure: str | None = None  # why the open transaction must not be kept
        self.verify = verify

    def begin(self, deadline: float) -> None:
        """Wait until no other process writes.

        :param deadline: until when, by ``time.monotonic()``.
        :raises StorageUnavailableError: the deadline has passed, or the file can't be written to.
        """
        self._deadline = deadline
        if not self._lock.acquire(deadline):
            raise StorageUnavailableError("another process has been writing for too long")
        self._begin()

    def _begin(self) -> None:
        try:
            begun = wait_for(self._try_to_begin, self._deadline)
        except sqlite3.DatabaseError as error:
            raise core_error(error) from error
        if not begun:
            raise StorageUnavailableError("another program has locked the file for too long")
        self._cache.expire()

    def run(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """Return what a change returns; if it raises, undo it alone."""
        self._require_whole()
        session = Session(self._db, self._cache)
        return finally_do(session.state.end, lambda: self._run(session, do))

    def _run(self, session: Session, do: Callable[[UnitOfWork], _Result]) -> _Result:
        # The first change of a transaction needs no savepoint: to undo it is to undo everything.
        alone = not self._holds_changes
        self._failure = "a change was interrupted"
        try:
            if not alone:
                session.query("SAVEPOINT change")
            elif not self._db.conn.in_transaction:  # the change before was alone, and was undone
                self._begin()
            result = do(SqliteUnitOfWork(session))
            session.insert_new_users()
            session.state.require_usable()
            if not alone:
                session.query("RELEASE change")
        except BaseException as error:
            self._failure = str(error)
            self._undo(alone=alone)
            raise
        self._holds_changes, self._failure = True, None
        return result

    def _undo(self, *, alone: bool) -> None:
        self._cache = Cache()
        # Some failures, a full disk among them, make SQLite roll back everything: then there is no such savepoint.
        with suppress(BenefitsError):
            if alone:
                self._roll_back()
            else:
                self._execute("ROLLBACK TO change")
                self._execute("RELEASE change")
            self._failure = None

    def _require_whole(self) -> None:
        if self._failure is not None:
            raise StorageUnavailableError(self._failure)

    def _roll_back(self) -> None:
        if self._db.conn.in_transaction:
            self._execute("ROLLBACK")

    def _execute(self, sql: str) -> None:
        try:
            self._db.execute(sql)
        except sqlite3.DatabaseError as error:
            raise core_error(error) from error

    def commit(self) -> None:
        """Keep the changes that were run since :meth:`begin`.

        :raises StorageUnavailableError: none of them is kept.
        """
        self._require_whole()
        self.verify()
        if self._holds_changes:
            self._execute("COMMIT")
            self._holds_changes = False
            self.verify()  # again: the file may have been replaced just before the commit

    def reset(self) -> None:
        """Roll back what is not committed, and let other processes write. Calling it again does nothing."""
        try:
            if self._holds_changes or self._failure is not None:
                self._cache = Cache()
            self._roll_back()
            self._holds_changes, self._failure = False, None
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connection and the lock."""
        self._db.close()
        self._lock.close()
