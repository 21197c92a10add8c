"""The parts of the benchmark: each measures what some of the goals speak of, and says what became of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import attrs

from benchmarks import files, library
from benchmarks.ceilings import BareOrders
from benchmarks.load import (
    CONSTANT,
    MIXED,
    ORDERS,
    PRODUCTS,
    USERS,
    Contestant,
    Result,
    clients,
    take_turns,
)
from benchmarks.servers import InvalidError, constant, service

MANY: Final = 64
FEW: Final = 16


@attrs.frozen(kw_only=True)
class Plan:
    """How thoroughly to measure.

    :param folder: where database files go; it is emptied between the parts.
    :param workers: how many worker processes each server has.
    :param rounds: how often each contestant has its turn, in the parts that compare.
    :param seconds: how long a turn is.
    :param storm: how long the storm of orders is, in seconds.
    :param large: how much is in the large file.
    :param loops: how many orders over SQLite are timed as one; those over memory are twenty times as many.
    :param steps: by how many clients the picture is drawn.
    """

    folder: Path
    workers: int
    rounds: int
    seconds: int
    storm: int
    large: files.Size
    loops: int
    steps: tuple[int, ...]


@attrs.frozen
class Row:
    """A figure beside its goal.

    :param goal: empty if it is there to compare others with.
    :param met: None if the figure means nothing.
    """

    figure: str
    value: str
    ratio: str = ""
    goal: str = ""
    met: bool | None = None


@attrs.frozen
class Found:
    """What a part has found.

    :param rows: the figures.
    :param results: what they come from, where it comes from rounds.
    :param memory: the most memory that servers have held, in MiB, by their names.
    :param curves: results by the mixture of requests, and by the number of clients.
    """

    rows: list[Row]
    results: list[Result] = attrs.field(factory=list)
    memory: dict[str, float] = attrs.field(factory=dict)
    curves: dict[str, dict[int, Result]] = attrs.field(factory=dict)


def at_least(figure: str, mine: Result, ceiling: Result, goal: float) -> Row:
    """Return a row: how many requests a second, and their ratio to another's, which has a goal."""
    ratio = mine.beside(ceiling)
    return Row(figure, f"{mine.rate:,.0f}/s", f"{ratio:.2f}", f"at least {goal:.2f}", ratio >= goal)


def evenly(result: Result, goal: float) -> Row:
    """Return a row: the p99, and its ratio to the median, which has a goal."""
    figure = f"{result.name}: p99, to the median"
    return Row(
        figure, f"{result.p99:.1f} ms", f"{result.spread:.1f}", f"at most {goal:g}", result.spread <= goal
    )


def _without_outliers(result: Result, goal: float) -> Row:
    figure = f"{result.name}: slowest, to the median"
    return Row(
        figure, f"{result.slowest:.1f} ms", f"{result.worst:.1f}", f"at most {goal:g}", result.worst <= goal
    )


def reads(plan: Plan) -> Found:
    """Ask for constant views, for what there is to read, and for a mixture with orders, at 64 clients."""
    still = files.make(plan.folder / "reads.db", files.SMALL)
    busy = files.make(plan.folder / "mixture.db", files.SMALL)
    users, workers = files.SMALL.users, plan.workers
    with (
        constant("bare", workers=workers) as bare,
        constant("dressed", workers=workers) as dressed,
        service(still, workers=workers) as (reading, _),
        service(busy, workers=workers) as (mixing, _),
    ):
        found = take_turns(
            {
                "bare constant view": clients(MANY, bare, CONSTANT),
                "dressed constant view": clients(MANY, dressed, CONSTANT),
                "products": clients(MANY, reading, PRODUCTS),
                "an existing user": clients(MANY, reading, USERS, users=users),
                "70 % users, 20 % products, 10 % orders": clients(MANY, mixing, MIXED, users=users),
            },
            rounds=plan.rounds,
            seconds=plan.seconds,
        )
        memory = {
            "bare constant view": bare.peak_memory(),
            "dressed constant view": dressed.peak_memory(),
            "service, reads": reading.peak_memory(),
            "service, mixture": mixing.peak_memory(),
        }
    plain, coated, products, user, mixture = found.values()
    return Found(
        [
            at_least("dressed constant view, to the bare one", coated, plain, 0.75),
            at_least("products, to the bare view", products, plain, 0.75),
            at_least("an existing user, to the bare view", user, plain, 0.65),
            at_least(f"{mixture.name}, to the bare view", mixture, plain, 0.55),
            evenly(mixture, 6),
        ],
        list(found.values()),
        memory,
    )


