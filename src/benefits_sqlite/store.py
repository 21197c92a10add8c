"""The SQLite store: the file, its connections, and reading. ``group_commit`` writes; ``readers`` and ``repositories`` have the SQL.

Reads run on connections of their own. Write-ahead logging lets them run beside a change, without waiting for it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import chain, count
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlite_utils import Database

from benefits_core.errors import StorageUnavailableError
from benefits_core.ports import UnitOfWork, View
from benefits_sqlite.backup import back_up_database
from benefits_sqlite.connection import connect, decoded
from benefits_sqlite.group_commit import GroupCommit
from benefits_sqlite.inspection import inspect
from benefits_sqlite.ownership import share_logs
from benefits_sqlite.readers import (
    LastCatalogue,
    SqliteCatalogueReader,
    SqliteGrantReader,
    SqliteOrderReader,
    SqliteUserReader,
)
from benefits_sqlite.repositories import core_error
from benefits_sqlite.schema import migrations
from benefits_sqlite.second_name import find_second_name
from benefits_sqlite.transaction import Transaction
from benefits_sqlite.waiting import PATIENCE, ProcessLock, unless_busy, wait_for

_Result = TypeVar("_Result")


class SqliteStore:
    """Users, grants, products and orders in one SQLite file, shared by any number of threads and processes.

    :param path: the file; it is created, and its schema brought up to date, as needed.
    :param patience: how long a change waits for others before it begins, in seconds.
    :param file_id: if given, the :attr:`file_id` of another store: this one opens that very file, or none.
    :param announce: called with one sentence before the schema is brought up to date; it names the copy.
    :ivar file_id: the device and the inode number of the file.
    :raises StorageUnavailableError: the file can't be opened or copied, or isn't one of ours.
    """

    reads_inline = True

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        patience: float = PATIENCE,
        file_id: tuple[int, int] | None = None,
        announce: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.path = fspath(path)
        self._link_path = Path(path).absolute()  # links in it are followed again each time
        # So that the database and the files beside it have one name, whatever link the database is opened by.
        self._real_path = os.path.realpath(path)
        self._patience = patience
        self._idle_connections: deque[Database] = deque()
        self._announce = announce
        self.users = SqliteUserReader(self._read)
        self.grants = SqliteGrantReader(self._read)
        self.products = SqliteCatalogueReader(self._read, LastCatalogue())
        self.orders = SqliteOrderReader(self._read)
        if file_id is None:
            # Only at the start: a hard link that a backup program makes for a while must not keep workers from starting.
            _refuse_second_name(self.path)
        else:
            self.file_id = file_id
            self._verify()
        inspect(self.path, patience=patience)
        with ExitStack() as opened:
            try:
                lock = opened.enter_context(closing(ProcessLock(self._real_path)))
                self._prepare(lock, create=file_id is None)
                if file_id is None:
                    self.file_id = self._identify()
                writer = opened.enter_context(closing(self._connect()))
                writer.execute("PRAGMA user_version").fetchall()  # which opens the logs
                share_logs(self._real_path)
                self._verify()  # that it was not replaced while it was opened
                self._transaction = Transaction(writer, lock, self._verify)
            except (sqlite3.DatabaseError, OSError) as error:
                raise StorageUnavailableError(f"{self.path}: {error}") from error
            opened.pop_all()
        self._changes = GroupCommit(self._transaction, patience)

    def _connect(self, *, create: bool = False) -> Database:
        return connect(self._real_path, timeout=self._patience, create=create)

    def _prepare(self, lock: ProcessLock, *, create: bool) -> None:
        # Tried again as a whole: while another process does the same, some of these statements fail with SQLITE_BUSY at
        # once, without the connection's own wait.
        deadline = time.monotonic() + self._patience
        attempt = unless_busy(lambda: self._try_to_prepare(lock, deadline, create=create))
        if not wait_for(attempt, deadline):
            raise StorageUnavailableError(
                f"{self.path}: another program has locked it for {self._patience} s"
            )

    def _try_to_prepare(self, lock: ProcessLock, deadline: float, *, create: bool) -> None:
        with closing(self._connect(create=create)) as db:
            db.conn.text_factory = decoded
            [[mode]] = db.execute("PRAGMA journal_mode").fetchall()
            if mode == "wal" and not migrations.pending(db):
                return
            # Under the lock, so that of several processes that start at once one does it and the others find it done.
            if not lock.acquire(deadline):
                raise StorageUnavailableError(
                    f"{self.path}: other processes have been writing for {self._patience} s"
                )
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN IMMEDIATE")
                with self._copy_of_earlier(db), db.conn:
                    migrations.apply(db)
            finally:
                lock.release()

    @contextmanager
    def _copy_of_earlier(self, db: Database) -> Iterator[None]:
        """Copy a database of an earlier version, which nobody else may write to now. After an error, no copy is left."""
        pending = migrations.pending(db)
        if not pending or not migrations.applied(db):
            yield
            return
        name = f"{self._real_path}.before-{pending[0].name}"
        copies = map(Path, chain([name], (f"{name}-{number}" for number in count(2))))
        copy = next(copy for copy in copies if not copy.exists())
        self._announce(
            f"{self.path} is of an earlier version; it is copied to {copy}, then brought up to date."
        )
        back_up_database(self.path, copy)
        try:
            yield
        except BaseException:
            copy.unlink()  # or each attempt would leave one, until the disk is full
            raise

    def _identify(self) -> tuple[int, int]:
        status = self._link_path.stat()
        return status.st_dev, status.st_ino

    def _verify(self) -> None:
        # Connections go on with a file whose name was removed, and what they write to it is lost.
        try:
            if self._identify() == self.file_id:
                return
        except OSError:  # it is missing, or its folder can't be read
            pass
        raise StorageUnavailableError(
            f"{self.path} is not the file that was opened; put it back, or start again"
        )

    def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self._changes.require_open()
        try:
            db = self._take_connection()
            try:
                rows = db.execute(sql, parameters).fetchall()
                self._verify()  # afterwards is enough: an open connection never reads another file
            except BaseException:
                db.close()
                raise
        except sqlite3.DatabaseError as error:
            raise core_error(error) from error
        self._idle_connections.append(db)
        if self._changes.closed:  # by another thread, during this read
            self._close_idle()
        return rows

    def _take_connection(self) -> Database:
        try:
            return self._idle_connections.pop()
        except IndexError:
            self._verify()
            return self._connect()

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """See :class:`~benefits_core.ports.Store`. Changes that wait together are kept by one commit."""
        return self._changes.change(do)

    def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`."""
        return self._changes.submit(do)

    def submit_read(self, query: Callable[[View], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`. The future is done already."""
        future: Future[_Result] = Future()
        try:
            future.set_result(query(self))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            future.set_exception(error)
        try:
            return future
        finally:
            del future  # or its error refers to this frame, and this frame to it

    def ping(self) -> None:
        """See :class:`~benefits_core.ports.Store`."""
        self._read("SELECT 1 FROM users LIMIT 1")

    def close(self) -> None:
        """Run the changes that wait, and close the file. Using the store later raises RuntimeError.

        Closing it again does nothing.
        """
        if self._changes.close():
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):  # another thread may take the last one
            while True:
                self._idle_connections.pop().close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


def _refuse_second_name(path: str) -> None:
    second = find_second_name(path)
    if second is not None:
        raise StorageUnavailableError(f"{path}: {second.fact}; {second.remedy}")
