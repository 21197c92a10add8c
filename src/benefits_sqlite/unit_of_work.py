"""A unit of work over SQLite: the repositories, and what a failed statement means for all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database

from benefits_core.errors import BenefitsError, InconsistentChangeError, StorageUnavailableError
from benefits_sqlite.repositories import (
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

    def __init__(self, db: Database) -> None:
        self._db: Database | None = db
        self._lost: BenefitsError | None = None
        self._locked: dict[str, LockedUser] = {}

    # Made when asked for: a unit of work that held them, who hold it, could be freed by the garbage collector alone.
    @property
    def users(self) -> SqliteUserRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return SqliteUserRepository(self._query, self._locked)

    @property
    def products(self) -> SqliteProductRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return SqliteProductRepository(self._query)

    @property
    def orders(self) -> SqliteOrderRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return SqliteOrderRepository(self._query, self._locked, self._lose)

    def _query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        if self._db is None:
            raise RuntimeError("this unit of work has ended")
        self.raise_if_lost()
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            # SQLite may have rolled back by itself, and would keep whatever came now at once, alone.
            lost = core_error(error)
            self._lose(lost)
            raise lost from error

    def _lose(self, error: BenefitsError) -> None:
        self._lost = error

    def raise_if_lost(self) -> None:
        """Raise the error that has lost this unit of work, if any has."""
        if self._lost is not None:
            raise self._lost

    def end(self) -> None:
        """Let go of the connection, which others use from now on."""
        self._db = None