def orders(plan: Plan) -> Found:
    """Place orders by ever-new users, beside the bare transaction."""
    bare = BareOrders(files.make(plan.folder / "bare.db", files.SMALL))
    file = files.make(plan.folder / "orders.db", files.SMALL)
    with service(file, workers=plan.workers) as (server, _):
        found = take_turns(
            {
                "bare order transaction": bare.run,
                f"orders, {MANY} clients": clients(MANY, server, ORDERS),
                f"orders, {FEW} clients": clients(FEW, server, ORDERS),
            },
            rounds=plan.rounds,
            seconds=plan.seconds,
        )
        memory = {"service, orders": server.peak_memory()}
    bare.close()
    ceiling, many, few = found.values()
    rows = [
        at_least(f"{many.name}, to the bare transaction", many, ceiling, 0.80),
        at_least(f"{few.name}, to the bare transaction", few, ceiling, 0.55),
    ]
    for result in many, few:
        rows += [evenly(result, 3), _without_outliers(result, 20)]
    return Found(rows, list(found.values()), memory)


def starvation(plan: Plan) -> Found:
    """Look whether each worker gets its share in a storm, and each client its answer."""
    file = files.make(plan.folder / "storm.db", files.SMALL)
    with service(file, workers=max(plan.workers, 2)) as (server, _):
        processes, before = server.processes(), server.orders_by_worker()
        name = f"orders, {MANY} clients for {plan.storm} s"
        storm = Result(name, [clients(MANY, server, ORDERS)(plan.storm)])
        time.sleep(1)  # clients have gone, but the last orders are still placed, and may have waited for long
        if server.processes() != processes:
            raise InvalidError("service: a worker was replaced in the storm")
        placed = [after - earlier for earlier, after in zip(before, server.orders_by_worker(), strict=True)]
        slow = server.slow_orders()
    least, most = min(placed) / sum(placed), max(placed) / sum(placed)
    return Found(
        [
            Row(
                f"{name}: least and greatest share of a worker",
                f"{least:.0%} and {most:.0%}",
                goal="30 % to 70 %",
                met=least >= 0.3 and most <= 0.7,
            ),
            Row(
                f"{name}: slowest, and how many took over a second",
                f"{storm.slowest:,.0f} ms, {slow:.0f}",
                goal="at most 1 s, none",
                met=storm.slowest <= 1000 and slow == 0,
            ),
        ],
        [storm],
    )


def growth(plan: Plan) -> Found:
    """Run the service over a large file, beside the same over one that is as good as empty."""
    small = files.make(plan.folder / "small.db", files.SMALL)
    large = files.copy_of_made(plan.folder / "large.db", plan.large)
    starts: list[float] = []
    for _ in range(2):
        with service(large, workers=plan.workers) as (_, took):
            starts.append(took)
    with (
        service(small, workers=plan.workers) as (light, _),
        service(large, workers=plan.workers) as (heavy, took),
    ):
        starts.append(took)
        clients(MANY, heavy, PRODUCTS)(1)  # so that its memory holds the catalogue too
        found = take_turns(
            {
                "orders, small file": clients(MANY, light, ORDERS),
                "orders, large file": clients(MANY, heavy, ORDERS),
                "users, small file": clients(MANY, light, USERS, users=files.SMALL.users),
                "users, large file": clients(MANY, heavy, USERS, users=plan.large.users),
            },
            rounds=plan.rounds,
            seconds=plan.seconds,
        )
        memory = heavy.peak_memory()
    light_orders, heavy_orders, light_users, heavy_users = found.values()
    size = f"{plan.large.orders:,} orders of {plan.large.users:,} users, {plan.large.products:,} products"
    start = median(starts)
    return Found(
        [
            at_least(f"{size}: orders, to a small file", heavy_orders, light_orders, 0.90),
            at_least(f"{size}: an existing user, to a small file", heavy_users, light_users, 0.90),
            Row(f"{size}: peak memory", f"{memory:.0f} MiB", goal="at most 250 MiB", met=memory <= 250),
            Row(f"{size}: start-up", f"{start:.2f} s", goal="at most 1 s", met=start <= 1),
        ],
        list(found.values()),
        {"service, large file": memory},
    )


