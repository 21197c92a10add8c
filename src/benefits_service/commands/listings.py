"""``benefits products``, ``users``, ``orders`` and ``show``: list what is in the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import click

from benefits_core import Entry, Grant, ListOrders, ListUsers, Order, ShowUser, Signature, UsersNotFoundError
from benefits_service.commands.common import (
    case_option,
    database_option,
    examples,
    existing_store,
    not_found,
    parse_user,
)
from benefits_service.commands.periods import Period, period_options
from benefits_service.commands.tables import Row, Table, table_options
from benefits_service.databases import Database

SEE_USERS = "see benefits users"
"""What to do if there is no such user."""


@click.command(
    epilog=examples(
        "benefits products",
        "benefits products --format csv",
    )
)
@table_options
@database_option
def products(*, table: Table, database: Database) -> None:
    """List the catalogue, in its order."""
    with existing_store(database) as store:
        rows = ((product.product_id, product.name, product.price) for product in store.products.list_all())
        table.print(["product_id", "name", "price"], rows)


@click.command(
    epilog=examples(
        "benefits users",
        "benefits users --format csv",
    ),
    short_help="List all users and their balances.",
)
@table_options
@database_option
def users(*, table: Table, database: Database) -> None:
    """List all users: their balance, what they were granted, and what they have spent of it."""
    with existing_store(database) as store:
        rows = (
            (account.user.user_id, account.user.balance, account.granted, account.spent)
            for account in ListUsers(store)()
        )
        table.print(["user_id", "balance", "granted", "spent"], rows)


@click.command(
    epilog=examples(
        "benefits orders",
        "benefits orders --user johndoe",
        "benefits orders --since 2026-11-01 --until 2026-11-30 --format csv",
        "benefits orders --lines --format jsonl",
    )
)
@click.option("--user", callback=parse_user, metavar="USER", help="Only the orders of this user.")
@case_option
@click.option("--cancelled", is_flag=True, help="Only orders that were cancelled.")
@period_options
@click.option("--lines", is_flag=True, help="Print a row for each product, instead of one for each order.")
@table_options
@database_option
def orders(  # noqa: PLR0913 - one argument for each option
    *, user: str | None, cancelled: bool, period: Period, lines: bool, table: Table, database: Database
) -> None:
    """List orders, in the sequence in which they were placed. Times are in UTC."""
    with existing_store(database) as store:
        if user is not None and store.users.get(user) is None:
            raise not_found("user", [user], SEE_USERS)
        found = ListOrders(store)(
            user_id=user, since=period.since, before=period.before, cancelled=cancelled or None
        )
        if lines:
            columns = ["order_id", "user_id", "placed_at", "product_id", "name", "price", "cancelled_at"]
            table.print(columns, _lines(found))
        else:
            columns = ["order_id", "user_id", "placed_at", "total", "items", "cancelled_at"]
            table.print(columns, map(_row, found))


def _row(order: Order) -> Row:
    return order.order_id, order.user_id, order.placed_at, order.total, order.items, _cancelled_at(order)


def _lines(orders: Iterator[Order]) -> Iterator[Row]:
    for order in orders:
        for line in order.lines:
            placed = order.order_id, order.user_id, order.placed_at
            yield *placed, line.product_id, line.name, line.price, _cancelled_at(order)


def _cancelled_at(order: Order) -> datetime | None:
    return None if order.cancelled is None else order.cancelled.at


@click.command(
    epilog=examples(
        "benefits show johndoe",
        "benefits show johndoe --format csv",
    ),
    short_help="Show what changed a user's balance.",
)
@click.argument("user", callback=parse_user)
@case_option
@table_options
@database_option
def show(*, user: str, table: Table, database: Database) -> None:
    """Show what happened to the balance of USER: grants, orders and cancellations, and what was left after each.

    They are in the sequence of their times, which are in UTC.
    """
    with existing_store(database) as store:
        try:
            entries = ShowUser(store)(user)
        except UsersNotFoundError as error:
            raise not_found("user", error.user_ids, SEE_USERS) from error
    columns = ["at", "what", "reference", "amount", "balance", "items", "by", "note"]
    table.print(columns, map(_entry_row, entries))


def _entry_row(entry: Entry) -> Row:
    items: tuple[str, ...] = ()
    signature: Signature | None = None
    if isinstance(entry.subject, Grant):
        reference, signature = entry.subject.reference, entry.subject.signature
    else:
        reference, items = entry.subject.order_id, entry.subject.items
        if entry.kind == "cancellation":
            signature = entry.subject.cancelled
    by, note = (None, None) if signature is None else (signature.by, signature.note)
    return entry.at, entry.kind, reference, entry.amount, entry.balance, items, by, note
