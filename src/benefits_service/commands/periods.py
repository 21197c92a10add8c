"""Options of commands that look at a period: its first and its last day, and the timezone of the days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from functools import wraps
from typing import Any, Final
from zoneinfo import ZoneInfo

import attrs
import click

# Python can convert a day of these years from every timezone.
_FIRST_YEAR: Final = 1900
_LAST_YEAR: Final = 9000


@attrs.frozen
class Period:
    """A period of whole days.

    :param since: its first moment; None for no lower limit.
    :param before: the first moment after it; None for no upper limit.
    :param timezone: that of its days; None for that of this machine.
    """

    since: datetime | None
    before: datetime | None
    timezone: tzinfo | None


def period_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options ``--since``, ``--until`` and ``--timezone`` to a command, which receives its argument ``period``."""

    @_day_option("--since", "Only orders of this day or later, such as 2026-11-01.")
    @_day_option("--until", "Only orders of this day or earlier.")
    @click.option(
        "--timezone",
        callback=_parse_timezone,
        metavar="NAME",
        show_default="that of this machine",
        help="The timezone of the days, such as Europe/Berlin.",
    )
    @wraps(command)
    def with_period(
        *,
        since: datetime | None,
        until: datetime | None,
        timezone: tzinfo | None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        if since is not None and until is not None and since > until:
            raise click.UsageError("--since is later than --until.", click.get_current_context())
        next_day = None if until is None else until + timedelta(days=1)
        period = Period(_beginning(since, timezone), _beginning(next_day, timezone), timezone)
        command(period=period, **options)

    return with_period


def _day_option(name: str, help_text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    day = click.DateTime(["%Y-%m-%d"])
    return click.option(name, type=day, callback=_require_year, metavar="DAY", help=help_text)


def _parse_timezone(_: click.Context, __: click.Parameter, name: str | None) -> tzinfo | None:
    try:
        return None if name is None else ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise click.BadParameter(f"{name!r} is not a timezone such as Europe/Berlin.") from error


def _require_year(_: click.Context, __: click.Parameter, day: datetime | None) -> datetime | None:
    if day is not None and not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise click.BadParameter(f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}.")
    return day


def _beginning(day: datetime | None, timezone: tzinfo | None) -> datetime | None:
    if day is None:
        return None
    return day.astimezone() if timezone is None else day.replace(tzinfo=timezone)
