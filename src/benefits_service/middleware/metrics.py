"""What is counted, for Prometheus: requests, how long they took, orders placed and refused; of all workers together."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final

import attrs
from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from benefits_core import (
    InsufficientBalanceError,
    Order,
    OrderRefusedError,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    UseCases,
)
from benefits_http.errors import ANSWERS, answer_to
from benefits_http.openapi import Document

_log = logging.getLogger(__name__)

# Where worker processes put what they have counted, so that each of them can tell what all have.
_SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"

_FOLDER_PREFIX: Final = "benefits-metrics-"

# How old such a folder has to be before it can have been left by somebody, in seconds.
_STARTING: Final = 60

_REFUSALS: Final = (ProductsNotFoundError, ProductsAlreadyPurchasedError, InsufficientBalanceError)


@contextmanager
def shared_by_workers() -> Iterator[Path]:
    """Have all worker processes that are started meanwhile count together; return the folder in which they do."""
    # In memory where there is such a folder: a full disk would end a process that writes there.
    memory = "/dev/shm"  # noqa: S108 - the folder made in it has a name of its own, and no rights for others
    place = memory if os.access(memory, os.W_OK) else gettempdir()
    _remove_what_was_left(Path(place))
    with TemporaryDirectory(prefix=_FOLDER_PREFIX, dir=place) as folder, _locked(folder):
        os.environ[_SHARED_FOLDER] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[_SHARED_FOLDER]


@contextmanager
def _locked(folder: str | Path) -> Iterator[None]:
    """Hold a folder. The lock goes with this process, however it ends; process ids come again, also in other containers.

    :raises OSError: another process holds it, or it can't be opened.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_what_was_left(place: Path) -> None:
    # By services that were killed with all their workers. One that starts just now has no lock yet.
    for folder in place.glob(f"{_FOLDER_PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STARTING:
                with _locked(folder):
                    shutil.rmtree(folder)


def describe_metrics(document: Document) -> None:
    """Add to an OpenAPI document what :meth:`Metrics.expose_on` adds to the endpoints."""
    document["paths"]["/metrics"] = {
        "get": {
            "operationId": "getMetrics",
            "tags": ["service"],
            "summary": "Get the metrics",
            "description": "Of all worker processes, for Prometheus. They are at the root only.",
            "servers": [{"url": "/"}],
            "responses": {
                "200": {"$ref": "#/components/responses/metrics"},
                "500": {"$ref": "#/components/responses/internal_error"},
            },
        }
    }
    text = {"schema": {"type": "string"}}
    document["components"]["responses"]["metrics"] = {
        "description": "In the format that `Accept` asks for.",
        "headers": {},
        "content": {"text/plain": text, "application/openmetrics-text": text},
    }


@attrs.frozen
class Answered:
    """A request that was answered, and in how many seconds."""

    method: str
    route: str
    status: int
    seconds: float


class Metrics:
    """The counters of a process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        requests = Counter(
            "benefits_http_requests",
            "Requests answered, probes of health and metrics aside.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        durations = Histogram(
            "benefits_http_request_duration_seconds",
            "How long it took to answer them, until the server had the answer.",
            ["method", "route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self._registry,
        )
        placed = Counter("benefits_orders_placed", "Orders placed.", registry=self._registry)
        refused = Counter(
            "benefits_orders_refused", "Orders refused, by reason.", ["reason"], registry=self._registry
        )
        for refusal in _REFUSALS:  # before the first one: a rate can be told only from a zero on
            refused.labels(ANSWERS[refusal].code)
        self._placed, self._refused = placed, refused

        # Looking for a counter by its labels takes longer than counting.
        self._request = cache(requests.labels)
        self._duration = cache(durations.labels)

    def count_requests(self, requests: Sequence[Answered]) -> None:
        """Count requests that have been answered. Methods and routes must be few."""
        try:
            for each in requests:
                self._request(each.method, each.route, each.status).inc()
                self._duration(each.method, each.route).observe(each.seconds)
        except Exception:  # noqa: BLE001 - a file that can't grow, say; no reason not to go on
            _log.exception("requests could not be counted")

    def counting_orders(self, use_cases: UseCases) -> UseCases:
        """Return use cases that count what becomes of orders."""

        def place_order(user_id: str, items: Sequence[str]) -> Order:
            try:
                order = use_cases.place_order(user_id, items)
            except OrderRefusedError as refusal:
                self._refused.labels(answer_to(refusal).code).inc()
                raise
            self._placed.inc()
            return order

        return attrs.evolve(use_cases, place_order=place_order)

    def expose_on(self, app: Flask) -> None:
        """Have an application answer ``GET /metrics``."""

        @app.get("/metrics")
        def metrics() -> Response:
            try:
                encode, content_type = choose_encoder(request.headers.get("Accept", ""))
            except (TypeError, ValueError):  # a version that is no version
                encode, content_type = choose_encoder("")
            return Response(encode(self._of_all_workers()), content_type=content_type)

    def _of_all_workers(self) -> CollectorRegistry:
        if _SHARED_FOLDER not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # it has no types
        return registry
