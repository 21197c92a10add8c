"""``benefits report``: what was ordered and spent, by month and product."""

from __future__ import annotations

from pathlib import Path

import click

from benefits_core import ReportSpending
from benefits_service.commands.common import Failure, database_option, examples, existing_store, warn
from benefits_service.commands.periods import Period, period_options
from benefits_service.commands.tables import Table, table_options
from benefits_service.databases import Database


def _require_svg(_: click.Context, __: click.Parameter, file: Path | None) -> Path | None:
    # A mistyped name must not replace the database.
    if file is not None and file.suffix.lower() != ".svg":
        raise click.BadParameter(f"{file} is not the name of an SVG file, such as 2026.svg.")
    return file


@click.command(
    epilog=examples(
        "benefits report",
        "benefits report --since 2026-01-01 --until 2026-12-31 --format csv",
        "benefits report --currency EUR --chart 2026.svg",
    )
)
@period_options
@click.option(
    "--chart",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_require_svg,
    metavar="FILE.svg",
    help="Draw it as SVG, too. This needs the extra benefits[chart]. FILE is replaced if it exists.",
)
@table_options
@database_option
def report(*, period: Period, chart: Path | None, table: Table, database: Database) -> None:
    """Report what was ordered and spent in each month, by product. Orders that were cancelled do not count."""
    with existing_store(database) as store:
        spending = ReportSpending(store)(since=period.since, before=period.before, timezone=period.timezone)
    if chart is not None:
        try:
            from benefits_service.commands.chart import draw  # noqa: PLC0415 - an extra, and slow to import
        except ModuleNotFoundError as error:
            raise Failure("--chart needs matplotlib; install benefits[chart]") from error
        try:
            draw(spending, chart, table.currency)
        except OSError as error:
            raise Failure(f"{chart}: {error.strerror}") from error
        warn(f"The chart is in {chart}.")
    table.print(
        ["month", "product_id", "name", "count", "spent"],
        ((f"{row.month:%Y-%m}", row.product_id, row.name, row.count, row.spent) for row in spending),
    )
