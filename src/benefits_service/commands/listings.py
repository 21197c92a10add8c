"""``benefits products``, ``users`` and ``orders``: list what is in the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

import click

from benefits_core import InvalidUserIdError, ListOrders, ListUsers, Order, Store
from benefits_core.values import normal_user_id
from benefits_service.commands.common import NotFound, database_option, examples, existing_store
from benefits_service.commands.tables import Row, format_option, print_table

# Python can convert a day of these years from every timezone.
_FIRST_YEAR: Final = 1900
_LAST_YEAR: Final = 9000


def _parse_user(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    try:
        return None if name is None else normal_user_id(name)
    except InvalidUserIdError as error:
        raise click.BadParameter(f"{error}.") from error


def _parse_timezone(_: click.Context, __: click.Parameter, name: str | None) -> tzinfo | None:
    try:
        return None if name is None else ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise click.BadParameter(f"{name!r} is not a timezone such as Europe/Berlin.") from error


def _require_year(_: click.Context, __: click.Parameter, day: datetime | None) -> datetime | None:
    if day is not None and not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise click.BadParameter(f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}.")
    return day


@click.command(
    epilog=examples(
        "benefits products",
        "benefits products --format csv",
    )
)
@format_option
@database_option
def products(*, style: str, database: str) -> None:
    """List the catalogue, in its order."""
    with existing_store(database) as store:
        rows = ((product.product_id, product.name, product.price) for product in store.products.list_all())
        print_table(["product_id", "name", "price"], rows, style)


@click.command(
    epilog=examples(
        "benefits users",
        "benefits users --format csv",
    )
)
@format_option
@database_option
def users(*, style: str, database: str) -> None:
    """List all users: their balance, what they were granted, and what they have spent of it."""
    with existing_store(database) as store:
        rows = (
            (account.user.user_id, account.user.balance, account.granted, account.spent)
            for account in ListUsers(store)()
        )
        print_table(["user_id", "balance", "granted", "spent"], rows, style)


@click.command(
    epilog=examples(
        "benefits orders",
        "benefits orders --user johndoe",
        "benefits orders --since 2026-11-01 --until 2026-11-30 --format csv",
        "benefits orders --lines --format jsonl",
    )
)
@click.option("--user", callback=_parse_user, metavar="USER", help="Only the orders of this user.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=_require_year,
    metavar="DAY",
    help="Only orders of this day or later, such as 2026-11-01.",
)
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=_require_year,
    metavar="DAY",
    help="Only orders of this day or earlier.",
)
@click.option(
    "--timezone",
    callback=_parse_timezone,
    metavar="NAME",
    show_default="that of this machine",
    help="The timezone of the days, such as Europe/Berlin.",
)
@click.option("--lines", is_flag=True, help="Print a row for each product, instead of one for each order.")
@format_option
@database_option
def orders(  # noqa: PLR0913 - one argument for each option
    *,
    user: str | None,
    since: datetime | None,
    until: datetime | None,
    timezone: tzinfo | None,
    lines: bool,
    style: str,
    database: str,
) -> None:
    """List orders, in the sequence in which they were placed. Times are in UTC."""
    with existing_store(database) as store:
        if user is not None:
            _require_user(store, user)
        found = ListOrders(store)(
            user_id=user,
            since=_beginning(since, timezone),
            before=_beginning(None if until is None else until + timedelta(days=1), timezone),
        )
        if lines:
            print_table(["order_id", "user_id", "placed_at", "product_id", "price"], _lines(found), style)
        else:
            print_table(["order_id", "user_id", "placed_at", "total", "items"], map(_row, found), style)


def _require_user(store: Store, user_id: str) -> None:
    if store.users.get(user_id) is None:
        raise NotFound(f"there is no user {user_id!r}; see benefits users")


def _beginning(day: datetime | None, timezone: tzinfo | None) -> datetime | None:
    if day is None:
        return None
    return day.astimezone() if timezone is None else day.replace(tzinfo=timezone)


def _row(order: Order) -> Row:
    return order.order_id, order.user_id, order.placed_at, order.total, order.items


def _lines(orders: Iterator[Order]) -> Iterator[tuple[str, str, datetime, str, Decimal]]:
    for order in orders:
        for line in order.lines:
            yield order.order_id, order.user_id, order.placed_at, line.product_id, line.price
