"""What may be held at all: exact money, text of a bounded length, user names in their one spelling.

Values come from programs too, typed or not, so every check begins with the type.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import reduce
from typing import Any, Final

from benefits_core.errors import InvalidUserIdError, InvalidValueError

MAX_MONEY: Final = Decimal("9999999999.99")
MAX_ID_LENGTH: Final = 64
MAX_NAME_LENGTH: Final = 200

_CENT: Final = Decimal("0.01")
# Our own context, so that no program's decimal settings can round people's money: what isn't exact raises.
_EXACT: Final = Context(prec=64, traps=[Inexact, InvalidOperation])
# Unicode's category Cc, and surrogates, which are no characters at all.
_NOT_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# No character composes from more than four code points, so longer input can't shrink to the limit:
# refusing it first spares the quadratic reordering of thousands of combining marks.
_MAX_DECOMPOSED_LENGTH: Final = 4 * MAX_ID_LENGTH


def money(value: object, field: str = "money") -> Decimal:
    """Return an amount of money with exactly two decimals.

    :param value: a ``Decimal`` from 0 to 9,999,999,999.99 that needs no third decimal.
    :param field: what to call it if it is refused.
    :raises InvalidValueError: it is anything else: a float, NaN, negative, half a cent.
    """
    if type(value) is Decimal and value.same_quantum(_CENT) and not value.is_signed() and value <= MAX_MONEY:
        return value  # nearly all money is made of money, and has its one form already
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value <= MAX_MONEY:
        try:
            return _EXACT.quantize(value, _CENT).copy_abs()  # of -0, the 0
        except Inexact:
            pass
    raise InvalidValueError(field, value, f"a Decimal from 0 to {MAX_MONEY:,} with at most two decimals")


def sum_of(amounts: Iterable[Decimal]) -> Decimal:
    """Add money up, exactly, in whatever decimal context the caller works."""
    return reduce(_EXACT.add, amounts, Decimal("0.00"))


def difference(amount: Decimal, less: Decimal) -> Decimal:
    """Subtract money from money, exactly; the result may be negative, which no field accepts."""
    return _EXACT.subtract(amount, less)


def to_cents(amount: Decimal) -> int:
    """Return money as a whole number of cents, as stores keep it."""
    return int(_EXACT.scaleb(amount, 2))


def from_cents(cents: int) -> Decimal:
    """Return a whole number of cents as money."""
    return _EXACT.scaleb(Decimal(cents), -2)


def normal_user_id(name: str) -> str:
    """Return the one spelling of a user name: trimmed of white space, NFC-normalised; case matters.

    :raises InvalidUserIdError: it has not 1 to 64 code points then, or holds a control character.
    """
    if isinstance(name, str):
        trimmed = name.strip()
        if len(trimmed) <= _MAX_DECOMPOSED_LENGTH:
            normal = unicodedata.normalize("NFC", trimmed)
            if 1 <= len(normal) <= MAX_ID_LENGTH and not _NOT_TEXT.search(normal):
                return normal
    raise InvalidUserIdError("user_id", name, _text_rule(MAX_ID_LENGTH))


def _text_rule(max_length: int) -> str:
    return f"text of 1 to {max_length} code points without control characters"


def text(value: str, field: str, max_length: int) -> str:
    """Return text as it is, if it has 1 to so many code points and no control character.

    :raises InvalidValueError: it has not.
    """
    if isinstance(value, str) and 1 <= len(value) <= max_length and not _NOT_TEXT.search(value):
        return value
    raise InvalidValueError(field, value, _text_rule(max_length))


def distinct(values: object, field: str, kind: type) -> tuple[Any, ...]:
    """Return a sequence as a tuple, if all in it is of one kind and nothing is there twice.

    :raises InvalidValueError: it is not so.
    """
    if isinstance(values, Iterable) and not isinstance(values, str):  # a string is an iterable of its letters
        held = tuple(values)
        if all(isinstance(value, kind) for value in held) and len(set(held)) == len(held):
            return held
    raise InvalidValueError(field, values, f"a sequence of distinct {kind.__name__}s")


def utc(value: datetime, field: str) -> datetime:
    """Return a moment in UTC.

    :raises InvalidValueError: it is not aware of its timezone.
    """
    if isinstance(value, datetime) and value.utcoffset() is not None:
        try:
            return value.astimezone(UTC)
        except OverflowError:  # at the very ends of the calendar
            pass
    raise InvalidValueError(field, value, "a timezone-aware datetime")
