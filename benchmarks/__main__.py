"""``python -m benchmarks``: measure, and print each figure beside its goal."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import files, parts, postgres, report
from benchmarks.parts import Found, Plan, Row
from benchmarks.servers import ROOT, InvalidError

_PARTS: Final[dict[str, Callable[[Plan], Found]]] = {
    "reads": parts.reads,
    "orders": parts.orders,
    "starvation": parts.starvation,
    "growth": parts.growth,
    "postgres": postgres.beside_sqlite_and_peer,
    "seed": parts.seed,
    "library": parts.in_process,
    "clients": parts.steps,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure how fast it all is.")
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"what to measure, of {', '.join(_PARTS)}; all, if none is named",
    )
    parser.add_argument(
        "--quick", action="store_true", help="see only whether it works; the figures mean little"
    )
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each server (default: 2)")
    options = parser.parse_args()
    unknown = set(options.parts) - _PARTS.keys()
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    return options


def _plan(folder: Path, options: argparse.Namespace) -> Plan:
    if options.quick:
        large = files.Size(users=30_000, orders=100_000, products=200)
        return Plan(
            folder=folder,
            workers=options.workers,
            rounds=1,
            seconds=1,
            storm=3,
            large=large,
            loops=100,
            steps=(1, 16),
        )
    return Plan(
        folder=folder,
        workers=options.workers,
        rounds=5,
        seconds=2,
        storm=30,
        large=files.LARGE,
        loops=500,
        steps=(1, 4, 16, 64, 128),
    )


def _measure(name: str, options: argparse.Namespace) -> Found:
    with TemporaryDirectory(dir=files.BUILD) as folder:
        began = time.monotonic()
        try:
            return _PARTS[name](_plan(Path(folder), options))
        except (InvalidError, OSError, subprocess.SubprocessError) as error:
            return Found([Row(name, f"{error}")])
        finally:
            _say(f"{name}: {time.monotonic() - began:.0f} s")


def _hide_numpy() -> None:
    # It is here for the picture. But sqlite-utils imports it wherever it is: time and memory that other installations of the
    # service don't spend.
    hidden = files.BUILD / "hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / "numpy.py").write_text("raise ImportError\n", encoding="ascii")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(hidden), *filter(None, [os.environ.get("PYTHONPATH")])])


def _say(what: str) -> None:
    print(what, file=sys.stderr)


def main() -> int:
    """Measure the parts that the options name; return the exit status."""
    options = _options()
    if shutil.which("wrk") is None:
        _say("wrk is needed, which sends the requests; on Debian: apt install wrk")
        return 2
    files.BUILD.mkdir(exist_ok=True)
    _hide_numpy()
    load = os.getloadavg()[0]
    found = {name: _measure(name, options) for name in options.parts or _PARTS}
    rows = [row for part in found.values() for row in part.rows]
    print(report.table(rows))
    invalid = any(row.met is None for row in rows)
    # Only a whole run is fit to be shown to others.
    partial = options.quick or options.parts or invalid
    folder = files.BUILD if partial else files.BUILD.parent
    report.write(found, folder, workers=options.workers, load=load)
    _say(f"written: {folder.relative_to(ROOT)}/RESULTS.md")
    if invalid:
        _say("INVALID: something went wrong while figures were taken")
    return int(invalid)


if __name__ == "__main__":
    sys.exit(main())
