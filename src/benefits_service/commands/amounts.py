"""Amounts of money in arguments and options."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, TypeVar

import click

from benefits_core import OPENING_BALANCE, InvalidValueError
from benefits_core.values import MAX_MONEY, change_of_money, money
from benefits_service.commands.common import setting

_Command = TypeVar("_Command", bound=Callable[..., Any])

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


def opening_balance_option(help_text: str) -> Callable[[_Command], _Command]:
    """Return the option ``--opening-balance``."""
    return setting(
        "--opening-balance",
        callback=_parse_opening_balance,
        default=str(OPENING_BALANCE),
        metavar="AMOUNT",
        help=help_text,
    )
