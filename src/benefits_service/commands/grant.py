"""``benefits grant``: give money to users."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final

import click

from benefits_core import (
    GrantMoney,
    GrantOutcome,
    GrantRefusedError,
    InvalidUserIdError,
    InvalidValueError,
    Signature,
    UsersNotFoundError,
)
from benefits_core.values import sum_of
from benefits_service.commands.amounts import amount_of, opening_balance_option
from benefits_service.commands.common import (
    Failure,
    case_option,
    database_option,
    examples,
    existing_store,
    not_found,
    say,
    user_id_of,
)
from benefits_service.commands.grant_file import read_grants
from benefits_service.commands.signing import dry_run_option, signature_options
from benefits_service.commands.text_files import InvalidFileError, read_at_most
from benefits_service.databases import Database

_NEGATIVE_AMOUNT: Final = re.compile(r"-\.?\d")


@click.command(
    # So that an amount may be negative. What looks like an option, and is none, is refused below.
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "benefits grant budget-2027 500 --all",
        "benefits grant welcome 50 johndoe janedoe --note 'first week'",
        "benefits grant correction-7 -20 johndoe",
        "benefits grant budget-2027 --from budgets.csv --dry-run",
    ),
)
@click.argument("reference")
@click.argument("amount_and_users", nargs=-1, metavar="[AMOUNT] [USER]...")
@click.option("--all", "to_all", is_flag=True, help="Grant to all users known at this moment.")
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Grant to the users in this CSV file. It has a column user_id and, unless there is an AMOUNT, amount.",
)
@click.option("--create", is_flag=True, help="Create unknown users first, with the opening balance.")
@opening_balance_option("The opening balance of users that --create adds: name the one that the service has.")
@case_option
@signature_options
@dry_run_option
@database_option
def grant(  # noqa: PLR0913 - one argument for each option
    *,
    reference: str,
    amount_and_users: tuple[str, ...],
    to_all: bool,
    file: Path | None,
    create: bool,
    opening_balance: Decimal,
    signature: Signature,
    dry_run: bool,
    database: Database,
) -> None:
    """Grant AMOUNT to each USER: to all of them, or to none.

    A user gets at most one grant of each REFERENCE, so the command can be repeated: a user who has the grant already
    gets nothing. A negative amount is a correction; it can't make a balance negative. The reference "opening" is reserved.
    """
    _refuse_unknown_options(reference, *amount_and_users)
    if to_all and create:
        raise click.UsageError(
            "--all grants to known users: leave out --create.", click.get_current_context()
        )
    amounts = _amounts(amount_and_users, to_all=to_all, file=file)
    with existing_store(database) as store:
        try:
            outcome = GrantMoney(store)(
                reference,
                amounts,
                signature,
                create_with=opening_balance if create else None,
                dry_run=dry_run,
            )
        except InvalidValueError as error:
            raise click.UsageError(f"{error}; nothing was granted.", click.get_current_context()) from error
        except UsersNotFoundError as error:
            hint = "nothing was granted; see benefits users, or use --create"
            raise not_found("user", error.user_ids, hint) from error
        except GrantRefusedError as error:
            raise Failure(
                f"the balance of {error.user_id!r} is {error.balance}, and can't be changed by {error.amount};"
                " nothing was granted"
            ) from error
    say(_describe(outcome, amounts, reference, dry_run=dry_run))


def _refuse_unknown_options(reference: str, amount: str = "", *users: str) -> None:
    others = [reference, *users] if _NEGATIVE_AMOUNT.match(amount) else [reference, amount, *users]
    if (option := next((text for text in others if text.startswith("-")), None)) is not None:
        raise click.UsageError(f"No such option: {option}.", click.get_current_context())


def _amounts(
    amount_and_users: tuple[str, ...], *, to_all: bool, file: Path | None
) -> Mapping[str, Decimal] | Decimal:
    context = click.get_current_context()
    users = amount_and_users[1:]
    if to_all + (file is not None) + bool(users) != 1:
        raise click.UsageError("Name users, or use either --all or --from.", context)
    try:
        amount = amount_of(amount_and_users[0]) if amount_and_users else None
    except ValueError as error:
        raise click.UsageError(f"{error}.", context) from error
    if file is not None:
        try:
            return read_grants(read_at_most(file), amount, user_id_of)
        except OSError as error:
            raise Failure(f"{file}: {error.strerror}; name a CSV file") from error
        except InvalidFileError as error:
            raise Failure(f"{file}: {error}; nothing was granted") from error
    if amount is None:
        raise click.UsageError("Missing argument AMOUNT.", context)
    try:
        return amount if to_all else dict.fromkeys(map(user_id_of, users), amount)
    except InvalidUserIdError as error:
        raise click.UsageError(f"{error}; nothing was granted.", context) from error


def _describe(
    outcome: GrantOutcome, amounts: Mapping[str, Decimal] | Decimal, reference: str, *, dry_run: bool
) -> str:
    total = sum_of(amounts if isinstance(amounts, Decimal) else amounts[user] for user in outcome.given)
    verb = "To be granted" if dry_run else "Granted"
    created = f", {_users(len(outcome.created))} created" if outcome.created else ""
    return (
        f"{verb} for {reference}: {total} in all to {_users(len(outcome.given))}{created};"
        f" {_users(len(outcome.had))} had it already."
    )


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count} users"
