"""What several commands share: the option ``--database``, and the error that ends a command."""

from __future__ import annotations

from pathlib import Path

import click

from benefits_service.settings import DATABASE


class Failure(click.ClickException):
    """A mistake that the user of the command can correct; the message says which."""

    exit_code = 2


database_option = click.option(
    "--database",
    default=DATABASE,
    show_default=True,
    envvar="BENEFITS_DATABASE",
    show_envvar=True,
    metavar="FILE",
    help="The SQLite file; created if needed.",
)


def require_database(database: str) -> None:
    """Refuse a database file that does not exist.

    :raises Failure: there is no such file.
    """
    if not Path(database).exists():
        raise Failure(f"{database}: there is no such file")
