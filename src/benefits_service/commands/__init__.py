"""The ``benefits`` command. Every mistake of its user is one line on standard error and exit status 2."""

from __future__ import annotations

import sys

import click

from benefits_core import StorageUnavailableError
from benefits_service.commands import backup, check, seed, serve
from benefits_service.commands.common import Failure, examples, message_of


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    commands=[seed.seed, check.check, backup.backup, serve.serve],
    epilog=examples(
        "benefits seed seed.json      # load the catalogue into benefits.db",
        "benefits serve               # serve it at http://127.0.0.1:4000",
        "benefits backup copy.db      # copy it, also while the service runs",
        "benefits check               # verify it, also while the service runs",
        "benefits serve --help        # show the options of one command",
    ),
)
@click.version_option(package_name="benefits", prog_name="benefits")
def cli() -> None:
    """Employee benefits: employees see the products on offer, see their balance, and order."""


def run() -> None:
    """Run the command line, and exit."""
    try:
        sys.exit(cli.main(prog_name="benefits", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"benefits: {message_of(error)}", err=True)
        sys.exit(error.exit_code)
    except StorageUnavailableError as error:
        click.echo(f"benefits: {error}", err=True)
        sys.exit(Failure.exit_code)
    except click.Abort:
        sys.exit(130)  # the status that shells report for a program ended by Ctrl-C
