"""The audit of a database: whether its tables are as this version defines them, and its books balance. It only reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any, Final
from zlib import crc32

import psycopg

from benefits_core.audit import Audit
from benefits_core.errors import BenefitsError, StorageUnavailableError
from benefits_postgres.books import audit_books
from benefits_postgres.connection import PATIENCE, Database, shown
from benefits_postgres.schema import pending

SETTINGS: Final = """
    SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '10s'; SET LOCAL cursor_tuple_fraction = 1;
    SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO';
    """
"""The settings of a transaction with an audit."""

BEGIN: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {SETTINGS}"
"""Begins a transaction for reading at one moment."""

_FETCH: Final = "FETCH 5000 FROM found"

DEFINITIONS: Final = {
    "table benefits_migrations": 0x7C43B0C4,
    "table cancelled_lines": 0xFFCDEC23,
    "table catalogue": 0xC3C91699,
    "table grants": 0x1747F280,
    "table order_lines": 0xA4F98F25,
    "table orders": 0xD14A4C62,
    "table products": 0x1A279AF1,
    "table users": 0xF69655D9,
    "table writers": 0xBA924A6F,
    **dict.fromkeys(
        ("sequence grant_positions", "sequence order_numbers", "sequence user_numbers"), 0xCD08ECBB
    ),
}
"""What :func:`definitions` returns for a database of this version."""

# Columns, constraints, and the trigger of the catalogue. Other programs may add indexes, and triggers of their own.
_DESCRIBE: Final = """
    SELECT name, concat_ws('; ',
        (SELECT concat(relkind, relpersistence) FROM pg_class WHERE oid = id),
        (SELECT concat_ws(' ', seqtypid::regtype, seqincrement, seqcache, seqcycle) FROM pg_sequence WHERE seqrelid = id),
        (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), collname, attnotnull, atthasdef),
            ', ' ORDER BY attnum) FROM pg_attribute LEFT JOIN pg_collation ON pg_collation.oid = attcollation
            WHERE attrelid = id AND attnum > 0 AND NOT attisdropped),
        (SELECT string_agg(pg_get_constraintdef(oid), ', ' ORDER BY pg_get_constraintdef(oid) COLLATE "C")
            FROM pg_constraint WHERE conrelid = id AND (contype <> 'n' OR NOT convalidated)),
        (SELECT pg_get_triggerdef(pg_trigger.oid, true) || prosrc FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
            WHERE tgrelid = id AND tgname = 'catalogue_changed'),
        (SELECT min('disabled') FROM pg_trigger WHERE tgrelid = id AND tgenabled NOT IN ('O', 'A')
            AND (tgisinternal OR tgname = 'catalogue_changed')))
    FROM unnest(%s::text[]) AS name, to_regclass(split_part(name, ' ', 2)) AS id
    """

# Queries for what breaks a rule, by a sentence about each row.
_RULES: Final = {
    "index {0}: it is invalid; REINDEX INDEX {0} builds it again": f"""
        SELECT indexrelid::regclass::text FROM pg_index
        WHERE NOT indisvalid AND 'table ' || indrelid::regclass IN {tuple(DEFINITIONS)}""",
    **{
        f"sequence {sequence}: its next number {{}} is not after {{}}, the largest of table {table}": f"""
        SELECT last_value + is_called::int, largest
        FROM {sequence}, (SELECT max({column}) AS largest FROM {table}) AS numbers
        WHERE last_value + is_called::int <= largest"""
        for sequence, table, column in (
            ("user_numbers", "users", "user_number"),
            ("grant_positions", "grants", "position"),
            ("order_numbers", "orders", "order_number"),
        )
    },
}


def audit_database(url: str) -> Audit:
    """Audit a database as it stands at one moment; a service may be using it, and a standby will do.

    :param url: the database, as :class:`~benefits_postgres.store.PostgresStore` takes it.
    :raises StorageUnavailableError: the audit could not finish, or the database is of a newer version.
    """
    with closing(Database(url, PATIENCE, read_only=True)) as database:
        try:
            database.run(BEGIN)
            return audit_open(database)
        except BenefitsError as error:
            raise StorageUnavailableError(f"{shown(url)}: {error}") from error


def definitions(database: Database) -> dict[str, int]:
    """Return a checksum of what describes each table and sequence; 0 for one that is not there."""
    [rows] = database.run(_DESCRIBE, [list(DEFINITIONS)])
    return {name: crc32(description.encode()) for name, description in rows}


def audit_open(database: Database) -> Audit:
    """Audit a database within a transaction that has begun with ``SETTINGS``; see what it has written.

    :raises BenefitsError: the audit could not finish.
    """
    unrecorded, actual = pending(database), definitions(database)
    if not any(actual.values()):
        return Audit(("it has no tables of this program",))
    structure = [
        f"{name}: it is not as this version defines it"
        for name in actual
        if actual[name] != DEFINITIONS[name]
    ]
    structure += [f"migration {name}: it is not recorded" for name in unrecorded]
    rows = partial(_rows, database, may_fail=bool(structure))
    broken = [sentence.format(*row) for sentence, query in _RULES.items() for row in rows(query)]
    counts = [
        sum(n for (n,) in rows(f"SELECT count(*) FROM {table}")) for table in ("users", "orders", "products")
    ]
    return Audit((*structure, *broken, *audit_books(rows)), *counts)


def _rows(database: Database, query: str, *, may_fail: bool) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a query in the sequence of its first column, a page at a time.

    :param may_fail: whether a query that does not fit the tables has no rows; otherwise it is an error.
    """
    try:
        page = database.run(
            f"SAVEPOINT rule; DECLARE found CURSOR FOR {query} ORDER BY 1; {_FETCH}", limit=None
        )[-1]
        while page:
            yield from page
            [page] = database.run(_FETCH, limit=None)
        database.run("CLOSE found; RELEASE rule")
    except StorageUnavailableError as error:
        if not (may_fail and isinstance(error.__cause__, psycopg.ProgrammingError)):
            raise
        database.run("ROLLBACK TO rule")
