"""Valid values: exact money, text of limited length, normalised user ids.

Programs without type checking call the core too, so every check begins with the type.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache, reduce
from typing import Final, TypeVar

from benefits_core.errors import InvalidUserIdError, InvalidValueError

MAX_MONEY: Final = Decimal("9999999999.99")
MAX_ID_LENGTH: Final = 64
MAX_NAME_LENGTH: Final = 200

_Item = TypeVar("_Item")
_CENT: Final = Decimal("0.01")
# A context of our own: the decimal context of the calling program must not round money. An inexact result raises.
_EXACT: Final = Context(prec=64, traps=[Inexact, InvalidOperation])
# Control characters (Unicode's category Cc), and surrogates, which are not characters.
_NOT_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# NFC composes at most four code points into one, so longer input can't become short enough. It is refused before
# normalisation, which takes quadratic time for thousands of combining marks.
MAX_DECOMPOSED_LENGTH: Final = 4 * MAX_ID_LENGTH


def money(value: object, field: str = "money") -> Decimal:
    """Return an amount of money with exactly two decimals.

    :param value: a ``Decimal`` from 0 to 9,999,999,999.99 that needs no third decimal.
    :param field: the name of the field, for the error.
    :raises InvalidValueError: it is anything else, such as a float, NaN, a negative amount or half a cent.
    """
    if type(value) is Decimal and value.same_quantum(_CENT) and not value.is_signed() and value <= MAX_MONEY:
        return value  # the usual case: the value has been through this function before
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value <= MAX_MONEY:
        try:
            return _EXACT.quantize(value, _CENT).copy_abs()  # turns -0 into 0
        except Inexact:
            pass
    raise InvalidValueError(field, value, f"a Decimal from 0 to {MAX_MONEY:,} with at most two decimals")


def change_of_money(value: object, field: str = "change") -> Decimal:
    """Return what is added to an amount of money, or taken from it: money, or its negative.

    :param field: the name of the field, for the error.
    :raises InvalidValueError: it is anything else.
    """
    try:
        amount = money(value.copy_abs() if isinstance(value, Decimal) else value)
    except InvalidValueError as error:
        rule = f"a Decimal from -{MAX_MONEY:,} to {MAX_MONEY:,} with at most two decimals"
        raise InvalidValueError(field, value, rule) from error
    # The exact difference turns -0 into 0.
    return difference(Decimal(0), amount) if isinstance(value, Decimal) and value.is_signed() else amount


def sum_of(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum, whatever the caller's decimal context is."""
    return reduce(_EXACT.add, amounts, Decimal("0.00"))


def difference(amount: Decimal, less: Decimal) -> Decimal:
    """Return the exact difference. It may be negative, which :func:`money` refuses."""
    return _EXACT.subtract(amount, less)


def to_cents(amount: Decimal) -> int:
    """Return money as a whole number of cents, as stores keep it."""
    return int(_EXACT.scaleb(amount, 2))


@lru_cache(4096)  # the same prices come again and again
def from_cents(cents: int) -> Decimal:
    """Return a whole number of cents as money."""
    return _EXACT.scaleb(Decimal(cents), -2)


def normal_user_id(name: str) -> str:
    """Return a user id without white space around it, NFC-normalised. Case matters.

    :raises InvalidUserIdError: the result does not have 1 to 64 code points, or contains a control character.
    """
    return _normal(name, "user_id", InvalidUserIdError)


def normal_reference(text: str) -> str:
    """Return the reference of a grant without white space around it, NFC-normalised. Case matters.

    :raises InvalidValueError: the result does not have 1 to 64 code points, or contains a control character.
    """
    return _normal(text, "reference", InvalidValueError)


def _normal(text: object, field: str, error: type[InvalidValueError]) -> str:
    if isinstance(text, str):
        trimmed = text.strip()
        if len(trimmed) <= MAX_DECOMPOSED_LENGTH:
            normal = unicodedata.normalize("NFC", trimmed)
            if 1 <= len(normal) <= MAX_ID_LENGTH and _is_text(normal):
                return normal
    raise error(field, text, _text_rule(MAX_ID_LENGTH))


def _is_text(value: str) -> bool:
    # What can be printed is text: the usual case, and a quick question. Not all text can be printed, a joiner of emoji for one.
    return value.isprintable() or not _NOT_TEXT.search(value)


def _text_rule(max_length: int) -> str:
    return f"text of 1 to {max_length} code points without control characters"


def text(value: str, field: str, max_length: int) -> str:
    """Return the text, if it has 1 to ``max_length`` code points and no control character.

    :raises InvalidValueError: it does not.
    """
    if isinstance(value, str) and 1 <= len(value) <= max_length and _is_text(value):
        return value
    raise InvalidValueError(field, value, _text_rule(max_length))


def collection(values: Iterable[_Item], field: str, kind: type[_Item]) -> tuple[_Item, ...]:
    """Return a collection as a tuple, if all its values have this type.

    :raises InvalidValueError: it is no collection, or holds a value of another type.
    """
    if isinstance(values, Iterable) and not isinstance(values, str):  # a string is an iterable of its letters
        result = tuple(values)
        for value in result:
            if not isinstance(value, kind):
                break
        else:
            return result
    raise InvalidValueError(field, values, f"a collection of {kind.__name__} values")


def utc(value: datetime, field: str) -> datetime:
    """Return a time, converted to UTC.

    :raises InvalidValueError: it has no timezone.
    """
    if type(value) is datetime and value.tzinfo is UTC:
        return value  # the usual case
    if isinstance(value, datetime) and value.utcoffset() is not None:
        try:
            return value.astimezone(UTC)
        except OverflowError:  # in the first or the last day of the calendar
            pass
    raise InvalidValueError(field, value, "a timezone-aware datetime")
