"""Metrics: requests and their durations, orders placed and refused."""

from __future__ import annotations

import pytest
from flask import Flask
from prometheus_client import Histogram

from benefits_core import OrderRefusedError
from benefits_http.errors import ERROR_SPECS, ErrorSpec
from benefits_service.middleware.metrics import Metrics
from unit.loop_client import logged_client


def _fail(*_: object) -> None:
    raise OSError("the file can't grow")


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


def test_a_request_that_can_not_be_counted_is_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = logged_client()
    monkeypatch.setattr(Histogram, "observe", _fail)

    assert client.get("/products").status_code == 200
    assert caplog.messages == ["requests could not be counted"]


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

    assert text.count("benefits_orders_refused_total{") == 3


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
