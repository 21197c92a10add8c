"""Load: rounds of wrk against a server, taken in turn with those of others, and what was found in them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

import attrs

from benchmarks.servers import InvalidError, Server

# Letters are requests; see load.lua.
CONSTANT: Final = "c"
USERS: Final = "u"
PRODUCTS: Final = "p"
ORDERS: Final = "o"
MIXED: Final = "uupuuoupuu"

_SCRIPT: Final = Path(__file__).with_name("load.lua")
_TIMEOUT: Final = 20  # what is slower counts as an error; nothing may be
_runs = count(1)


@attrs.frozen
class Round:
    """What one round has found. Times of requests are in milliseconds, all others in seconds.

    :param cpu: processor time of all processes of the server, and of its PostgreSQL server if it has one.
    :param database_cpu: how much of that was PostgreSQL's.
    """

    requests: int
    seconds: float
    cpu: float
    p50: float
    p99: float
    slowest: float
    database_cpu: float = 0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


Contestant = Callable[[int], Round]
"""Runs for that many seconds."""


@attrs.frozen
class Result:
    """What several rounds have found: medians, and the slowest request of all."""

    name: str
    rounds: Sequence[Round]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return median(one.rate for one in self.rounds)

    def beside(self, other: Result) -> float:
        """Return the ratio of its rate to the other's, round by round: disks are in another mood in each."""
        return median(mine.rate / its.rate for mine, its in zip(self.rounds, other.rounds, strict=True))

    @property
    def spread(self) -> float:
        """How many times the median the p99 is, round by round."""
        return median(one.p99 / one.p50 for one in self.rounds)

    @property
    def worst(self) -> float:
        """How many times the median of its round the slowest is, in the round in which that is most."""
        return max(one.slowest / one.p50 for one in self.rounds)

    @property
    def p50(self) -> float:
        """The median, in milliseconds."""
        return median(one.p50 for one in self.rounds)

    @property
    def p99(self) -> float:
        """What 99 of 100 requests are faster than, in milliseconds."""
        return median(one.p99 for one in self.rounds)

    @property
    def slowest(self) -> float:
        """The slowest of all rounds, in milliseconds."""
        return max(one.slowest for one in self.rounds)

    @property
    def cpu(self) -> float:
        """Processor time for a request, all processes of the server and of PostgreSQL together, in microseconds."""
        return 1e6 * sum(one.cpu for one in self.rounds) / sum(one.requests for one in self.rounds)

    @property
    def database_cpu(self) -> float:
        """Processor time of PostgreSQL for a request, in microseconds."""
        return 1e6 * sum(one.database_cpu for one in self.rounds) / sum(one.requests for one in self.rounds)


def _let_it_finish(server: Server) -> None:
    """Wait until a server has answered the requests that wrk has left: it would work in the next one's turn.

    The peer needs a second for that, and so doubled the p99 of the next server.
    """
    spent = server.cpu()
    for _ in range(50):
        time.sleep(0.1)
        before, spent = spent, server.cpu()
        if spent - before < 0.01:  # a tenth of a processor
            return


def take_turns(
    contestants: Mapping[str, Contestant], *, rounds: int, seconds: int, warm_up: bool = True
) -> dict[str, Result]:
    """Warm each contestant up, then let them run one after the other, again and again: A B C A B C."""
    if warm_up:
        for run in contestants.values():
            run(1)
    found: dict[str, list[Round]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            found[name].append(run(seconds))
    return {name: Result(name, each) for name, each in found.items()}


def clients(number: int, server: Server, mixture: str, *, users: int = 1) -> Contestant:
    """Return a contestant: clients that send requests, each one after the response to the one before.

    One thread of wrk is enough, and leaves the processors to the server. All contestants get their requests from the
    same script, which so takes the same share of the machine.
    """

    def run(seconds: int) -> Round:
        command = ["wrk", "--threads", "1", "--connections", str(number), "--duration", f"{seconds}s"]
        command += ["--timeout", f"{_TIMEOUT}s", "--latency", "--script", str(_SCRIPT), server.url]
        command += ["--", mixture, str(next(_runs)), str(users)]
        before, database_before = server.cpu(), server.database_cpu()
        wrk = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        cpu, database_cpu = server.cpu() - before, server.database_cpu() - database_before
        _let_it_finish(server)
        if wrk.returncode != 0:
            raise InvalidError(f"{server.name}: wrk failed: {wrk.stderr.strip()}")
        said = json.loads(wrk.stderr)
        errors = {name: said.pop(name) for name in ("status", "connect", "read", "write", "timeout")}
        if any(errors.values()) or not said["requests"]:
            raise InvalidError(
                f"{server.name}, {number} clients: {said['requests']} requests, errors: {errors}"
            )
        return Round(cpu=cpu + database_cpu, database_cpu=database_cpu, **said)

    return run
