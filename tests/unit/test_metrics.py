"""Metrics: requests and their durations, orders placed and refused."""

from __future__ import annotations

import os
import resource
import signal
from datetime import UTC, datetime

import attrs
import pytest
from flask import Flask

from benefits_core import OrderRefusedError
from benefits_http.errors import ERROR_SPECS, ErrorSpec
from benefits_service.logs import RequestLine
from benefits_service.middleware.counts import Counts, reserve_counts
from benefits_service.middleware.metrics import Metrics
from unit.loop_client import logged_client


def test_requests_are_counted_by_method_route_and_status() -> None:
    client = logged_client()
    for path in ["/users/johndoe", "/users/jane", "/users/%00", "/nothing", "/nowhere"]:
        client.get(path)
    client.open("/products", method="BREW")

    text = client.get("/metrics").text
    assert 'benefits_http_requests_total{method="GET",route="/users/{user_id}",status="200"} 2.0' in text
    assert 'benefits_http_requests_total{method="GET",route="/users/{user_id}",status="400"} 1.0' in text
    assert 'benefits_http_requests_total{method="GET",route="(none)",status="404"} 2.0' in text
    assert 'benefits_http_requests_total{method="other",route="(none)",status="405"} 1.0' in text


def test_durations_are_a_histogram() -> None:
    client = logged_client()
    client.get("/users/johndoe")

    text = client.get("/metrics").text
    assert 'seconds_bucket{le="10.0",method="GET",route="/users/{user_id}"} ' in text
    assert 'seconds_bucket{le="+Inf",method="GET",route="/users/{user_id}"} 1.0' in text
    assert 'seconds_count{method="GET",route="/users/{user_id}"} 1.0' in text


def test_probes_are_not_counted() -> None:
    client = logged_client()
    for path in ["/healthz", "/api/healthz", "/metrics"]:
        client.get(path)

    assert "benefits_http_requests_total{" not in client.get("/metrics").text


def test_when_there_is_no_room_to_count_requests_are_answered_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts = Counts()
    for number in range(2000):
        counts.row("filler", str(number))
    metrics, app = Metrics(counts), Flask(__name__)
    metrics.expose_on(app)
    lines = [RequestLine(datetime.now(UTC), "", "", "GET", f"/{number}", 200, 1.0, "") for number in range(3)]
    metrics.count_requests(lines)
    metrics.count_requests(lines)

    assert caplog.messages == ['the metrics are incomplete: there is no room for ["filler","1023"]']
    assert "benefits_orders_placed_total 0.0" in app.test_client().get("/metrics").text


def test_a_key_that_is_too_long_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    counts.row("a" * 200)[0] += 1

    assert counts.totals() == {}
    assert len(caplog.messages) == 1


def test_without_counts_there_are_no_metrics_and_orders_go_on() -> None:
    metrics, app = Metrics(complete=False), Flask(__name__)
    metrics.expose_on(app)

    assert metrics.counting_orders(lambda: "placed")() == "placed"
    assert app.test_client().get("/metrics").status_code == 500


@pytest.mark.parametrize("missing", [[], ["memfd_create"], ["memfd_create", "posix_fallocate"]])
def test_workers_count_in_parts_of_their_own_and_a_new_one_continues_that_of_a_dead_one(
    monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    """Some systems, such as macOS, lack some of the functions by which memory is reserved."""
    for function in missing:
        monkeypatch.delattr(os, function)
    reserved = reserve_counts(1)  # which makes three parts

    def count_and_wait() -> int:
        child = os.fork()
        if child == 0:
            joined = reserved.join()
            if joined is not None:
                joined.row("placed")[0] += 1
            os.write(writer, b"x" if joined is not None else b"-")
            signal.pause()
        return child

    reader, writer = os.pipe()
    children = [count_and_wait() for _ in range(4)]
    assert sorted(os.read(reader, 1) for _ in children) == [b"-", b"x", b"x", b"x"]
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    children = [count_and_wait()]
    assert os.read(reader, 1) == b"x"
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)
    os.close(reader)
    os.close(writer)

    counts = reserved.join()
    assert counts is not None
    assert counts.totals()["placed",][0] == 4
    assert attrs.evolve(reserved, parts=0).join() is None


def test_where_no_memory_can_be_reserved_an_error_says_so() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            reserve_counts(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_placed_and_refused_orders_are_counted() -> None:
    client = logged_client()
    for items in [["netflix"], ["netflix"], ["netflix"], ["yacht"], ["spotify"], [7]]:
        client.post("/orders", json={"order": {"items": items, "user_id": "johndoe"}})

    text = client.get("/metrics").text
    assert "benefits_orders_placed_total 2.0" in text
    assert 'benefits_orders_refused_total{reason="products_already_purchased"} 2.0' in text
    assert 'benefits_orders_refused_total{reason="products_not_found"} 1.0' in text
    assert 'benefits_orders_refused_total{reason="insufficient_balance"} 0.0' in text


def test_every_refusal_of_the_error_table_is_exposed_before_it_occurs() -> None:
    text = logged_client().get("/metrics").text

    assert text.count("benefits_orders_refused_total{") == 4


def test_a_refusal_that_is_added_to_the_error_table_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class PriceChangedError(OrderRefusedError):
        pass

    def refuse() -> None:
        raise PriceChangedError

    monkeypatch.setitem(ERROR_SPECS, PriceChangedError, ErrorSpec(409, "price_changed"))
    metrics, app = Metrics(), Flask(__name__)
    metrics.expose_on(app)
    client = app.test_client()
    sample = 'benefits_orders_refused_total{reason="price_changed"}'

    assert f"{sample} 0.0" in client.get("/metrics").text
    with pytest.raises(PriceChangedError):
        metrics.counting_orders(refuse)()
    assert f"{sample} 1.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("application/openmetrics-text; version=abc", "text/plain"),
        ("text/plain;version=\xff", "text/plain"),
    ],
)
def test_the_format_is_the_one_that_the_scraper_accepts(accept: str, content_type: str) -> None:
    response = logged_client().get("/metrics", headers={"Accept": accept})

    assert response.headers["Content-Type"].startswith(content_type)
