"""A unit of work over SQLite: the repositories, and what a failed statement means for all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database

from benefits_core.errors import BenefitsError, InconsistentChangeError, StorageUnavailableError
from benefits_sqlite.repositories import (
    Known,
    LockedUser,
    SqliteOrderRepository,
    SqliteProductRepository,
    SqliteUserRepository,
)


def core_error(error: sqlite3.DatabaseError) -> BenefitsError:
    """Return the core's error for one of SQLite's."""
    if isinstance(error, sqlite3.IntegrityError):
        return InconsistentChangeError(str(error))
    return StorageUnavailableError(str(error))


class SqliteUnitOfWork:
    """One transaction, seen as repositories."""

    def __init__(self, db: Database, known: Known) -> None:
        self._db: Database | None = db
        self._known = known
        self._lost: BenefitsError | None = None
        self._locked: dict[str, LockedUser] = {}

    # Made when asked for: a unit of work that held them, who hold it, could be freed by the garbage collector alone.
    @property
    def users(self) -> SqliteUserRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return SqliteUserRepository(self._query, self._users, self._look)

    @property
    def products(self) -> SqliteProductRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return SqliteProductRepository(self._query, self._look)

    @property
    def orders(self) -> SqliteOrderRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return SqliteOrderRepository(self._query, self._users, self._look, self._lose)

    def _usable(self) -> Database:
        if self._db is None:
            raise RuntimeError("this unit of work has ended")
        self._raise_if_lost()
        return self._db

    def _users(self) -> dict[str, LockedUser]:
        self._usable()
        return self._locked

    def _look(self) -> Known:
        self._usable()
        return self._known.current(self._query)

    def _query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._usable().execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            # SQLite may have rolled back by itself, and would keep whatever came now at once, alone.
            lost = core_error(error)
            self._lose(lost)
            raise lost from error

    def _lose(self, error: BenefitsError) -> None:
        self._lost = error

    def finish(self) -> None:
        """Write what is left to write.

        :raises BenefitsError: this unit of work is lost.
        """
        self._raise_if_lost()
        self.users.put_newcomers()

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise self._lost

    def end(self) -> None:
        """Let go of the connection, which others use from now on."""
        self._db = None
