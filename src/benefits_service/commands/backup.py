"""``benefits backup``: copy a database."""

from __future__ import annotations

import os
from pathlib import Path

import click

from benefits_service.commands.common import Failure, database_option, examples, require_database, say
from benefits_service.databases import Database


def _require_file_name(_: click.Context, __: click.Parameter, name: str) -> Path:
    if name.endswith((os.sep, f"{os.sep}.")):  # a Path would lose this, and a file of that name would be made
        raise click.BadParameter(f"{name} names a directory; name a file in it.")
    return Path(name)


@click.command(
    epilog=examples(
        "benefits backup copy.db",
        "benefits backup --overwrite copy.db --database /var/lib/benefits/benefits.db",
    )
)
@click.argument("file", type=click.Path(), callback=_require_file_name)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@database_option
def backup(file: Path, *, overwrite: bool, database: Database) -> None:
    """Copy the database to FILE, consistent and complete. The database may be in use."""
    require_database(database)
    try:
        remarks = database.back_up(file, overwrite=overwrite)
    except FileExistsError as error:
        raise Failure(f"{file} exists; name another file, or use --overwrite") from error
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    for remark in remarks:
        say(f"benefits: {remark}", err=True)
    say(f"{file} is a copy of {database.name}.")
