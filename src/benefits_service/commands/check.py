"""``benefits check``: verify a database."""

from __future__ import annotations

import sys

import click

from benefits_service.commands.common import database_option, examples, require_database, require_output, say
from benefits_service.databases import Database


@click.command(
    epilog=examples(
        "benefits check",
        "benefits check --database copy.db",
    )
)
@database_option
def check(*, database: Database) -> None:
    """Verify the database: its file, and that its books balance. It may be in use.

    Prints a line for each fault and exits with status 1, or says that the database is sound and exits with status 0.
    Status 2 means that it could not finish. An earlier version is verified in a temporary copy.
    """
    require_database(database)
    report = database.audit()
    for finding in report.findings:
        say(finding)
    for remark in report.remarks:
        say(f"{database.name}: {remark}")
    if report.findings:
        sys.exit(1)
    say(
        f"{database.name} is sound: {report.users} users, {report.orders} orders, {report.products} products."
    )
    require_output()
