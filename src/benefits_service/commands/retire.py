"""``benefits retire``: take products out of the catalogue."""

from __future__ import annotations

import click

from benefits_core import ProductsNotFoundError, RetireProducts, Signature
from benefits_service.commands.common import database_option, examples, existing_store, not_found, say
from benefits_service.commands.signing import dry_run_option, signature_options
from benefits_service.databases import Database


@click.command(
    epilog=examples(
        "benefits retire gym-membership",
        "benefits retire gym-membership dental-plan --note 'contract ended'",
        "benefits retire gym-membership --dry-run",
    )
)
@click.argument("products", nargs=-1, required=True, metavar="PRODUCT...")
@signature_options
@dry_run_option
@database_option
def retire(*, products: tuple[str, ...], signature: Signature, dry_run: bool, database: Database) -> None:
    """Take products out of the catalogue: all of them, or none.

    The service no longer lists them, and refuses orders of them. Users keep those that they bought. To offer one again,
    seed it again. A product that is retired already stays as it is.
    """
    with existing_store(database) as store:
        try:
            retired = RetireProducts(store)(products, signature, dry_run=dry_run)
        except ProductsNotFoundError as error:
            raise not_found("product", error.product_ids, "see benefits products") from error
    say(describe(retired, dry_run=dry_run))


def describe(retired: tuple[str, ...], *, dry_run: bool) -> str:
    """Return a sentence about products that are retired."""
    if not retired:
        return "No product was retired: none of them is in the catalogue."
    return f"{'To be retired' if dry_run else 'Retired'}: {', '.join(retired)}."
