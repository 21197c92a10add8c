"""Tables on standard output: aligned for people, as CSV for spreadsheets, or as a line of JSON for each row."""

from __future__ import annotations

import csv
import gc
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps
from itertools import chain, islice
from typing import Any, Final

import attrs
import click

from benefits_http import wire
from benefits_service.commands.common import currency_option, require_output
from benefits_service.output import is_lost, printable

Cell = str | tuple[str, ...] | int | Decimal | datetime | None
Row = Sequence[Cell]

# How many rows are written at once, and measured in order to align the columns.
_CHUNK: Final = 500

# A spreadsheet takes a cell that begins like this for a formula, which could send data elsewhere. With an apostrophe before
# it, it is a text. One that begins so already gets one more, so that each text can be read back as it was.
_FORMULA: Final = re.compile("'*[=+@\t\r-]")
_BEGINNINGS: Final = frozenset("'=+@\t\r-")


@attrs.frozen
class Table:
    """How rows are printed.

    :param style: ``table``, ``csv`` or ``jsonl``.
    :param currency: what a last column says in every row; None for no such column.
    """

    style: str
    currency: str | None = None

    def print(self, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Print rows as they come, and stop when no program reads them any longer.

        :raises Failure: standard output could not be written.
        """
        if self.currency is not None:
            columns, rows = [*columns, "currency"], ([*row, self.currency] for row in rows)
        hidden = sys.stdout.isatty() or not sys.stderr.isatty()
        with (
            _no_garbage_collection(),
            click.progressbar(
                rows, label="Reading", file=sys.stderr, hidden=hidden, update_min_steps=_CHUNK
            ) as bar,
        ):
            lines = _STYLES[self.style](columns, iter(bar))
            while chunk := "".join(islice(lines, _CHUNK)):
                click.echo(chunk, nl=False)
                if is_lost():
                    break
        require_output()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect no garbage: no row refers to itself, and to look for one takes a tenth of the time of a million rows."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def table_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options ``--format`` and ``--currency`` to a command, which receives its argument ``table``."""

    @click.option(
        "--format", "style", type=click.Choice(list(_STYLES)), default="table", help="The form of the output."
    )
    @currency_option
    @wraps(command)
    def with_table(*, style: str, currency: str | None, **options: Any) -> None:  # noqa: ANN401 - those of the command
        command(table=Table(style, currency), **options)

    return with_table


def _aligned(columns: Sequence[str], rows: Iterator[Row]) -> Iterator[str]:
    first = list(islice(rows, _CHUNK))
    widths = [max(map(len, map(_text, column))) for column in zip(columns, *first, strict=True)]
    amounts = [isinstance(cell, (int, Decimal)) for cell in (first or [columns])[0]]
    for line in chain([columns], first, rows):
        cells = [
            text.rjust(width) if is_amount else text.ljust(width)
            for text, width, is_amount in zip(map(_text, line), widths, amounts, strict=True)
        ]
        yield printable("  ".join(cells).rstrip()) + "\n"


def _csv(columns: Sequence[str], rows: Iterator[Row]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    for row in chain([columns], rows):
        yield writer.writerow(map(_harmless, row))


class _Echo:
    """A file for a writer of CSV, which returns what its file returns: here the line itself."""

    def write(self, line: str) -> str:
        return line


def _jsonl(columns: Sequence[str], rows: Iterator[Row]) -> Iterator[str]:
    for row in rows:
        cells = [_moment(cell) if isinstance(cell, datetime) else cell for cell in row]
        yield wire.encode(dict(zip(columns, cells, strict=True))).decode() + "\n"


_STYLES: Final[dict[str, Callable[[Sequence[str], Iterator[Row]], Iterator[str]]]] = {
    "table": _aligned,
    "csv": _csv,
    "jsonl": _jsonl,
}


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, datetime):
        return _moment(cell)
    if isinstance(cell, tuple):
        return " ".join(cell)
    return "" if cell is None else str(cell)


def _harmless(cell: Cell) -> str | int | Decimal:
    if isinstance(cell, (int, Decimal)):
        return cell
    text = _text(cell)
    # The first character alone is a quick question: of a million rows, each has several texts.
    return f"'{text}" if text[:1] in _BEGINNINGS and _FORMULA.match(text) else text


def text_of(cell: str) -> str:
    """Return the text of a cell of a CSV file, as it was before it was made harmless."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _moment(cell: datetime) -> str:
    return cell.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
