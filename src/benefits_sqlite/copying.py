"""Copying all that a store keeps: out of a file, and into a new one, which is audited before it gets its name."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from sqlite_utils import Database

from benefits_core.audit import Audit
from benefits_core.copying import COLUMNS, Company, Row
from benefits_core.errors import StorageUnavailableError
from benefits_core.values import utc
from benefits_sqlite.audit import audit_database
from benefits_sqlite.inspection import UnsoundDatabaseError, explained, inspect, open_for_reading
from benefits_sqlite.publishing import publish, unfinished_beside
from benefits_sqlite.schema import migrations
from benefits_sqlite.second_name import find_second_name

_SELECT_ROW_COUNT: Final = f"SELECT {' + '.join(f'(SELECT count(*) FROM {table})' for table in COLUMNS)}"  # noqa: S608 - our own names
_SELECT_LAST_ORDER: Final = "SELECT coalesce(max(order_number), 0) FROM orders"


@contextmanager
def read_company(path: str) -> Iterator[Company]:
    """Read a database as it stands at one moment; a service may be using it. The file is not changed.

    :raises StorageUnavailableError: it can't be read, which may show while the rows are read, or it is of another version.
    """
    second = find_second_name(path)
    if second is not None:
        raise StorageUnavailableError(f"{path}: {second.fact}; {second.remedy}")
    inspect(path, to_write=False)
    with closing(open_for_reading(path)) as connection:
        with explained(path):
            connection.execute("BEGIN")  # all queries see the same moment
            if migrations.pending(Database(connection, execute_plugins=False)):
                raise StorageUnavailableError(
                    f"{path}: it is empty or of an earlier version; `benefits serve` brings it up to date"
                )
            connection.text_factory = str  # which raises an error for what is not UTF-8, and replaces nothing
            [[row_count]] = connection.execute(_SELECT_ROW_COUNT)
            [[last_order]] = connection.execute(_SELECT_LAST_ORDER)
        yield Company(partial(_rows, path, connection), row_count, last_order)


def _rows(path: str, connection: sqlite3.Connection, table: str) -> Iterator[Row]:
    columns = COLUMNS[table]
    moments = [place for place, column in enumerate(columns) if column.endswith("_at")]
    with explained(path):
        for row in connection.execute(f"SELECT {', '.join(columns)} FROM {table}"):  # noqa: S608 - our own names
            values = list(row)
            for place in moments:
                if values[place] is not None:
                    values[place] = _in_utc(path, table, values[place])
            yield tuple(values)


def _in_utc(path: str, table: str, moment: str) -> str:
    try:
        return utc(datetime.fromisoformat(moment), "moment").isoformat()
    except ValueError as error:  # which InvalidValueError is too
        raise UnsoundDatabaseError(
            f"{path}: table {table}: {moment!r} is no moment; see benefits check"
        ) from error


def write_company(path: str, company: Company) -> Audit:
    """Write a company to a new file, and audit it. If the audit finds a fault, or anything fails, there is no such file.

    Only its owner may read the file.

    :raises StorageUnavailableError: there is such a file, it can't be written, or a row breaks a constraint.
    """
    for name in (path, f"{path}-wal", f"{path}-journal"):  # SQLite would read a log into the copy
        if os.path.lexists(name):
            raise StorageUnavailableError(f"{name}: it exists; name a new file for the copy")
    inspect(path)
    try:
        with unfinished_beside(Path(path)) as (unfinished, _):
            _fill(unfinished, path, company)
            audit = audit_database(str(unfinished))
            if not audit.findings:
                publish(unfinished, Path(path), overwrite=False)
    except OSError as error:
        raise StorageUnavailableError(f"{path}: {error.strerror}") from error
    return audit


def _fill(file: Path, path: str, company: Company) -> None:
    with explained(path), closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA fullfsync = ON")  # see connection.py
        connection.execute("PRAGMA journal_mode = MEMORY")  # if this process is killed, no journal is left
        connection.execute("BEGIN")
        migrations.apply(Database(connection, execute_plugins=False))
        for table, columns in COLUMNS.items():
            places = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608 - our own names
                company.rows(table),
            )
        connection.execute("COMMIT")