def seed(plan: Plan) -> Found:
    """Load a large catalogue by ``benefits seed``."""
    number = plan.large.products * 50
    catalogue = plan.folder / "catalogue.json"
    products = [
        {"id": f"product-{n}", "name": f"Benefit number {n}", "price": n % 500} for n in range(number)
    ]
    catalogue.write_text(json.dumps({"products": products}), encoding="utf-8")
    times = []
    for n in range(min(plan.rounds, 3)):
        database = plan.folder / f"seeded-{n}.db"
        command = [sys.executable, "-m", "benefits_service"]
        command += ["seed", str(catalogue), "--database", str(database)]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    took = median(times)
    return Found(
        [Row(f"benefits seed of {number:,} products", f"{took:.2f} s", goal="at most 3 s", met=took <= 3)]
    )


def in_process(plan: Plan) -> Found:
    """Use the library without a server."""
    take = partial(library.seconds, folder=plan.folder)
    memory = 1 / take("memory", loops=20 * plan.loops, values=5)
    crowded = 1 / take("crowded memory", loops=20 * plan.loops, values=5)
    orders, ceilings, extras = [], [], []
    for _ in range(plan.rounds):
        order, bare, both = (
            take(figure, loops=plan.loops, values=2) for figure in ("SQLite", "bare", "bare and memory")
        )
        orders.append((1 / order, bare / order))
        ceilings.append((1 / both, bare / both))
        core, attrs_alone = (take(figure, loops=1, values=3) for figure in ("import", "import attrs"))
        extras.append(1000 * (core - attrs_alone))
    rate, ratio = map(median, zip(*orders, strict=True))
    ceiling, highest = map(median, zip(*ceilings, strict=True))
    extra = median(extras)
    return Found(
        [
            Row("PlaceOrder over memory", f"{memory:,.0f}/s", goal="at least 30,000/s", met=memory >= 30_000),
            Row(
                "PlaceOrder over memory that holds a million users",
                f"{crowded:,.0f}/s",
                f"{crowded / memory:.2f}",
                goal="at least 30,000/s",
                met=crowded >= 30_000,
            ),
            Row(
                "PlaceOrder over SQLite, to the bare transaction",
                f"{rate:,.0f}/s",
                f"{ratio:.2f}",
                met=True,
            ),
            Row(
                "PlaceOrder over memory and then the bare transaction, to that alone",
                f"{ceiling:,.0f}/s",
                f"{highest:.2f}",
                met=True,
            ),
            Row(
                "import benefits_core, more than import attrs",
                f"{extra:.0f} ms",
                goal="at most 50 ms",
                met=extra <= 50,
            ),
        ]
    )


def steps(plan: Plan) -> Found:
    """Place orders and read, by few and many clients: what the picture shows."""
    file = files.make(plan.folder / "steps.db", files.SMALL)
    with service(file, workers=plan.workers) as (server, _):
        clients(MANY, server, MIXED)(1)
        contestants: dict[str, Contestant] = {}
        for number in plan.steps:
            contestants[f"orders, {number} clients"] = clients(number, server, ORDERS)
            contestants[f"users, {number} clients"] = clients(number, server, USERS, users=files.SMALL.users)
        found = take_turns(contestants, rounds=min(plan.rounds, 3), seconds=1, warm_up=False)
    curves = {
        what: {number: found[f"{what}, {number} clients"] for number in plan.steps}
        for what in ("orders", "users")
    }
    return Found([], list(found.values()), curves=curves)
