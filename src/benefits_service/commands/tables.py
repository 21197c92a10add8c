"""Tables on standard output: aligned for people, as CSV for spreadsheets, or as a line of JSON for each row."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Final, TypeVar

import click

from benefits_http import wire
from benefits_service.commands.common import require_output
from benefits_service.output import is_lost, printable

Cell = str | tuple[str, ...] | Decimal | datetime
Row = Sequence[Cell]

_Command = TypeVar("_Command", bound=Callable[..., Any])

# How many rows are written at once, and measured in order to align the columns.
_CHUNK: Final = 500

# A spreadsheet takes a cell that begins with one of these for a formula, which could send data elsewhere.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def format_option(command: _Command) -> _Command:
    """Add the option ``--format`` to a command."""
    return click.option(
        "--format", "style", type=click.Choice(list(_STYLES)), default="table", help="The form of the output."
    )(command)


def print_table(columns: Sequence[str], rows: Iterable[Row], style: str) -> None:
    """Print rows as they come, and stop when no program reads them any longer.

    :param style: ``table``, ``csv`` or ``jsonl``.
    :raises Failure: standard output could not be written.
    """
    hidden = sys.stdout.isatty() or not sys.stderr.isatty()
    with click.progressbar(
        rows, label="Reading", file=sys.stderr, hidden=hidden, update_min_steps=_CHUNK
    ) as bar:
        lines = _STYLES[style](columns, iter(bar))
        while chunk := "".join(islice(lines, _CHUNK)):
            click.echo(chunk, nl=False)
            if is_lost():
                break
    require_output()


def _aligned(columns: Sequence[str], rows: Iterator[Row]) -> Iterator[str]:
    first = list(islice(rows, _CHUNK))
    widths = [max(map(len, map(_text, column))) for column in zip(columns, *first, strict=True)]
    amounts = [isinstance(cell, Decimal) for cell in (first or [columns])[0]]
    for line in chain([columns], first, rows):
        cells = [
            text.rjust(width) if is_amount else text.ljust(width)
            for text, width, is_amount in zip(map(_text, line), widths, amounts, strict=True)
        ]
        yield printable("  ".join(cells).rstrip()) + "\n"


def _csv(columns: Sequence[str], rows: Iterator[Row]) -> Iterator[str]:
    for row in chain([columns], rows):
        line = io.StringIO()
        csv.writer(line).writerow([_harmless(cell) for cell in row])
        yield line.getvalue()


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
    if isinstance(cell, datetime):
        return _moment(cell)
    return " ".join(cell) if isinstance(cell, tuple) else str(cell)


def _harmless(cell: Cell) -> str:
    text = _text(cell)
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(cell, Decimal) else text


def _moment(cell: datetime) -> str:
    return cell.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
