"""``benefits cancel``: undo orders."""

from __future__ import annotations

import click

from benefits_core import CancelOrders, OrdersNotFoundError, Signature
from benefits_service.commands.common import database_option, examples, existing_store, not_found, say
from benefits_service.commands.signing import dry_run_option, signature_options
from benefits_service.databases import Database


@click.command(
    epilog=examples(
        "benefits cancel 12",
        "benefits cancel 12 15 --note 'wrong size'",
        "benefits cancel 12 --dry-run",
    )
)
@click.argument("orders", nargs=-1, required=True, metavar="ORDER...")
@signature_options
@dry_run_option
@database_option
def cancel(*, orders: tuple[str, ...], signature: Signature, dry_run: bool, database: Database) -> None:
    """Cancel orders: all of them, or none.

    Their totals are credited, and their products can be ordered again. The orders stay in the book. An order that is
    cancelled already stays as it is.
    """
    with existing_store(database) as store:
        try:
            cancelled = CancelOrders(store)(orders, signature, dry_run=dry_run)
        except OrdersNotFoundError as error:
            hint = "nothing was cancelled; see benefits orders"
            raise not_found("order", error.order_ids, hint) from error
    for order in cancelled:
        verb = "To be cancelled" if dry_run else "Cancelled"
        say(f"{verb}: order {order.order_id}; {order.total} credited to {order.user_id}.")
    if not cancelled:
        say("No order was cancelled: each of them is already.")
