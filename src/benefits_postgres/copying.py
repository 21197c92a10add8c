"""Copying all that a store keeps: out of a database, and into an empty one, where it is audited before it is committed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Final

from benefits_core.audit import Audit
from benefits_core.copying import COLUMNS, Company, Row
from benefits_core.errors import BenefitsError, StorageUnavailableError
from benefits_postgres.audit import BEGIN, SETTINGS, audit_open
from benefits_postgres.connection import DURABLY, PATIENCE, ConnectionLostError, Database, shown
from benefits_postgres.schema import pending, prepare

_ROWS_AT_ONCE: Final = 5000
_COMMIT: Final = 60.0  # seconds, after which it is not known whether a copy was kept

_NO_TIMEOUT: Final = "SET LOCAL idle_in_transaction_session_timeout = 0;"
_NUMBERS: Final = f"""
    SELECT {" + ".join(f"(SELECT count(*) FROM {table})" for table in COLUMNS)},
           greatest(last_value - 1 + is_called::int, (SELECT max(order_number) FROM orders)) FROM order_numbers
    """
_DECLARE: Final = "DECLARE copied CURSOR FOR SELECT {} FROM {} ORDER BY 1, 2"
# Later grants have a number that a sequence has given.
_PLACE: Final = "row_number() OVER (PARTITION BY user_number ORDER BY position) - 1"

# Every change of a store writes to the table writers first. So with that locked, none is under way, and none can begin.
_LOCK: Final = f"""
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {SETTINGS} {_NO_TIMEOUT}
    SELECT {DURABLY};
    LOCK TABLE writers, {", ".join(COLUMNS)} IN EXCLUSIVE MODE;
    SELECT EXISTS (SELECT FROM products) OR EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM orders)
    """
_LARGEST: Final = """
    SELECT (SELECT coalesce(max(user_number), 0) FROM users), (SELECT coalesce(max(position), 0) FROM grants)
    """
# Unlike setval, this is undone with the transaction.
_RESTART: Final = """
    ALTER SEQUENCE user_numbers RESTART WITH %s; ALTER SEQUENCE grant_positions RESTART WITH %s;
    ALTER SEQUENCE order_numbers RESTART WITH %s;
    """


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except BenefitsError as error:
        raise StorageUnavailableError(f"{shown(url)}: {error}") from error


@contextmanager
def read_company(url: str) -> Iterator[Company]:
    """Read a database as it stands at one moment; a service may be using it, and a standby will do.

    :raises StorageUnavailableError: it can't be read, which may show while the rows are read, or it is of another version.
    """
    with closing(Database(url, PATIENCE, read_only=True)) as database:
        with _explained(url):
            if pending(database):
                raise StorageUnavailableError(
                    "it is empty or of an earlier version; `benefits serve` brings it up to date"
                )
            [*_, [[row_count, last_order]]] = database.run(f"{BEGIN} {_NO_TIMEOUT} {_NUMBERS}", limit=None)
        yield Company(partial(_rows, url, database), row_count, last_order)


def _rows(url: str, database: Database, table: str) -> Iterator[Row]:
    columns = list(COLUMNS[table])
    if table == "grants":
        columns[columns.index("position")] = _PLACE
    fetch = f"FETCH {_ROWS_AT_ONCE} FROM copied"
    with _explained(url):
        [_, page] = database.run(f"{_DECLARE.format(', '.join(columns), table)}; {fetch}", limit=None)
        while page:
            for row in page:
                # In UTC, which is the timezone of the transaction.
                yield tuple([value.isoformat() if isinstance(value, datetime) else value for value in row])
            [page] = database.run(fetch, limit=None)
        database.run("CLOSE copied")


def write_company(url: str, company: Company) -> Audit:
    """Write a company to a database without one, and audit it. If the audit finds a fault, or anything fails, nothing is kept.

    Tables that the database lacks are created, and stay.

    :raises StorageUnavailableError: there is a company, a row breaks a constraint, or the database can't be written to.
    """
    with closing(Database(url, PATIENCE)) as database:
        with _explained(url):
            prepare(database, create=True)
            [*_, [[is_full]]] = database.run(_LOCK, limit=None)
            if is_full:
                raise StorageUnavailableError("it has a company already; name an empty database for the copy")
        for table, columns in COLUMNS.items():
            rows = company.rows(table)
            while page := list(islice(rows, _ROWS_AT_ONCE)):  # whose errors are not of this database
                with _explained(url):
                    database.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN", page)
        with _explained(url):
            return _audit_and_keep(database, company.last_order_number)


def _audit_and_keep(database: Database, last_order: int) -> Audit:
    [[[user, grant]]] = database.run(_LARGEST, limit=None)
    database.run(_RESTART, [user + 1, grant + 1, last_order + 1])
    # Without it, the queries of the audit would be planned for tables that are nearly empty.
    database.run(f"ANALYZE {', '.join(COLUMNS)}", limit=None)
    found = audit_open(database)
    if not found.findings:
        try:
            database.run("COMMIT", limit=_COMMIT)
        except ConnectionLostError as error:
            raise StorageUnavailableError(
                "the connection was lost during the commit; it is not known whether the copy was kept;"
                f" `benefits check` shows it: {error}"
            ) from error
    return found
