"""The servers that are measured, as processes: starting them, and what they cost."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final

import attrs
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from benefits_service.middleware.counts import MEMORY_FILE, PART_BYTES, Counts
from benefits_service.middleware.metrics import PLACED
from benefits_service.runtime.server import KEEP_ALIVE

ROOT: Final = Path(__file__).parents[1]
_A_LONG_TIME: Final = 30
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class InvalidError(Exception):
    """The figures are invalid, because something went wrong during the measurement."""


@attrs.frozen
class Server:
    """A server that is running.

    :param name: what it is called in messages.
    :param process: its parent process.
    :param port: where it listens.
    :param listeners: how many sockets listen there.
    :param postmaster: the first process of the PostgreSQL server that it uses, if it uses one.
    """

    name: str
    process: subprocess.Popen[bytes]
    port: int
    listeners: int
    postmaster: int | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> bytes:
        """Ask it for something that it has."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_A_LONG_TIME)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != HTTPStatus.OK:
                raise http.client.HTTPException(f"{self.name}: {path} is answered {answer.status}")
            return body
        finally:
            connection.close()

    def cpu(self) -> float:
        """Return the processor time of all its processes so far, in seconds."""
        return _family_cpu(self.process.pid)

    def database_cpu(self) -> float:
        """Return the processor time of all processes of its PostgreSQL server so far, in seconds."""
        return 0 if self.postmaster is None else _family_cpu(self.postmaster)

    def peak_memory(self) -> float:
        """Return the most memory that its processes have held, in MiB. What they share is counted for each."""
        return sum(map(_peak_memory, _family(self.process.pid)))

    def orders_by_worker(self) -> list[float]:
        """Return how many orders each worker has placed, from the counts that they share for the metrics."""
        [shared] = (
            descriptor
            for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir()
            if MEMORY_FILE in str(descriptor.readlink())
        )
        counts = shared.read_bytes()
        parts = (Counts(counts[at : at + PART_BYTES]) for at in range(0, len(counts), PART_BYTES))
        return [totals[(PLACED,)][0] for totals in (part.totals() for part in parts) if (PLACED,) in totals]

    def processes(self) -> list[int]:
        """Return the numbers of all its processes."""
        return _family(self.process.pid)

    def slow_orders(self) -> float:
        """Return how many orders took longer than a second, by its own metrics: unanswered ones count too."""
        metrics = list(text_string_to_metric_families(self.get("/metrics").decode()))
        name = "benefits_http_request_duration_seconds"
        orders = {"method": "POST", "route": "/api/orders"}
        return _value(metrics, f"{name}_count", **orders) - _value(
            metrics, f"{name}_bucket", **orders, le="1.0"
        )


@contextmanager
def service(
    database: Path | str, *, workers: int, postmaster: int | None = None
) -> Iterator[tuple[Server, float]]:
    """Run the service over a database; also tell how many seconds it took until all workers answered.

    :param database: a file, or the URL of a PostgreSQL database.
    :param postmaster: the first process of that PostgreSQL server.
    """
    port = _free_port()
    command = ["benefits_service", "serve", "--port", str(port)]
    command += ["--database", str(database), "--workers", str(workers)]
    with _running("service", command, "/healthz", port, workers, postmaster) as started:
        yield started


@contextmanager
def constant(kind: str, *, workers: int) -> Iterator[Server]:
    """Run a constant view: the ``bare`` or the ``dressed`` one."""
    port = _free_port()
    command = ["benchmarks.ceilings", kind, str(workers), str(port)]
    with _running(f"{kind} constant view", command, "/constant", port, workers) as (server, _):
        yield server


@contextmanager
def gunicorn(application: str, path: str, *, workers: int, threads: int, postmaster: int) -> Iterator[Server]:
    """Run a WSGI application over PostgreSQL by gunicorn, with worker processes of many threads.

    :param application: where it is, as gunicorn takes it.
    :param path: what it has for a client that wants to know whether it runs.
    :param postmaster: the first process of the PostgreSQL server.
    """
    port = _free_port()
    command = ["gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(workers)]
    command += ["--worker-class", "gthread", "--threads", str(threads)]
    command += ["--keep-alive", str(KEEP_ALIVE), "--no-control-socket", application]
    # Its workers share one socket.
    with _running("gunicorn", command, path, port, 1, postmaster) as (server, _):
        yield server


@contextmanager
def _running(  # noqa: PLR0913, PLR0917 - what a Server is, and how it is started
    name: str, command: list[str], path: str, port: int, listeners: int, postmaster: int | None = None
) -> Iterator[tuple[Server, float]]:
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        # The log goes to /dev/null: a file on this disk would slow the commits down, and a pipe would need a reader.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = Server(name, process, port, listeners, postmaster)
    try:
        while not _answers(server, path):
            if process.poll() is not None or time.perf_counter() - began > _A_LONG_TIME:
                raise InvalidError(f"{name}: it does not start")
            time.sleep(0.005)
        yield server, time.perf_counter() - began
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_A_LONG_TIME)
        with suppress(ProcessLookupError):  # which is as it should be
            os.killpg(process.pid, signal.SIGKILL)


def _answers(server: Server, path: str) -> bool:
    # Each worker of the service listens with a socket of its own.
    table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    mine = f"0100007F:{server.port:04X}"
    listeners = sum(1 for line in table if line.split()[1] == mine and line.split()[3] == "0A")
    with suppress(OSError, http.client.HTTPException):
        return listeners == server.listeners and bool(server.get(path))
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _family(pid: int) -> list[int]:
    """Return a process and all that come of it."""
    children: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text(encoding="ascii").split())
    return [pid, *(member for child in children for member in _family(child))]


def _family_cpu(pid: int) -> float:
    return sum(map(_cpu, _family(pid)))


def _cpu(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended, such as PostgreSQL's autovacuum workers."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    # The name, in brackets, may hold anything.
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _peak_memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    [peak] = [line.split()[1] for line in status if line.startswith("VmHWM:")]
    return int(peak) / 1024


def _value(metrics: Iterator[Metric] | list[Metric], name: str, **labels: str) -> float:
    return sum(
        sample.value
        for metric in metrics
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
