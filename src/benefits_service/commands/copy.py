"""``benefits copy``: move a company to another database."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import click

from benefits_core.copying import COLUMNS, Company, Row
from benefits_service.commands.common import Failure, examples, parse_database, say, warn
from benefits_service.databases import Database

_LAST_TABLE: Final = list(COLUMNS)[-1]


@click.command(
    epilog=examples(
        "benefits copy benefits.db postgresql://benefits@db.example.org/benefits",
        "benefits copy postgresql://benefits@db.example.org/benefits benefits.db",
        "benefits copy benefits.db 'postgresql:///benefits?host=/run/postgresql'",
    )
)
@click.argument("source", metavar="FROM", callback=parse_database)
@click.argument("target", metavar="TO", callback=parse_database)
def copy(*, source: Database, target: Database) -> None:
    """Copy a company from one database to another, new one: all of it, or nothing.

    Each of FROM and TO is a SQLite file, or a PostgreSQL database: postgresql://USER@HOST:PORT/NAME. TO must be a file
    that does not exist, or a database without users, products and orders. The books of the copy are checked before
    it is kept. FROM stays as it is, and order ids stay what they are.

    Stop the service first: what it keeps later than this command begins is not in the copy. Then start it with
    --database TO.

    Put no password on the command line, where other users of the machine can see it. PostgreSQL's own variables, such
    as PGPASSWORD or PGPASSFILE, and the file ~/.pgpass work.
    """
    if source.is_missing:
        raise Failure(f"{source.name}: there is no such file; name the database to copy from")
    with source.read_company() as company, _with_progress_bar(company) as counted:
        audit = target.write_company(counted)
    for finding in audit.findings:
        warn(f"benefits: {source.name}: {finding}")
    if audit.findings:
        raise Failure("nothing was copied, since the books are not sound; see benefits check")
    say(
        f"{target.name} is a copy of {source.name}:"
        f" {audit.users} users, {audit.orders} orders, {audit.products} products."
    )


@contextmanager
def _with_progress_bar(company: Company) -> Iterator[Company]:
    # A hundred steps at most: drawing the bar takes longer than copying a row.
    steps, hidden = max(1, company.row_count // 100), not sys.stderr.isatty()
    with click.progressbar(
        length=company.row_count, label="Copying ", file=sys.stderr, update_min_steps=steps, hidden=hidden
    ) as bar:

        def rows(table: str) -> Iterator[Row]:
            for row in company.rows(table):
                yield row
                bar.update(1)
            if table == _LAST_TABLE:
                bar.label = "Checking"
                bar.render_progress()

        yield attrs.evolve(company, rows=rows)
