"""Options of commands that change something for the employer: the operator's name, a note, and a trial run."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from benefits_core import InvalidValueError, Signature

dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")


def signature_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options ``--by`` and ``--note`` to a command, which receives them as its argument ``signature``."""

    @click.option(
        "--by", default=_login_name, show_default="the login name", metavar="NAME", help="Who does this."
    )
    @click.option("--note", default="", show_default="none", metavar="TEXT", help="Why.")
    @wraps(command)
    def signed(*, by: str, note: str, **options: Any) -> None:  # noqa: ANN401 - those of the command
        try:
            signature = Signature(by, datetime.now(UTC), note)
        except InvalidValueError as error:
            raise click.UsageError(f"--{error}.", click.get_current_context()) from error
        command(signature=signature, **options)

    return signed


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return f"user {os.getuid()}"
