"""Reading outside of changes: the usual reads that wait together share a round trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any, cast

import attrs

from benefits_core.calls import Call, outcome_of
from benefits_core.errors import BenefitsError
from benefits_core.model import Product, User
from benefits_core.ports import UnitOfWork
from benefits_postgres.catalogue import SELECT_VERSION, Catalogue
from benefits_postgres.connection import ConnectionLostError, Database, Rows, is_storable
from benefits_postgres.readers import (
    SELECT_USERS,
    PostgresGrantReader,
    PostgresOrderReader,
    PostgresProductReader,
    PostgresUserReader,
    user_from,
)


class Reading:
    """Reads on one connection. Any number of threads may use it.

    :param database: the connection.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._catalogue = Catalogue()
        self.users = PostgresUserReader(self.query)
        self.grants = PostgresGrantReader(self.query)
        self.products = _CatalogueReader(self.query, self)
        self.orders = PostgresOrderReader(self.query)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """Run a statement. See :class:`~benefits_postgres.readers.Query`."""
        with self._lock:
            return self._run(sql, parameters)[0]

    def list_all(self) -> tuple[Product, ...]:
        """Return the catalogue. While nothing changes, it is the same tuple."""
        with self._lock:
            [version] = self._run(SELECT_VERSION)
            return self._catalogue.products(self._database, version)

    def read_together(self, calls: list[Call]) -> list[Call]:
        """Read for calls, and empty the list: what a :class:`~benefits_postgres.worker.Worker` does with them.

        A call that asks for a user, or the catalogue, ends its run there. One round trip reads all of that; then they
        run again.
        """
        shared = _SharedReads(self)
        later: list[Call] = []
        while calls:
            calls[0].outcome = outcome_of(shared.bind(calls[0]))
            if isinstance(calls[0].outcome[1], _NotYetError):
                later.append(calls.pop(0))
            else:
                calls.pop(0).end(None)
        failure = shared.read() if later else None
        while later:
            if failure is None:
                later[0].outcome = outcome_of(shared.bind(later[0]))
            later.pop(0).end(failure)
        return []

    def read_shared(self, user_ids: Sequence[str]) -> tuple[dict[str, User], tuple[Product, ...]]:
        """Return those of these users that are stored, by id, and the catalogue."""
        with self._lock:
            version, users = self._run(
                f"{SELECT_VERSION}; {SELECT_USERS} WHERE user_id = ANY(%s)", [user_ids]
            )
            products = self._catalogue.products(self._database, version)
        return {row[0]: user_from(row) for row in users}, products

    def _run(self, statements: str, parameters: Sequence[object] = ()) -> list[Rows]:
        try:
            return self._database.run(statements, parameters)
        except ConnectionLostError:  # another server may answer
            return self._database.run(statements, parameters)

    def close(self) -> None:
        """Close the connection, once nobody reads."""
        with self._lock:
            self._database.close()


@attrs.frozen
class _CatalogueReader(PostgresProductReader):
    _reading: Reading

    def list_all(self) -> tuple[Product, ...]:
        return self._reading.list_all()


class _NotYetError(BaseException):
    """Ends the run of a call that has asked for what is to be read first. No ``except Exception`` of it may catch this."""


class _SharedReads:
    """What calls read together. Anything but a user or the catalogue is a query of its own."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.wanted: set[str] = set()
        self.users: dict[str, User] | None = None
        self.products: tuple[Product, ...] = ()
        self._view = _SharedView(self)

    def bind(self, call: Call) -> Callable[[], object]:
        """Return the call as a function without parameters. It refers to the function of the call only."""
        return partial(call.do, cast("UnitOfWork", self._view))

    def read(self) -> str | None:
        """Read what the calls have asked for; return why that failed."""
        try:
            self.users, self.products = self.reading.read_shared([*filter(is_storable, self.wanted)])
        except BenefitsError as error:
            return str(error)
        return None


class _SharedView:
    def __init__(self, shared: _SharedReads) -> None:
        self.users = _SharedUsers(shared)
        self.grants = shared.reading.grants
        self.products = _SharedProducts(shared)
        self.orders = shared.reading.orders


@attrs.frozen
class _SharedUsers:
    _shared: _SharedReads

    def get(self, user_id: str) -> User | None:
        users, wanted = self._shared.users, self._shared.wanted
        if users is None:
            wanted.add(user_id)
            raise _NotYetError
        return users.get(user_id) if user_id in wanted else self._shared.reading.users.get(user_id)

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - any other method
        return getattr(self._shared.reading.users, method)


@attrs.frozen
class _SharedProducts:
    _shared: _SharedReads

    def list_all(self) -> tuple[Product, ...]:
        if self._shared.users is None:
            raise _NotYetError
        return self._shared.products

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - any other method
        return getattr(self._shared.reading.products, method)
