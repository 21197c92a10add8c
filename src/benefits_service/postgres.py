"""A PostgreSQL database as commands and the service use it. Importing this needs psycopg."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NoReturn

import attrs

from benefits_core import NonBlockingStore, StorageUnavailableError
from benefits_core.audit import Audit
from benefits_core.copying import Company
from benefits_postgres import PostgresStore, audit_database, fold_user_ids, read_company, shown, write_company
from benefits_service.user_ids import folded_user_id


def _shown(database: PostgresDatabase) -> str:
    return shown(database.url)


@attrs.frozen
class PostgresDatabase:
    """A PostgreSQL database. See :class:`~benefits_service.databases.Database`, also for its methods."""

    url: str = attrs.field(repr=False)  # it may hold a password
    name: str = attrs.field(init=False, default=attrs.Factory(_shown, takes_self=True))

    is_missing = False

    def open(self, announce: Callable[[str], object], *, create: bool = True) -> PostgresStore:  # noqa: D102
        return PostgresStore(self.url, create=create, announce=announce)

    def opener(self, announce: Callable[[str], object]) -> Callable[[], NonBlockingStore]:  # noqa: D102
        self.open(announce).close()
        return partial(PostgresStore, self.url, create=False)

    def fold_user_ids(self) -> int:  # noqa: D102
        return fold_user_ids(self.url, folded_user_id)

    def audit(self) -> Audit:  # noqa: D102
        return audit_database(self.url)

    def read_company(self) -> AbstractContextManager[Company]:  # noqa: D102
        return read_company(self.url)

    def write_company(self, company: Company) -> Audit:  # noqa: D102
        return write_company(self.url, company)

    def back_up(self, target: Path, *, overwrite: bool) -> NoReturn:  # noqa: ARG002, D102
        raise StorageUnavailableError(
            f"{self.name}: PostgreSQL is backed up by its own tools: pg_dump, or pg_basebackup with an archive of its log"
        )
