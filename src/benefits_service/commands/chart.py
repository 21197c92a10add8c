"""A chart of what was spent, as SVG. It needs the extra ``chart``."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benefits_core import Spending

# So many products have a colour of their own; the others are drawn as one part.
_MAX_PRODUCTS: Final = 9
_OTHERS: Final = "all others"

# There is room for so many months at least; one bar alone would fill the chart.
_MIN_PLACES: Final = 6

# Text stays text, which can be read and searched; and the same figures make the same file.
_STYLE: Final = {"svg.fonttype": "none", "svg.hashsalt": "benefits"}


def draw(spending: Sequence[Spending], file: Path, currency: str | None) -> None:
    """Draw what was spent: a bar for each month, with a part for each product.

    :param file: it is replaced if it exists.
    :raises OSError: it can't be written.
    """
    months = _months(spending)
    names = {row.product_id: row.name for row in spending}
    # The ends of the bars are pixels, so binary floating point is exact enough.
    parts: dict[str, dict[date, float]] = {product_id: defaultdict(float) for product_id in names}
    for row in spending:
        parts[row.product_id][row.month] = float(row.spent)
    by_size = sorted(parts, key=lambda product_id: sum(parts[product_id].values()), reverse=True)
    labelled = [(names[key], [parts[key][month] for month in months]) for key in by_size[:_MAX_PRODUCTS]]
    if others := by_size[_MAX_PRODUCTS:]:
        labelled.append((_OTHERS, [sum(parts[key][month] for key in others) for month in months]))

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name may have a character that the font has not
        figure = Figure(figsize=(10, 5), layout="constrained")
        axes = figure.add_subplot()
        bottoms = [0.0] * len(months)
        bars = []
        for _, heights in labelled:
            bars.append(axes.bar([f"{month:%Y-%m}" for month in months], heights, bottom=bottoms))
            bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
        axes.set_xlim(-0.6, max(len(months), _MIN_PLACES) - 0.4)
        axes.set_title("Spent on benefits, by month")
        axes.set_ylabel("amount" if currency is None else currency)
        axes.yaxis.set_major_formatter("{x:,.15g}")
        axes.tick_params(axis="x", rotation=45 if len(months) > _MAX_PRODUCTS else 0)
        axes.legend(bars, [_plain(name) for name, _ in labelled], loc="upper left", bbox_to_anchor=(1, 1))
        drawn = BytesIO()
        figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_bytes(drawn.getvalue())
    unfinished.replace(file)


def _plain(name: str) -> str:
    """Return a name that matplotlib shows as it is: no formula, and not hidden, as one with a low line before it is."""
    # XML has not the two last code points of the basic plane.
    escaped = name.translate({ord("$"): r"\$", 0xFFFE: "\ufffd", 0xFFFF: "\ufffd"})
    return f" {escaped}" if escaped.startswith("_") else escaped


def _months(spending: Sequence[Spending]) -> list[date]:
    """Return all months from the first to the last one, those without any order too."""
    if not spending:
        return []
    first, last = spending[0].month, spending[-1].month
    numbers = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return [date(number // 12, number % 12 + 1, 1) for number in numbers]
