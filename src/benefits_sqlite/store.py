"""The SQLite store: the file, its connections, and reading. Writing is in ``writer``, the SQL in ``repositories``.

Reads run beside the writer on connections of their own, which write-ahead logging makes possible, and wait for nobody.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, Self

from sqlite_utils import Database

from benefits_core.errors import StorageUnavailableError
from benefits_sqlite.inspection import inspect
from benefits_sqlite.repositories import (
    LastCatalogue,
    SqliteCatalogueReader,
    SqliteOrderReader,
    SqliteUserReader,
)
from benefits_sqlite.schema import migrations
from benefits_sqlite.unit_of_work import SqliteUnitOfWork, core_error
from benefits_sqlite.waiting import PATIENCE, ProcessLock, unless_busy, wait_for
from benefits_sqlite.writer import Writer

_ANY_LOOK: Final = "SELECT 1 FROM users LIMIT 1"


class SqliteSnapshot:
    """The store as it stood at one moment; :meth:`SqliteStore.snapshot` makes it."""

    def __init__(self, db: Database, last: LastCatalogue, give_back: Callable[[Database], None]) -> None:
        self._db = db
        self._give_back = give_back
        self._failed = False
        self.users = SqliteUserReader(self._query)
        self.products = SqliteCatalogueReader(self._query, last)
        self.orders = SqliteOrderReader(self._query)

    def _query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            self._failed = True
            raise core_error(error) from error

    def close(self) -> None:
        """Let the moment go."""
        if self._failed:
            self._db.close()
        else:
            self._db.rollback()
            self._give_back(self._db)


class SqliteStore:
    """Users, products and orders in one SQLite file, shared by any number of threads and processes.

    :param path: the file; it is created, and its schema brought up to date, as needed.
    :param patience: how long a unit of work waits for its turn, in seconds, before it raises StorageUnavailableError.
    :param file: if given, the :attr:`identity` of another store: this one is over that very file, or not at all.
    :raises StorageUnavailableError: the file can't be opened, or isn't one of ours.
    """

    def __init__(
        self, path: str | PathLike[str], *, patience: float = PATIENCE, file: tuple[int, int] | None = None
    ) -> None:
        self.path = fspath(path)
        self._named = Path(path).absolute()  # links in it are followed again each time
        # One name for the file and those beside it, whatever link it is opened by.
        self._file = os.path.realpath(path)
        self._patience = patience
        self._idle_readers: deque[Database] = deque()
        self._closed = False
        self.users = SqliteUserReader(self._read)
        self._last_catalogue = LastCatalogue()
        self.products = SqliteCatalogueReader(self._read, self._last_catalogue)
        self.orders = SqliteOrderReader(self._read)
        if file is not None:
            self.identity = file
            self._verify()
        inspect(self.path, patience=patience)
        with ExitStack() as opened:
            try:
                lock = opened.enter_context(closing(ProcessLock(self._file)))
                self._prepare(lock, create=file is None)
                if file is None:
                    self.identity = self._identify()
                writer = opened.enter_context(closing(self._connect()))
                self._verify()  # that it was not replaced between the inspection and now
                self._writer = Writer(writer, lock, patience, self._verify)
            except (sqlite3.DatabaseError, OSError) as error:
                raise StorageUnavailableError(f"{self.path}: {error}") from error
            opened.pop_all()

    def _connect(self, *, create: bool = False) -> Database:
        # Only who opens the store may create the file: in the place of one that has been taken away, an empty one would
        # find the log of the other beside it.
        name = f"{Path(self._file).as_uri()}?mode={'rwc' if create else 'rw'}"
        # isolation_level=None: transactions begin and end where this package says so, nowhere else.
        connection = sqlite3.connect(
            name, uri=True, timeout=self._patience, isolation_level=None, check_same_thread=False
        )
        try:
            db = Database(connection, execute_plugins=False)
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = FULL")  # a commit has reached the disk before it is told
        except BaseException:
            connection.close()
            raise
        return db

    def _prepare(self, lock: ProcessLock, *, create: bool) -> None:
        # Tried again as a whole: while another process does the same, some of these statements say at once that the file
        # is locked, whatever the connection's own wait.
        deadline = time.monotonic() + self._patience
        attempt = unless_busy(lambda: self._try_to_prepare(lock, deadline, create=create))
        if not wait_for(attempt, deadline):
            raise StorageUnavailableError(
                f"{self.path}: another program has locked it for {self._patience} s"
            )

    def _try_to_prepare(self, lock: ProcessLock, deadline: float, *, create: bool) -> None:
        with closing(self._connect(create=create)) as db:
            [[mode]] = db.execute("PRAGMA journal_mode").fetchall()
            if mode == "wal" and not migrations.pending(db):
                return
            # Under the lock, so that of several processes that start at once one does it and the others find it done.
            if not lock.acquire(deadline):
                raise StorageUnavailableError(f"{self.path}: others have been writing for {self._patience} s")
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN IMMEDIATE")
                with db.conn:
                    migrations.apply(db)
            finally:
                lock.release()

    def _identify(self) -> tuple[int, int]:
        status = self._named.stat()
        return status.st_dev, status.st_ino

    def _verify(self) -> None:
        # Our connections would go on with a file that has no name any more, and lose what they write to it.
        try:
            if self._identify() == self.identity:
                return
        except OSError:  # not there, or not to be reached
            pass
        raise StorageUnavailableError(
            f"{self.path} is not the file that was opened; put it back, or start again"
        )

    def _look(
        self, sql: str, parameters: Sequence[object] = (), *, begin: bool = False
    ) -> tuple[Database, list[tuple[Any, ...]]]:
        """Look at the file; return the connection, to be given back, and what was found.

        :param begin: whether to begin a transaction, which lasts, and shows what stands in the file at this moment.
        """
        self._require_open()
        try:
            db = self._idle_reader()
            try:
                if begin:
                    db.execute("BEGIN")
                found = db.execute(sql, parameters).fetchall()
                self._verify()  # afterwards is enough: an open connection never reads another file
            except BaseException:
                db.close()
                raise
        except sqlite3.DatabaseError as error:
            raise core_error(error) from error
        return db, found

    def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        db, rows = self._look(sql, parameters)
        self._idle_readers.append(db)
        return rows

    def _idle_reader(self) -> Database:
        try:
            return self._idle_readers.pop()
        except IndexError:
            self._verify()
            return self._connect()

    def snapshot(self) -> SqliteSnapshot:
        """Return the store as it stands now, to be read by one thread and then closed.

        It spares whoever reads more than one thing a look at the file for each.

        :raises StorageUnavailableError: the store can't be read now.
        """
        db, _ = self._look(_ANY_LOOK, begin=True)
        return SqliteSnapshot(db, self._last_catalogue, self._idle_readers.append)

    def unit_of_work(self) -> AbstractContextManager[SqliteUnitOfWork]:
        """See :class:`~benefits_core.ports.Store`. Units that waited together are kept together, by one commit."""
        self._require_open()
        return self._writer.unit_of_work()

    def batch(self, *, since: float) -> AbstractContextManager[None]:
        """Open a batch: units of work that this thread opens in the block, one after the other, are kept by one commit.

        They are kept when the block is left, not before: until then nobody may be told what became of any of them, also not
        of a refusal. It spares each its own commit without a thread for each.

        :param since: when the first of those for whom it is done began to wait, by ``time.monotonic()``.
        :raises StorageUnavailableError: the turn did not come in time, or what was done could not be kept; none of it is.
        """
        self._require_open()
        return self._writer.batch(since + self._patience)

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"the store over {self.path} is closed")

    def ping(self) -> None:
        """See :class:`~benefits_core.ports.Store`."""
        self._read(_ANY_LOOK)

    def close(self) -> None:
        """Close the file, while no unit of work is open. Using the store later raises RuntimeError.

        Closing it again does nothing.
        """
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        while self._idle_readers:
            self._idle_readers.pop().close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
