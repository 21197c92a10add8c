"""Metrics for Prometheus, summed over all worker processes: requests and their durations, orders placed and refused."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final, ParamSpec, TypeVar

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from benefits_core import OrderRefusedError
from benefits_http.errors import ERROR_SPECS, error_spec
from benefits_service.logs import RequestLine

_log = logging.getLogger(__name__)

# The environment variable by which prometheus_client finds the folder with the counts of all worker processes.
_SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"

_FOLDER_PREFIX: Final = "benefits-metrics-"

# A younger folder may belong to a service that is starting and holds no lock yet, in seconds.
_MIN_AGE_OF_ABANDONED_FOLDER: Final = 60

# Routes that monitoring requests, and no user.
_PROBES: Final = frozenset({"/healthz", "/api/healthz", "/metrics"})

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@contextmanager
def shared_by_workers() -> Iterator[Path]:
    """Sum the metrics of all worker processes that are started in this block; return the folder that holds them."""
    # In memory if possible: the files are mapped, and on a full disk SIGBUS would end a worker that writes to one.
    memory = "/dev/shm"  # noqa: S108 - the folder created in it has a random name, and is private
    parent = memory if os.access(memory, os.W_OK) else gettempdir()
    _remove_abandoned_folders(Path(parent))
    with TemporaryDirectory(prefix=_FOLDER_PREFIX, dir=parent) as folder, _locked(folder):
        os.environ[_SHARED_FOLDER] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[_SHARED_FOLDER]


@contextmanager
def _locked(folder: str | Path) -> Iterator[None]:
    """Lock a folder. The lock ends with this process, even if the process is killed.

    A process id in the folder would not do: ids are used again, and containers have their own.

    :raises OSError: another process has locked the folder, or it can't be opened.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_abandoned_folders(parent: Path) -> None:
    # A service that is killed together with all its workers leaves its folder behind.
    for folder in parent.glob(f"{_FOLDER_PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _MIN_AGE_OF_ABANDONED_FOLDER:
                with _locked(folder):
                    shutil.rmtree(folder)


class Metrics:
    """The metrics of this process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        requests = Counter(
            "benefits_http_requests",
            "Requests answered, except those for /healthz and /metrics.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        durations = Histogram(
            "benefits_http_request_duration_seconds",
            "How long the application took to answer a request.",
            ["method", "route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self._registry,
        )
        placed = Counter("benefits_orders_placed", "Orders placed.", registry=self._registry)
        refused = Counter(
            "benefits_orders_refused", "Orders refused, by reason.", ["reason"], registry=self._registry
        )
        # Every refusal starts at 0: Prometheus computes no rate without an earlier value.
        for kind, spec in ERROR_SPECS.items():
            if issubclass(kind, OrderRefusedError):
                refused.labels(spec.code)
        self._placed, self._refused = placed, refused

        # Finding a counter by its labels takes longer than incrementing it.
        self._request = cache(requests.labels)
        self._duration = cache(durations.labels)

    def count_requests(self, lines: Sequence[RequestLine]) -> None:
        """Count requests that were answered.

        :param lines: their log lines. Methods and routes must be few: prometheus_client keeps every combination for ever.
        """
        try:
            for line in lines:
                if line.route not in _PROBES:
                    self._request(line.method, line.route, line.status).inc()
                    self._duration(line.method, line.route).observe(line.duration_ms / 1000)
        except Exception:  # noqa: BLE001 - the file of the counts can't grow, say; requests go on
            _log.exception("requests could not be counted")

    def counting_orders(self, place_order: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        """Return a function that places orders and counts those placed and those refused."""

        def counted(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
            try:
                order = place_order(*arguments, **options)
            except OrderRefusedError as refusal:
                self._refused.labels(error_spec(refusal).code).inc()
                raise
            self._placed.inc()
            return order

        return counted

    def expose_on(self, app: Flask) -> None:
        """Add ``GET /metrics`` to an application."""

        @app.get("/metrics")
        def metrics() -> Response:
            try:
                encode, content_type = choose_encoder(request.headers.get("Accept", ""))
            except (TypeError, ValueError):  # the header has an invalid version
                encode, content_type = choose_encoder("")
            return Response(encode(self._of_all_workers()), content_type=content_type)

    def _of_all_workers(self) -> CollectorRegistry:
        if _SHARED_FOLDER not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the package has no types
        return registry
