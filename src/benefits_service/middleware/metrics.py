"""Metrics for Prometheus, summed over all worker processes: requests and their durations, orders placed and refused."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Final, ParamSpec, TypeVar

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from benefits_core import OrderRefusedError
from benefits_http.errors import ERROR_SPECS, error_spec
from benefits_service.logs import RequestLine
from benefits_service.middleware.counts import VALUES, Counts, Row

# Routes that monitoring requests, and no user.
_PROBES: Final = frozenset({"/healthz", "/api/healthz", "/metrics"})

# In seconds. A row of a request has a number for each, one for longer requests, and the sum of all durations.
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SUM: Final = VALUES - 1

PLACED: Final = "placed"
"""The key of the row that counts the orders placed."""

_ZEROS: Final = [0.0] * VALUES

# What the keys of rows begin with.
_REQUEST: Final = "request"
_REFUSED: Final = "refused"

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Metrics(Collector):
    """The metrics: this process adds to its own counts, and shows those of all.

    To count is an addition in memory that is there already. It can't fail between an order that was kept and its answer.

    :param counts: where they are counted; by default, in memory of this process alone.
    :param complete: whether that is all there is to count. If not, ``GET /metrics`` fails: half a truth is none.
    """

    def __init__(self, counts: Counts | None = None, *, complete: bool = True) -> None:
        self._complete = complete
        self._counts = counts or Counts()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        # Every refusal starts at 0: Prometheus computes no rate without an earlier value.
        self._refusals = [
            spec.code for kind, spec in ERROR_SPECS.items() if issubclass(kind, OrderRefusedError)
        ]
        self._placed = self._counts.row(PLACED)
        self._refused = {code: self._counts.row(_REFUSED, code) for code in self._refusals}
        self._request = cache(self._request_row)

    def _request_row(self, method: str, route: str, status: int) -> Row:
        return self._counts.row(_REQUEST, method, route, str(status))

    def count_requests(self, lines: Sequence[RequestLine]) -> None:
        """Count requests that were answered.

        :param lines: their log lines. Methods and routes must be few: every combination is kept for ever.
        """
        for line in lines:
            if line.route not in _PROBES:
                seconds = line.duration_ms / 1000
                row = self._request(line.method, line.route, line.status)
                row[bisect_left(_BUCKETS, seconds)] += 1
                row[_SUM] += seconds

    def counting_orders(self, place_order: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        """Return a function that places orders and counts those placed and those refused."""

        def counted(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
            try:
                order = place_order(*arguments, **options)
            except OrderRefusedError as refusal:
                self._refused[error_spec(refusal).code][0] += 1
                raise
            self._placed[0] += 1
            return order

        return counted

    def expose_on(self, app: Flask) -> None:
        """Add ``GET /metrics`` to an application."""

        @app.get("/metrics")
        def metrics() -> Response:
            if not self._complete:
                raise RuntimeError("there are no metrics: their memory could not be reserved or joined")
            try:
                encode, content_type = choose_encoder(request.headers.get("Accept", ""))
            except (TypeError, ValueError):  # the header has an invalid version
                encode, content_type = choose_encoder("")
            return Response(encode(self._registry), content_type=content_type)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all worker processes, for prometheus_client."""
        totals = self._counts.totals()
        requests = {tuple(labels): row for (kind, *labels), row in totals.items() if kind == _REQUEST}
        yield from _request_metrics(requests)
        placed = CounterMetricFamily("benefits_orders_placed", "Orders placed.")
        placed.add_metric([], totals.get((PLACED,), _ZEROS)[0])
        yield placed
        refused = CounterMetricFamily(
            "benefits_orders_refused", "Orders refused, by reason.", labels=["reason"]
        )
        for code in self._refusals:
            refused.add_metric([code], totals.get((_REFUSED, code), _ZEROS)[0])
        yield refused


def _request_metrics(rows: dict[tuple[str, ...], list[float]]) -> Iterator[Metric]:
    counter = CounterMetricFamily(
        "benefits_http_requests",
        "Requests answered, except those for /healthz and /metrics.",
        labels=["method", "route", "status"],
    )
    by_route: dict[tuple[str, ...], list[float]] = {}
    for (method, route, status), row in sorted(rows.items()):
        counter.add_metric([method, route, status], sum(row[:_SUM]))
        sums = by_route.get((method, route), _ZEROS)
        by_route[method, route] = [a + b for a, b in zip(sums, row, strict=True)]
    yield counter
    histogram = HistogramMetricFamily(
        "benefits_http_request_duration_seconds",
        "How long the application took to answer a request.",
        labels=["method", "route"],
    )
    bounds = [*map(str, _BUCKETS), "+Inf"]
    for labels, row in by_route.items():
        histogram.add_metric(labels, list(zip(bounds, accumulate(row[:_SUM]), strict=True)), row[_SUM])
    yield histogram
