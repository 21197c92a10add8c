"""The SQLite store: connections, transactions and waiting. What is asked of the tables is in ``repositories``.

Reads run beside writers on connections of their own (write-ahead logging makes that possible). Units of work take turns:
within this process on a lock, between processes on SQLite's own, taken at once by ``BEGIN IMMEDIATE``.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from os import PathLike, fspath
from threading import Lock, get_ident
from typing import Any, Final, Self

from sqlite_utils import Database

from benefits_core.errors import BenefitsError, InconsistentChangeError, StorageUnavailableError
from benefits_sqlite.repositories import (
    LockedUser,
    SqliteOrderReader,
    SqliteOrderRepository,
    SqliteProductReader,
    SqliteProductRepository,
    SqliteUserReader,
    SqliteUserRepository,
)
from benefits_sqlite.schema import migrations

PATIENCE: Final = 5.0
"""How long a unit of work waits for others before it gives up, in seconds."""


def _core_error(error: sqlite3.DatabaseError) -> BenefitsError:
    if isinstance(error, sqlite3.IntegrityError):
        return InconsistentChangeError(str(error))
    return StorageUnavailableError(str(error))


class SqliteUnitOfWork:
    """One transaction, seen as repositories."""

    def __init__(self, db: Database) -> None:
        locked: dict[str, LockedUser] = {}
        self._db: Database | None = db
        self._lost: BenefitsError | None = None
        self.users = SqliteUserRepository(self._query, locked)
        self.products = SqliteProductRepository(self._query)
        self.orders = SqliteOrderRepository(self._query, locked, self._lose)

    def _query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        if self._db is None:
            raise RuntimeError("this unit of work has ended")
        self.raise_if_lost()
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            # SQLite may have rolled back by itself, and would keep whatever came now at once, alone.
            self._lose(_core_error(error))
            raise _core_error(error) from error

    def _lose(self, error: BenefitsError) -> None:
        self._lost = error

    def raise_if_lost(self) -> None:
        """Raise the error that has lost this unit of work, if any has."""
        if self._lost is not None:
            raise self._lost

    def end(self) -> None:
        """Let go of the connection, which others use from now on."""
        self._db = None


class SqliteStore:
    """Users, products and orders in one SQLite file, shared by any number of threads and processes.

    :param path: the file; it is created, and its schema brought up to date, as needed.
    :param patience: how long a unit of work waits for its turn, in seconds, before it raises StorageUnavailableError.
    :raises StorageUnavailableError: the file can't be opened, or isn't one of ours.
    """

    def __init__(self, path: str | PathLike[str], *, patience: float = PATIENCE) -> None:
        self.path = fspath(path)
        self._patience = patience
        self._lock = Lock()
        self._holder: int | None = None  # the thread whose unit of work is open
        self._idle_readers: deque[Database] = deque()
        self.users = SqliteUserReader(self._read)
        self.products = SqliteProductReader(self._read)
        self.orders = SqliteOrderReader(self._read)
        try:
            self._enter_write_ahead_logging()
            self._migrate()
            self._writer = self._connect()
        except sqlite3.DatabaseError as error:
            raise StorageUnavailableError(f"{self.path}: {error}") from error

    def _connect(self) -> Database:
        # isolation_level=None: transactions begin and end where this module says so, nowhere else.
        connection = sqlite3.connect(
            self.path, timeout=self._patience, isolation_level=None, check_same_thread=False
        )
        try:
            db = Database(connection, execute_plugins=False)
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = FULL")  # a commit has reached the disk before it is told
        except BaseException:
            connection.close()
            raise
        return db

    def _migrate(self) -> None:
        with closing(self._connect()) as db:
            if migrations.pending(db):
                # The lock first: of several processes that start at once, one migrates and the others find it done.
                db.execute("BEGIN IMMEDIATE")
                with db.conn:
                    migrations.apply(db)

    def _enter_write_ahead_logging(self) -> None:
        # Of two processes that change the mode at once, one may be told at once that the file is locked, whatever
        # timeout was set. So this waits by itself.
        deadline = time.monotonic() + self._patience
        with closing(sqlite3.connect(self.path, timeout=0)) as connection:
            while True:
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                except sqlite3.OperationalError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
                else:
                    return

    def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            db = self._idle_reader()
            try:
                rows = db.execute(sql, parameters).fetchall()
            except BaseException:
                db.close()
                raise
        except sqlite3.DatabaseError as error:
            raise _core_error(error) from error
        self._idle_readers.append(db)
        return rows

    def _idle_reader(self) -> Database:
        try:
            return self._idle_readers.pop()
        except IndexError:
            return self._connect()

    @contextmanager
    def unit_of_work(self) -> Iterator[SqliteUnitOfWork]:
        """See :class:`~benefits_core.ports.Store`."""
        if self._holder == get_ident():
            raise RuntimeError("this thread has a unit of work open already")
        if not self._lock.acquire(timeout=self._patience):
            raise StorageUnavailableError(f"other units of work took longer than {self._patience} s")
        try:
            self._holder = get_ident()
            with self._transaction(self._writer) as work:
                yield work
        finally:
            self._holder = None
            self._lock.release()

    @contextmanager
    def _transaction(self, db: Database) -> Iterator[SqliteUnitOfWork]:
        work = SqliteUnitOfWork(db)
        try:
            db.execute("BEGIN IMMEDIATE")
            yield work
            work.raise_if_lost()
            db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise _core_error(error) from error
        finally:
            work.end()
            db.rollback()  # whatever was not committed

    def ping(self) -> None:
        """See :class:`~benefits_core.ports.Store`."""
        self._read("SELECT 1 FROM users LIMIT 1")

    def close(self) -> None:
        """Close the file. No unit of work may be open."""
        self._writer.close()
        while self._idle_readers:
            self._idle_readers.pop().close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
