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
        self._session = session = _Session(db, known)
        query = session.query
        self.users = SqliteUserRepository(query, session)
        self.products = SqliteProductRepository(query, session)
        self.orders = SqliteOrderRepository(query, session, self.users)

    def finish(self) -> None:
        """Write what is left to write.

        :raises BenefitsError: this unit of work is lost.
        """
        self.users.put_newcomers()  # which raises if it is lost

    def end(self) -> None:
        """Let go of the connection, which others use from now on."""
        self._session.end()


class _Session:
    """What the repositories of a unit of work share, as long as it is usable.

    They hold it, and not the unit of work: if each held the other, nothing but the garbage collector could free them.
    """

    def __init__(self, db: Database, known: Known) -> None:
        self._db: Database | None = db
        self._known = known
        self._lost: BenefitsError | None = None
        self._locked: dict[str, LockedUser] = {}

    def _usable(self) -> Database:
        if self._db is None:
            raise RuntimeError("this unit of work has ended")
        if self._lost is not None:
            raise self._lost
        return self._db

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._usable().execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            # SQLite may have rolled back by itself, and would keep whatever came now at once, alone.
            lost = core_error(error)
            self.lose(lost)
            raise lost from error

    def locked(self) -> dict[str, LockedUser]:
        self._usable()
        return self._locked

    def known(self) -> Known:
        self._usable()
        return self._known.current(self.query)

    def lose(self, error: BenefitsError) -> None:
        self._lost = error

    def end(self) -> None:
        self._db = self._lost = None  # an error holds all that it went through
