"""Amounts of money in arguments and options."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

import click

from benefits_core import OPENING_BALANCE, InvalidValueError
from benefits_core.values import MAX_MONEY, change_of_money, money
from benefits_service.commands.common import setting

# Decimal reads more than this: exponents, digits of other scripts, and low lines between digits.
_AMOUNT: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def amount_of(text: str) -> Decimal:
    """Return an amount, which may be negative.

    :raises ValueError: the text is no amount, has a third decimal, or is too large.
    """
    try:
        if _AMOUNT.fullmatch(text):
            return change_of_money(Decimal(text))
    except InvalidValueError:
        pass
    raise ValueError(f"{text!r} is not an amount of at most {MAX_MONEY:,} with at most two decimals")


def _parse_opening_balance(_: click.Context, __: click.Parameter, text: str) -> Decimal:
    try:
        return money(amount_of(text))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not an amount from 0 to {MAX_MONEY:,} with at most two decimals."
        ) from error


opening_balance_option: Final = setting(
    "--opening-balance",
    callback=_parse_opening_balance,
    default=str(OPENING_BALANCE),
    metavar="AMOUNT",
    help="The opening balance of a new user.",
)
