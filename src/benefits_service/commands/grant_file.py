"""CSV files that name the users of a grant, and what each of them gets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from benefits_core.values import normal_user_id
from benefits_service.commands.amounts import amount_of
from benefits_service.commands.tables import text_of
from benefits_service.commands.text_files import InvalidFileError, decode

_USER_ID: Final = "user_id"
_AMOUNT: Final = "amount"


def read_grants(
    file: bytes, amount: Decimal | None, user_id_of: Callable[[str], str] = normal_user_id
) -> dict[str, Decimal]:
    """Return what each user of a file gets, by user id.

    :param file: CSV in UTF-8, with a header. Other columns than ``user_id`` and ``amount`` are ignored.
    :param amount: what each of them gets; None to take it from the file.
    :param user_id_of: returns the user id of a name, or raises InvalidUserIdError.
    :raises InvalidFileError: it is no such file.
    """
    rows = csv.DictReader(io.StringIO(decode(file), newline=""), strict=True)
    amounts: dict[str, Decimal] = {}
    try:
        _require_columns(rows.fieldnames or (), with_amount=amount is None)
        for row in rows:
            if not any(row.values()):
                continue  # spreadsheets leave such lines
            user_id, amount_of_row = _parse(row, amount, user_id_of)
            if user_id in amounts:
                raise ValueError(f"{user_id!r} is in a line before")  # noqa: TRY301 - as the other mistakes
            amounts[user_id] = amount_of_row
    except (ValueError, csv.Error) as error:  # InvalidUserIdError is a ValueError
        raise InvalidFileError(f"line {max(1, rows.reader.line_num)}: {error}") from error
    return amounts


def _require_columns(columns: Sequence[str], *, with_amount: bool) -> None:
    for column in [_USER_ID, _AMOUNT] if with_amount else [_USER_ID]:
        if columns.count(column) > 1:
            raise ValueError(f"the header has two columns {column}")
        if column not in columns:
            raise ValueError(f"the header has no column {column}; columns are separated by commas")
    if not with_amount and _AMOUNT in columns:
        raise ValueError("the header has a column amount; leave it out, or do not name an AMOUNT")


def _parse(
    row: Mapping[str, str | None], amount: Decimal | None, user_id_of: Callable[[str], str]
) -> tuple[str, Decimal]:
    if None in row:  # where the reader puts what is left: the cents after a decimal comma, for example
        raise ValueError("it has more cells than the header; an amount has a decimal point")
    user_id = user_id_of(text_of(row[_USER_ID] or ""))
    return user_id, amount_of((row[_AMOUNT] or "").strip()) if amount is None else amount
