"""What was found, for people: a table for the terminal, the same and more in Markdown, and a picture."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.load import Result
from benchmarks.parts import Found, Row
from benchmarks.peer import THREADS

_PACKAGES = ("Flask", "Granian", "psycopg", "SQLAlchemy", "Gunicorn")
_HEADINGS = ("figure", "value", "ratio", "goal", "met")
_HOW = """
What is compared takes turns, A B C A B C, after a turn of each that does not count. Each figure is the median of the
turns; each ratio is the median of those of the single rounds, since a disk may be in another mood in each; the slowest
request, and its ratio, are those of the worst round. The clients are wrk's, in one thread: each waits for its answer
before it asks again. They share the processors with the servers. A single error, in the connection or in the status of
an answer, makes all figures of its part invalid.

- **The bare constant view** is a Flask view that returns as many bytes as the answer about a user, and nothing else; **the
  dressed one** is the same in the coat of the service: CORS, request id, log line, metrics. Both are served by the
  service's own server, with its settings, and routed by Werkzeug, as the API's own paths are not. All logs go to `/dev/null`.
- **The bare order transaction** is one thread over the same tables, without HTTP or model: product, user, grant, order and line.
- **PlaceOrder over memory and then the bare transaction** has the rules, and what SQLite can't do without: over a store that
  keeps all that `ports.py` promises, PlaceOrder can't be as fast as that.
- **PostgreSQL** commits to the disk (`fsync`, `full_page_writes` and `synchronous_commit` are on), has `shared_buffers` of
  128 MB and else its defaults, and is reached through a Unix socket. A checkpoint precedes the turns. Its data and the
  SQLite file beside it are in one folder, so on the same disk. Both begin as small files do.
- **The peer** is the same API by Flask, SQLAlchemy 2 and psycopg, as their documentation shows, with the same rules, keys and
  constraints, in another database of the same server. Gunicorn serves it, with `gthread` workers of {threads} threads. It has
  no CORS, request ids, logs or metrics. [peer.py](peer.py) says more.
- **The empty database** has 15 products, and neither users nor orders.
- **Processor time** is that of the service and of all processes of PostgreSQL, if it uses PostgreSQL.
- **The servers that are not measured at the moment** are running, but take no processor time.
- **The library** is measured by pyperf, in processes of its own.
- **Small files** hold 1,000 users, 3,000 orders and 15 products. All files have write-ahead logging and `synchronous=FULL`.
- **Memory** is the peak of all processes of a service together; what they share counts for each.
"""


def table(rows: Iterable[Row]) -> str:
    """Return the figures as a table for a terminal."""
    cells = [_HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes" if row.goal else "", False: "NO", None: "INVALID"}[row.met]
    return row.figure, row.value, row.ratio, row.goal, met


def write(parts: Mapping[str, Found], folder: Path, *, workers: int, load: float) -> None:
    """Write RESULTS.md and throughput.svg.

    :param parts: what each part has found.
    :param load: how busy the machine was before, as its load average.
    """
    curves = {what: curve for found in parts.values() for what, curve in found.curves.items()}
    (folder / "RESULTS.md").write_text(_markdown(parts, workers=workers, load=load), encoding="utf-8")
    if curves:
        _draw(curves, folder / "throughput.svg")


def _markdown(parts: Mapping[str, Found], *, workers: int, load: float) -> str:
    rows = [row for found in parts.values() for row in found.rows]
    results = [result for found in parts.values() for result in found.results]
    memory = {name: peak for found in parts.values() for name, peak in found.memory.items()}
    versions = (f"{package} {version(package.lower())}" for package in _PACKAGES)
    circumstances = ", ".join(
        (
            f"{len(os.sched_getaffinity(0))} processors",
            f"load average {load:.1f} before",
            f"{workers} worker processes a server",
            f"{platform.system()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
            *versions,
        )
    )
    return "\n".join(
        [
            "# How fast it is",
            "",
            f"Made by `make bench` on {datetime.now(UTC):%d %B %Y}: {circumstances}.",
            "",
            *_markdown_table(_HEADINGS, map(_cells, rows)),
            "",
            "![Throughput and p99 against clients](throughput.svg)",
            "",
            "## How it is measured",
            _HOW.format(threads=THREADS),
            "## Behind the ratios",
            "",
            *_markdown_table(
                ("what", "requests/s", "median, ms", "p99, ms", "slowest, ms", "processor, µs a request"),
                map(_details, results),
            ),
            "",
            *_markdown_table(
                ("memory", "peak, MiB"), ((name, f"{peak:.0f}") for name, peak in memory.items())
            ),
            "",
        ]
    )


def _details(result: Result) -> tuple[str, ...]:
    numbers = (f"{number:.2f}" for number in (result.p50, result.p99, result.slowest))
    return result.name, f"{result.rate:,.0f}", *numbers, f"{result.cpu:.0f}"


def _markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (headings, ["---"] * len(headings), *rows)]


def _draw(curves: Mapping[str, Mapping[int, Result]], file: Path) -> None:
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benefits"  # else every picture is another file, were the figures the same
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
    for name, curve in curves.items():
        above.plot(list(curve), [result.rate for result in curve.values()], marker="o", label=name)
        below.plot(list(curve), [result.p99 for result in curve.values()], marker="o", label=name)
    above.set(ylabel="requests/s", ylim=(0, None))
    below.set(ylabel="p99, ms", xlabel="clients", xscale="log", yscale="log")
    below.set_xticks(
        clients := sorted({number for curve in curves.values() for number in curve}), map(str, clients)
    )
    below.yaxis.set_major_formatter("{x:g}")
    below.minorticks_off()
    above.legend()
    for axes in above, below:
        axes.grid(alpha=0.3)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
