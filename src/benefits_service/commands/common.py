"""What several commands share: errors, examples in the help, and options."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

import click

from benefits_core import InvalidUserIdError, Store
from benefits_core.values import normal_user_id
from benefits_service.databases import Database, database_at
from benefits_service.output import printable, standard_output_failure
from benefits_service.settings import DATABASE
from benefits_service.user_ids import folded_user_id

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """A mistake that the user of the command can correct; the message says which."""

    exit_code = 2


class NotFound(click.ClickException):
    """A user, product or order that the user of the command has named does not exist."""

    exit_code = 1


# How many of several things are named in a message.
_MAX_NAMED: Final = 10


def not_found(kind: str, ids: Iterable[str], hint: str) -> NotFound:
    """Return the error that there are no such users, products or orders.

    :param kind: what is missing, in the singular.
    :param hint: what to do about it.
    """
    named = list(ids)
    more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    return NotFound(f"there is no {kind} {', '.join(map(repr, named[:_MAX_NAMED]))}{more}; {hint}")


def message_of(error: click.ClickException) -> str:
    """Return an error in one line that says what to do next."""
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{message} See '{error.ctx.command_path} --help'."
    return message


def examples(*commands: str) -> str:
    """Return examples for the end of a command's help, one on each line."""
    return "\n".join(
        ["\b", "Examples:", *(f"  {command}" for command in commands)]
    )  # \b: click wraps no line of it


# Kubernetes sets BENEFITS_PORT to this for a Service named "benefits", and Docker does for a linked container.
_ADDRESS_OF_A_SERVICE: Final = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


class _Setting(click.Option):
    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value of the variable, unless it is no setting but the address of a service."""
        value = super().resolve_envvar_value(ctx)
        if value is None or not _ADDRESS_OF_A_SERVICE.match(value):
            return value
        say(f"{self.envvar} is ignored: {value} is the address of a service, not a setting.")
        return None


def setting(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:  # noqa: ANN401 - as click.option declares them
    """Return an option that an environment variable may set: ``BENEFITS_PORT`` for ``--port``."""
    variable = "BENEFITS_" + names[0].removeprefix("--").replace("-", "_").upper()
    attributes.setdefault("cls", _Setting)
    return click.option(*names, envvar=variable, show_envvar=True, **attributes)


def parse_database(_: click.Context, __: click.Parameter, location: str) -> Database:
    """Return the database of a location: a callback of an argument or an option."""
    return database_at(location)


database_option = setting(
    "--database",
    default=DATABASE,
    callback=parse_database,
    metavar="FILE|URL",
    help="A SQLite file, or a PostgreSQL database: postgresql://user@host/name.",
)


# Under which the context of a command remembers whether user ids are case-folded.
_FOLDED: Final = "benefits.folded"


def _remember_folding(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - as click calls it
    ctx.meta[_FOLDED] = value


case_option = setting(
    "--identity-case-insensitive",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_folding,
    help="Case-fold user ids, as a service does that has this setting.",
)
"""For commands that name users: a service that ignores case would not find others, and refuses to start beside them."""


def user_id_of(name: str) -> str:
    """Return a user id as the service would take it.

    :raises InvalidUserIdError: it is not a valid user id.
    """
    folded = click.get_current_context().meta.get(_FOLDED, False)
    return folded_user_id(name) if folded else normal_user_id(name)


def parse_user(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    """Return the normalised user id: a callback of an argument or an option."""
    try:
        return None if name is None else user_id_of(name)
    except InvalidUserIdError as error:
        raise click.BadParameter(f"{error}.") from error


def _parse_currency(_: click.Context, __: click.Parameter, code: str | None) -> str | None:
    """Return a code like those of ISO 4217: a callback of an option."""
    if code is not None and not re.fullmatch("[A-Z]{3}", code):
        raise click.BadParameter(f"{code!r} is not a code of three capital letters such as EUR.")
    return code


currency_option = setting(
    "--currency",
    callback=_parse_currency,
    metavar="CODE",
    help="The currency to print beside the amounts, such as EUR. Nothing is converted.",
)


def say(line: str, *, err: bool = False) -> None:
    """Print one line; what a terminal can't show in it, such as a part of a file's name, is escaped."""
    click.echo(printable(line), err=err)


def warn(line: str) -> None:
    """Print one line on standard error, which belongs to no output that a program may read."""
    say(line, err=True)


def existing_store(database: Database) -> AbstractContextManager[Store]:
    """Open the store over a database that exists.

    :raises Failure: there is no such file.
    :raises StorageUnavailableError: the database can't be used; the message says why.
    """
    require_database(database)
    return database.open(warn, create=False)


def require_database(database: Database) -> None:
    """Refuse a database file that does not exist.

    :raises Failure: there is no such file.
    """
    if database.is_missing:
        raise Failure(
            f"{database.name}: there is no such file; name another with --database, or create it with benefits seed"
        )


def require_output() -> None:
    """Raise an error if standard output could not be written. For commands whose result is their output.

    :raises Failure: something is missing from standard output.
    """
    if (failure := standard_output_failure()) is not None:
        raise Failure(f"can't write to standard output: {failure.strerror}")
