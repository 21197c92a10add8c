"""The ``benefits`` command. Every mistake of its user is one line on standard error and exit status 2."""

from __future__ import annotations

import os
import re
import sys
import traceback
from typing import Final

import click

from benefits_core import StorageUnavailableError
from benefits_service.commands import (
    backup,
    cancel,
    check,
    copy,
    grant,
    listings,
    personal,
    report,
    retire,
    seed,
    serve,
)
from benefits_service.commands.common import Failure, NotFound, examples, message_of, require_output, say

# In a URL: click quotes one that is an argument too many, and one with another scheme is taken for the name of a file.
_PASSWORD: Final = re.compile(r"(//[^\s/:@]*:)\S+(?=@)|(password=)[^\s&]+")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    commands=[
        seed.seed,
        check.check,
        backup.backup,
        copy.copy,
        serve.serve,
        listings.products,
        listings.users,
        listings.orders,
        listings.show,
        report.report,
        grant.grant,
        cancel.cancel,
        retire.retire,
        personal.export_user,
        personal.erase,
    ],
    epilog=examples(
        "benefits seed seed.json      # load the catalogue into benefits.db",
        "benefits serve               # serve it at http://127.0.0.1:4000",
        "benefits backup copy.db      # copy it, also while the service runs",
        "benefits check               # verify it, also while the service runs",
        "benefits orders              # list all orders",
        "benefits grant bonus 50 --all    # give 50 to every user, once",
        "benefits serve --help        # show the options of one command",
    ),
)
@click.version_option(package_name="benefits", prog_name="benefits")
def cli() -> None:
    """Employee benefits: employees see the products on offer, see their balance, and order."""


def run() -> None:
    """Run the command line, and exit.

    The status is 0: done; 1: ``check`` has found errors, or what was named does not exist; 2: the command could not finish; 130: Ctrl-C.
    """
    try:
        if cli.main(prog_name="benefits", standalone_mode=False) is not None:  # --help or --version
            require_output()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = Failure.exit_code
    except (click.ClickException, StorageUnavailableError, OSError) as error:
        say(f"benefits: {_without_password(_reason(error))}", err=True)
        status = NotFound.exit_code if isinstance(error, NotFound) else Failure.exit_code
    except click.Abort:
        status = 130  # the status that shells report for a program ended by Ctrl-C
    except Exception:  # noqa: BLE001 - Python would exit with status 1, which says that a database is damaged
        traceback.print_exc()
        status = Failure.exit_code
    else:
        status = 0  # what the command has to print about its work may be lost; the work is done
    sys.exit(status)


def _without_password(text: str) -> str:
    return _PASSWORD.sub(r"\1\2...", text)


def _reason(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return message_of(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)
