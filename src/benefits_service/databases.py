"""The kinds of databases that ``--database`` can name: a SQLite file, or a PostgreSQL database by its URL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs

from benefits_core import NonBlockingStore, StorageUnavailableError, Store
from benefits_core.audit import Audit
from benefits_core.copying import Company
from benefits_service.user_ids import folded_user_id
from benefits_sqlite import (
    SqliteStore,
    audit_database,
    back_up_database,
    fold_user_ids,
    read_company,
    write_company,
)

Announce = Callable[[str], object]


class Database(Protocol):
    """A database that commands and the service use."""

    @property
    def name(self) -> str:
        """What is printed: it has no password."""

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing that could be opened, as far as can be told without opening it."""

    def open(self, announce: Announce, *, create: bool = True) -> AbstractContextManager[Store]:
        """Return its store. The schema is brought up to date as needed.

        :param announce: called with one sentence before the schema of an earlier version is brought up to date.
        :param create: whether a database without anything in it is set up; False to refuse it.
        :raises StorageUnavailableError: the database can't be used; the message says why.
        """

    def opener(self, announce: Announce) -> Callable[[], NonBlockingStore]:
        """Open the store once, and return how each worker process opens it: over the very same database, or not at all.

        :raises StorageUnavailableError: see :meth:`open`.
        """

    def fold_user_ids(self) -> int:
        """Make the case of all user ids irrelevant; return how many have changed.

        :raises StorageUnavailableError: two of them differ only by case, for example; nothing has changed.
        """

    def audit(self) -> Audit:
        """Verify that it is sound, and that its books balance.

        :raises StorageUnavailableError: the audit could not finish.
        """

    def back_up(self, target: Path, *, overwrite: bool) -> tuple[str, ...]:
        """Copy it to a file; return what is worth knowing about that, a sentence each.

        :raises StorageUnavailableError: it can't be read, or is backed up by other means.
        """

    def read_company(self) -> AbstractContextManager[Company]:
        """Return all that it keeps, as it stands at one moment.

        :raises StorageUnavailableError: it can't be read, which may show while the rows are read, or it is of another version.
        """

    def write_company(self, company: Company) -> Audit:
        """Write a company, and audit it. If the audit finds a fault, or anything fails, nothing is kept.

        :raises StorageUnavailableError: it has a company already, or can't be written.
        """


@attrs.frozen
class SqliteFile:
    """A SQLite file."""

    name: str

    @property
    def is_missing(self) -> bool:
        """See :class:`Database`."""
        return not Path(self.name).exists()

    def open(self, announce: Announce, *, create: bool = True) -> SqliteStore:  # noqa: ARG002 - see is_missing
        """See :class:`Database`."""
        return SqliteStore(self.name, announce=announce)

    def opener(self, announce: Announce) -> Callable[[], NonBlockingStore]:
        """See :class:`Database`."""
        with self.open(announce) as store:
            return partial(SqliteStore, self.name, file_id=store.file_id)

    def fold_user_ids(self) -> int:
        """See :class:`Database`."""
        return fold_user_ids(self.name, folded_user_id)

    def audit(self) -> Audit:
        """See :class:`Database`."""
        return audit_database(self.name)

    def back_up(self, target: Path, *, overwrite: bool) -> tuple[str, ...]:
        """See :class:`Database`."""
        return tuple(back_up_database(self.name, target, overwrite=overwrite))

    def read_company(self) -> AbstractContextManager[Company]:
        """See :class:`Database`."""
        return read_company(self.name)

    def write_company(self, company: Company) -> Audit:
        """See :class:`Database`."""
        return write_company(self.name, company)


def database_at(location: str) -> Database:
    """Return the database of a location: a PostgreSQL URL, or else the path of a SQLite file.

    :raises StorageUnavailableError: it is no valid URL, or the package for PostgreSQL can't be imported.
    """
    if not location.startswith(("postgresql://", "postgres://")):
        if "://" in location or location.startswith(("postgresql:", "postgres:")):
            # It may hold a password, which a message about a file of this name would show.
            raise StorageUnavailableError(
                "a database is a SQLite file, or a URL that begins with postgresql://"
            )
        return SqliteFile(location)
    try:
        from benefits_service.postgres import PostgresDatabase  # noqa: PLC0415 - its driver is an extra
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        reason = f"the package {error.name} is not installed" if missing else " ".join(str(error).split())
        raise StorageUnavailableError(f"{reason}; run: pip install 'benefits[postgres]'") from error
    return PostgresDatabase(location)
