"""What several commands share: the error that ends a command, options that are settings, and ``--database``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from benefits_service.output import standard_output_failure
from benefits_service.settings import DATABASE

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """A mistake that the user of the command can correct; the message says which."""

    exit_code = 2


def setting(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:  # noqa: ANN401 - as click.option declares them
    """Return an option that an environment variable may set: ``BENEFITS_PORT`` for ``--port``."""
    variable = "BENEFITS_" + names[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, **attributes)


database_option = setting(
    "--database", default=DATABASE, metavar="FILE", help="The SQLite file; created if needed."
)


def require_database(database: str) -> None:
    """Refuse a database file that does not exist.

    :raises Failure: there is no such file.
    """
    if not Path(database).exists():
        raise Failure(f"{database}: there is no such file")


def require_output() -> None:
    """Refuse to succeed if standard output could not be written: for commands whose output is their result.

    :raises Failure: something is missing from standard output.
    """
    if (failure := standard_output_failure()) is not None:
        raise Failure(f"can't write to standard output: {failure.strerror}")
