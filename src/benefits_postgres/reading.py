"""Reading outside of changes: the usual reads that wait together share a round trip."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import NoReturn, cast

import attrs

from benefits_core.calls import Call, outcome_of
from benefits_core.errors import BenefitsError
from benefits_core.model import User
from benefits_core.ports import UnitOfWork
from benefits_postgres.catalogue import SELECT_VERSION, Catalogue, CatalogueCache, PostgresProductReader
from benefits_postgres.connection import ConnectionLostError, Database, Rows
from benefits_postgres.readers import (
    SELECT_USERS,
    PostgresGrantReader,
    PostgresOrderReader,
    PostgresUserReader,
    storable,
    user_from,
)


class Reading:
    """Reads on one connection. Any number of threads may use it.

    :param database: the connection.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._closed = False
        self._cache = CatalogueCache()
        self.users = PostgresUserReader(self.query)
        self.grants = PostgresGrantReader(self.query)
        self.products = PostgresProductReader(self.query, self._catalogue)
        self.orders = PostgresOrderReader(self.query)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """Run a statement. See :class:`~benefits_postgres.readers.Query`."""
        with self._lock:
            return self._run(sql, parameters)[0]

    def _catalogue(self) -> Catalogue:
        return self._read_together(())[1]

    def read_together(self, calls: list[Call]) -> list[Call]:
        """Read for calls, and empty the list: what a :class:`~benefits_postgres.worker.Worker` does with them.

        A call that asks for a user, or the catalogue, ends its run there. One round trip reads all of that; then they
        run again.
        """
        shared = _Shared()
        view = cast("UnitOfWork", _View(self, shared))
        later: list[Call] = []
        while calls:
            shared.is_missed = False
            calls[0].outcome = outcome_of(partial(calls[0].do, view))
            if shared.is_missed:
                later.append(calls.pop(0))
            else:
                calls.pop(0).end(None)
        failure = self._read_shared(shared) if later else None
        while later:
            if failure is None:
                later[0].outcome = outcome_of(partial(later[0].do, view))
            later.pop(0).end(failure)
        return []

    def _read_shared(self, shared: _Shared) -> str | None:
        """Read what calls have asked for; return why that failed."""
        try:
            shared.found = self._read_together(storable(shared.wanted))
        except BenefitsError as error:
            return str(error)
        return None

    def _read_together(self, user_ids: Sequence[str]) -> tuple[dict[str, User], Catalogue]:
        """Return those of these users that are stored, by id, and the catalogue."""
        with self._lock:
            version, users = self._run(
                f"{SELECT_VERSION}; {SELECT_USERS} WHERE user_id = ANY(%s)", [list(user_ids)]
            )
            catalogue = self._cache.read(self._database, version)
        return {row[0]: user_from(row) for row in users}, catalogue

    def _run(self, statements: str, parameters: Sequence[object]) -> list[Rows]:
        if self._closed:
            raise RuntimeError("the store is closed")
        try:
            return self._database.run(statements, parameters)
        except ConnectionLostError:  # another server may answer
            return self._database.run(statements, parameters)

    def close(self) -> None:
        """Close the connection once no thread reads. Reading later raises RuntimeError."""
        with self._lock:
            self._closed = True
            self._database.close()


class _MissedError(BaseException):
    """Ends the run of a call that has asked for what is to be read first. No ``except Exception`` of it may catch this."""


class _Shared:
    """What calls read together.

    :ivar is_missed: whether the call that runs has asked for what is not there.
    :ivar wanted: the ids of the users that calls have asked for.
    :ivar found: those of them that are stored, by id, and the catalogue; None until they were read.
    """

    def __init__(self) -> None:
        self.is_missed = False
        self.wanted: set[str] = set()
        self.found: tuple[dict[str, User], Catalogue] | None = None

    def miss(self) -> NoReturn:
        self.is_missed = True
        raise _MissedError

    def catalogue(self) -> Catalogue:
        return self.miss() if self.found is None else self.found[1]


@attrs.frozen
class _Users(PostgresUserReader):
    _shared: _Shared

    def get(self, user_id: str) -> User | None:
        shared = self._shared
        if shared.found is None:
            shared.wanted.add(user_id)
            shared.miss()
        return shared.found[0].get(user_id) if user_id in shared.wanted else super().get(user_id)


class _View:
    """What calls read together is shared; anything else is a query of its own."""

    def __init__(self, reading: Reading, shared: _Shared) -> None:
        self.users = _Users(reading.query, shared)
        self.grants = reading.grants
        self.products = PostgresProductReader(reading.query, shared.catalogue)
        self.orders = reading.orders
