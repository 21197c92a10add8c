"""The audit of a database file: whether SQLite finds it sound, and whether its books balance. It only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import attrs
from sqlite_utils import Database

from benefits_core.audit import Audit
from benefits_core.errors import StorageUnavailableError
from benefits_sqlite.books import audit_books
from benefits_sqlite.inspection import UnsoundDatabaseError, finding, inspect, is_unreadable, open_for_reading
from benefits_sqlite.schema import migrations
from benefits_sqlite.second_name import find_second_name

_EARLIER_VERSION: Final = (
    "it is of an earlier version; `benefits serve` or `benefits seed` brings it up to date"
)
_NO_ROOM: Final = "; set SQLITE_TMPDIR to a folder with room for a copy"


def audit_database(path: str) -> Audit:
    """Audit a database as it stands at one moment; a service may be using it.

    The books of an earlier version are audited in a temporary copy that is brought up to date.

    :raises StorageUnavailableError: the audit could not finish, or the database is of a newer version.
    """
    try:
        inspect(path, to_write=False)
        with closing(open_for_reading(path)) as connection:
            connection.execute("BEGIN")  # all queries see the same moment
            audit = _audit(Database(connection, execute_plugins=False))
    except UnsoundDatabaseError as error:
        return Audit((str(error),))
    except sqlite3.DatabaseError as error:
        if not is_unreadable(error):
            return Audit((finding(error),))
        hint = _NO_ROOM if error.sqlite_errorcode == sqlite3.SQLITE_FULL else ""
        raise StorageUnavailableError(f"{path}: {error}{hint}") from error
    second = find_second_name(path)
    if second is None:
        return audit
    remark = f"{second.fact}; what only a log beside its other name holds was not verified"
    return attrs.evolve(audit, remarks=(*audit.remarks, remark))


def _audit(db: Database) -> Audit:
    pending = [migration.name for migration in migrations.pending(db)]
    earlier = bool(pending and migrations.applied(db))  # without any, it is compared with this version
    expected, actual = _expected_definitions(pending if earlier else []), _definitions(db)
    remarks = [
        f"{kind} {name}: it is not of this program" for kind, name in sorted(actual.keys() - expected.keys())
    ]
    structure = [*_integrity_findings(db, expected, remarks), *_structure_findings(db, expected, actual)]
    books = _books_of_earlier_version if earlier else audit_books
    return Audit(
        (*structure, *books(db, report_failures=not structure)),
        *[_count(db, table) for table in ("users", "orders", "products")],
        remarks=(*[_EARLIER_VERSION] * earlier, *remarks),
    )


def _books_of_earlier_version(db: Database, *, report_failures: bool) -> Iterator[str]:
    # The empty name stands for a temporary file, which SQLite removes even if this process is killed.
    with closing(sqlite3.connect("", isolation_level=None)) as connection:
        copy = Database(connection, execute_plugins=False)
        try:
            db.conn.backup(connection)
            migrations.apply(copy)
        except sqlite3.DatabaseError as error:
            reason = finding(error)
            if report_failures:
                yield f"it can't be brought up to date: {reason}"
        else:
            yield from audit_books(copy, report_failures=report_failures)


def _count(db: Database, table: str) -> int:
    try:
        [[count]] = db.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
    except sqlite3.DatabaseError:
        return 0
    return int(count)


_Definitions = dict[tuple[str, str], str]
"""The SQL of each table, index, view and trigger, by its kind and its name."""


def _integrity_findings(db: Database, expected: _Definitions, remarks: list[str]) -> list[str]:
    try:
        return _integrity_check(db)
    except sqlite3.OperationalError as error:
        reason = finding(error)
    except UnicodeDecodeError:  # SQLite's own message has the name
        reason = "it needs something whose name is not UTF-8"
    # Another program's index needs a function or a collation that only that program has. So leave its tables out.
    remarks.append(f"what is not of this program can't be verified: {reason}")
    findings = []
    for table in [name for kind, name in sorted(expected) if kind == "table"]:
        try:
            findings += _integrity_check(db, f"({table})")
        except sqlite3.OperationalError as error:
            findings.append(f"table {table}: {finding(error)}")
    return findings


def _integrity_check(db: Database, of_table: str = "") -> list[str]:
    rows = db.execute(f"PRAGMA integrity_check{of_table}").fetchall()
    return [f"SQLite: {message}" for (message,) in rows if message != "ok"]


def _structure_findings(db: Database, expected: _Definitions, actual: _Definitions) -> Iterator[str]:
    for kind, name in sorted(expected.keys() & actual.keys()):
        if kind == "table":
            yield from _foreign_key_findings(db, name)
    for kind, name in sorted(expected):
        if actual.get((kind, name)) != expected[kind, name]:
            yield f"{kind} {name}: it is not as this version defines it"


def _foreign_key_findings(db: Database, table: str) -> Iterator[str]:
    # Table by table: other programs may have tables here, with rules that they themselves do not keep.
    try:
        for _, row, other, _ in db.execute(f"PRAGMA foreign_key_check({table})"):
            which = "a row" if row is None else f"row {row}"
            yield f"table {table}: {which} refers to a row of {other} that is not there"
    except sqlite3.DatabaseError as error:
        yield f"table {table}: {finding(error)}"


def _expected_definitions(pending: list[str]) -> _Definitions:
    with closing(Database(memory=True)) as model:
        migrations.apply(model, stop_before=pending)
        return _definitions(model)


def _definitions(db: Database) -> _Definitions:
    # Not the table of the migrations: sqlite-utils defines it, and may define it otherwise in another version.
    rows = db.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite|_%' ESCAPE '|' AND tbl_name <> ?",
        [migrations.migrations_table],
    )
    return {(kind, name): sql for kind, name, sql in rows}
