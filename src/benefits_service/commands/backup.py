"""``benefits backup``: copy a database."""

from __future__ import annotations

from pathlib import Path

import click

from benefits_service.commands.common import Failure, database_option, examples, require_database
from benefits_service.composition import back_up_database


@click.command(
    epilog=examples(
        "benefits backup copy.db",
        "benefits backup --overwrite copy.db --database /var/lib/benefits/benefits.db",
    )
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@database_option
def backup(file: Path, *, overwrite: bool, database: str) -> None:
    """Copy the database to FILE, consistent and complete. The database may be in use."""
    require_database(database)
    try:
        remarks = back_up_database(database, file, overwrite=overwrite)
    except FileExistsError as error:
        raise Failure(f"{file} exists; name another file, or use --overwrite") from error
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    for remark in remarks:
        click.echo(f"benefits: {remark}", err=True)
    click.echo(f"{file} is a copy of {database}.")
