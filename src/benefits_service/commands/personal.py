"""``benefits export-user`` and ``erase``: what is kept of a person, and how it is forgotten."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import click
import msgspec

from benefits_core import EraseUser, Store, UsersNotFoundError
from benefits_http import wire
from benefits_service.commands.common import (
    Failure,
    case_option,
    currency_option,
    database_option,
    examples,
    existing_store,
    not_found,
    parse_user,
    require_output,
    say,
)
from benefits_service.commands.listings import SEE_USERS
from benefits_service.commands.signing import dry_run_option
from benefits_service.databases import Database
from benefits_service.output import printable


@click.command(
    "export-user",
    epilog=examples(
        "benefits export-user johndoe",
        "benefits export-user johndoe --currency EUR",
    ),
    short_help="Print all that is kept of a user.",
)
@click.argument("user", callback=parse_user)
@case_option
@currency_option
@database_option
def export_user(*, user: str, currency: str | None, database: Database) -> None:
    """Print all that is kept of USER, as JSON: the balance, grants and orders."""
    with existing_store(database) as store:
        kept = _all_of(store, user)
    if currency is not None:
        kept["currency"] = currency
    click.echo(msgspec.json.format(wire.encode(kept)).decode())
    require_output()


def _all_of(store: Store, user_id: str) -> dict[str, Any]:
    user = store.users.get(user_id)
    if user is None:
        raise not_found("user", [user_id], SEE_USERS)
    grants, orders = store.grants.of_user(user_id), store.orders.of_user(user_id)
    return {
        "user": _values(user),
        "grants": [_values(grant) for grant in grants],
        "orders": [_values(order) for order in orders],
    }


def _values(value: attrs.AttrsInstance) -> dict[str, Any]:
    return attrs.asdict(value, value_serializer=lambda *parts: parts[-1])


@click.command(
    epilog=examples(
        "benefits erase johndoe --dry-run",
        "benefits erase johndoe",
        "benefits erase johndoe --yes",
    ),
    short_help="Replace a user's id by one that says nothing.",
)
@click.argument("user", callback=parse_user)
@case_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run_option
@database_option
def erase(*, user: str, yes: bool, dry_run: bool, database: Database) -> None:
    """Forget who USER was: replace the id everywhere by one that says nothing.

    The orders and grants stay, for the books. It can't be undone, so it asks first. Backups, notes, logs and what a proxy
    keeps are not changed.
    """
    with existing_store(database) as store:
        try:
            new_id = EraseUser(store)(user, dry_run=True)
            if not dry_run:
                _confirm(user, yes=yes)
                new_id = EraseUser(store)(user)
        except UsersNotFoundError as error:
            raise not_found("user", error.user_ids, SEE_USERS) from error
    say(f"To be erased: {user}." if dry_run else f"Erased: {user} is {new_id} now.")


def _confirm(user: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure("there is no terminal to ask at; use --yes")
    click.confirm(f"Erase {printable(user)} for ever?", abort=True, err=True)
