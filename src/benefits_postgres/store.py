"""The PostgreSQL store: two connections, one to write and one to read, and a thread for each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self, TypeVar, cast

from benefits_core.calls import Place
from benefits_core.errors import BenefitsError, StorageUnavailableError
from benefits_core.ports import UnitOfWork, View
from benefits_postgres.connection import PATIENCE, Database, shown
from benefits_postgres.reading import Reading
from benefits_postgres.schema import prepare
from benefits_postgres.transaction import Transaction
from benefits_postgres.worker import Worker
from benefits_postgres.writer import Writer

_Result = TypeVar("_Result")


class PostgresStore:
    """Users, grants, products and orders in a PostgreSQL database, shared by any number of threads, processes and machines.

    :param url: the database, as libpq takes it: ``postgresql://user@host/name``. Its tables are created, or brought up
        to date, as needed.
    :param patience: how long a change waits for others before it begins, in seconds.
    :param create: whether a database that has no tables of this program gets them; False to refuse it.
    :param announce: called with one sentence before a database of an earlier version is brought up to date.
    :raises StorageUnavailableError: the database can't be reached or used.
    """

    reads_inline = False

    def __init__(
        self,
        url: str,
        *,
        patience: float = PATIENCE,
        create: bool = True,
        announce: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._patience = patience
        self._written, self._reading = Database(url, patience), Reading(Database(url, patience))
        try:
            prepare(
                self._written,
                create=create,
                announce=lambda: announce(
                    f"{shown(url)} is of an earlier version; it is brought up to date."
                ),
            )
        except BaseException as error:
            self._written.close()
            if isinstance(error, BenefitsError):
                raise StorageUnavailableError(f"{shown(url)}: {error}") from error
            raise
        self._reader = Worker("benefits-reader", patience, self._reading.read_together)
        self._writer = Worker("benefits-writer", patience, Writer(Transaction(self._written, patience)))
        self.users, self.grants = self._reading.users, self._reading.grants
        self.products, self.orders = self._reading.products, self._reading.orders

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """See :class:`~benefits_core.ports.Store`. Changes that wait together are kept by one commit."""
        place: Place[_Result] = Place()
        try:
            self._writer.put(do, place)
            if not place.wait(self._patience):
                raise StorageUnavailableError(self._writer.too_long())
            return place.result()
        finally:
            place.cancel()  # if Ctrl-C arrived before it began

    def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`."""
        future: Future[_Result] = Future()
        self._writer.put(do, future)
        return future

    def submit_read(self, query: Callable[[View], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`. Reads that wait together share a round trip."""
        future: Future[_Result] = Future()
        self._reader.put(cast("Any", query), future)
        return future

    def ping(self) -> None:
        """See :class:`~benefits_core.ports.Store`."""
        self._reading.query("SELECT FROM users LIMIT 1")

    def close(self) -> None:
        """Run the changes that wait, and close the connections. Using the store later raises RuntimeError.

        Closing it again does nothing.
        """
        if self._writer.close():
            self._reader.close()
            self._written.close()
            self._reading.close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()
