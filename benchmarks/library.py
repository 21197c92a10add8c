"""The library without a server, by pyperf: each figure is the time of one order, or one import, in fresh processes."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import pyperf

from benchmarks.ceilings import BareOrders
from benchmarks.files import SMALL, make
from benchmarks.servers import ROOT
from benefits_core import OPENING_BALANCE, Grant, MemoryStore, PlaceOrder, Product, Store, UnitOfWork
from benefits_sqlite import SqliteStore

_MODULE: Final = __spec__.name  # what to run for a figure, in a process of its own: this one

Order = Callable[[int], object]
"""Places an order for a new user, who has this number."""


def seconds(figure: str, *, loops: int, values: int, folder: Path) -> float:
    """Take a figure, and return the median of what was found.

    :param loops: how many orders, or imports, are timed as one.
    :param values: how often they are.
    :param folder: where files may be made.
    """
    with TemporaryDirectory(dir=folder) as ours:
        results = Path(ours, "pyperf.json")
        command = [sys.executable, "-m", _MODULE, figure, ours]
        command += ["--quiet", "--output", str(results)]
        command += ["--processes", "1", "--warmups", "1", "--values", str(values), "--loops", str(loops)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        median: float = pyperf.Benchmark.load(str(results)).median()
        return median


def _orders_over(store: Store) -> Order:
    place_order = PlaceOrder(store)
    return lambda number: place_order(f"new-{number}", ["product-1"])


def _memory(_: Path, *, users: int = 0) -> Order:
    store = MemoryStore()

    def fill(work: UnitOfWork) -> None:
        now = datetime.now(UTC)
        work.products.put([Product("product-1", "Benefit number 1", OPENING_BALANCE)])
        for number in range(users):
            work.users.get_or_add(Grant.opening(f"employee-{number}", OPENING_BALANCE, now))

    store.change(fill)
    return _orders_over(store)


def _crowded_memory(folder: Path) -> Order:
    return _memory(folder, users=1_000_000)


def _sqlite(folder: Path) -> Order:
    return _orders_over(SqliteStore(make(folder / "library.db", SMALL)))


def _bare(folder: Path) -> Order:
    orders = BareOrders(make(folder / "bare.db", SMALL))
    return lambda _: orders.place()


def _bare_and_memory(folder: Path) -> Order:
    in_memory, bare = _memory(folder), _bare(folder)

    def order(number: int) -> None:
        in_memory(number)
        bare(number)

    return order


_ORDERS: Final[dict[str, Callable[[Path], Order]]] = {
    "memory": _memory,
    "crowded memory": _crowded_memory,
    "SQLite": _sqlite,
    "bare": _bare,
    "bare and memory": _bare_and_memory,
}
_IMPORTS: Final = {"import": "import benefits_core", "import attrs": "import attrs"}


def _timed(begin: Callable[[Path], Order], folder: Path) -> Callable[[int], float]:
    numbers = count()
    order: Order | None = None

    def timed(loops: int) -> float:
        nonlocal order
        if order is None:  # only in the process that measures, and once there
            order = begin(folder)
        began = perf_counter()
        for _ in range(loops):
            order(next(numbers))
        return perf_counter() - began

    return timed


def _main() -> None:
    def hand_on(command: list[str], options: argparse.Namespace) -> None:
        command += [options.figure, options.folder]

    runner = pyperf.Runner(program_args=("-m", _MODULE), add_cmdline_args=hand_on)
    runner.argparser.add_argument("figure")
    runner.argparser.add_argument("folder")
    options = runner.parse_args()
    if options.figure in _IMPORTS:
        runner.bench_command(options.figure, [sys.executable, "-c", _IMPORTS[options.figure]])
        return
    runner.bench_time_func(options.figure, _timed(_ORDERS[options.figure], Path(options.folder)))


if __name__ == "__main__":
    _main()
