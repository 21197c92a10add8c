"""``benefits seed``: load or update the catalogue."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from benefits_core import OfferProducts, Signature
from benefits_http.wire import ProductBody
from benefits_service.commands.catalogue_file import read_catalogue
from benefits_service.commands.common import Failure, database_option, examples, say, warn
from benefits_service.commands.retire import describe
from benefits_service.commands.signing import dry_run_option, signature_options
from benefits_service.commands.text_files import InvalidFileError, read_at_most
from benefits_service.databases import Database


@click.command(
    epilog=examples(
        "benefits seed seed.json",
        "benefits seed --if-empty seed.json",
        "benefits seed seed.json --retire-others --dry-run",
        "benefits seed seed.json --database /var/lib/benefits/benefits.db",
    )
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--if-empty", is_flag=True, help="Do nothing if the catalogue has products already.")
@click.option("--retire-others", is_flag=True, help="Retire the products that are not in FILE.")
@signature_options
@dry_run_option
@database_option
def seed(  # noqa: PLR0913 - one argument for each option
    file: Path,
    *,
    if_empty: bool,
    retire_others: bool,
    signature: Signature,
    dry_run: bool,
    database: Database,
) -> None:
    """Load or update the catalogue from FILE.

    The file is JSON like the response of GET /api/products. The catalogue takes its order. Other products stay in the
    catalogue, unless you retire them. A retired product that is in the file is offered again. An invalid file changes
    nothing. The database is created if it does not exist. The service may be running.
    """
    try:
        products = read_catalogue(read_at_most(file), _with_progress_bar)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}; name a catalogue file such as seed.json") from error
    except InvalidFileError as error:
        raise Failure(f"{file}: {error}; nothing was changed") from error
    with database.open(warn) as store:
        if if_empty and store.products.list_all():
            say(f"{database.name} has a catalogue already.")
            return
        retired = OfferProducts(store)(
            products, retire_others=signature if retire_others else None, dry_run=dry_run
        )
    if not dry_run:
        say(f"{database.name} offers the {len(products)} products of {file}.")
    elif not retire_others:
        say(f"{file} is valid.")
    if retire_others:
        say(describe(retired, dry_run=dry_run))


def _with_progress_bar(entries: list[ProductBody]) -> Iterator[ProductBody]:
    # A hundred steps at most: drawing the bar takes longer than reading a product.
    steps, hidden = max(1, len(entries) // 100), not sys.stdout.isatty()
    with click.progressbar(entries, label="Reading", update_min_steps=steps, hidden=hidden) as bar:
        yield from bar
