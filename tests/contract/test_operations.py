"""What operators see of the service: log lines and metrics, of all worker processes together."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contract.running import Service, running
from waiting import wait_for


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path / "benefits.db", workers=3) as started:
        yield started


def metrics(service: Service) -> dict[str, float]:
    """Return each sample by its name and labels."""
    text = service.request("GET", "/metrics").body.decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def log_lines(service: Service) -> list[dict[str, Any]]:
    """Return what was logged, as JSON."""
    return [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]


def test_every_worker_answers_with_the_metrics_of_all(service: Service) -> None:
    with ThreadPoolExecutor(16) as pool:
        statuses = pool.map(lambda number: service.order(f"user-{number}", "netflix").status, range(60))
        assert set(statuses) == {200}
        refused = pool.map(lambda number: service.order(f"user-{number}", "netflix").status, range(30))
        assert set(refused) == {400}

    # A worker counts a request after it has sent the response, and another one may answer /metrics before.
    counted = 'benefits_http_request_duration_seconds_count{method="POST",route="/orders"}'
    wait_for(lambda: metrics(service).get(counted) == 90)
    for _ in range(10):
        found = metrics(service)
        assert found["benefits_orders_placed_total"] == 60
        assert found['benefits_orders_refused_total{reason="products_already_purchased"}'] == 30
        assert found['benefits_http_requests_total{method="POST",route="/orders",status="200"}'] == 60
        assert found[counted] == 90
        assert not [name for name in found if "healthz" in name or "/metrics" in name]


def test_what_a_worker_counted_outlives_it(service: Service) -> None:
    for number in range(20):
        service.order(f"user-{number}", "netflix")
    for worker in service.workers():
        os.kill(worker, signal.SIGKILL)
    wait_for(service.answers)

    assert metrics(service)["benefits_orders_placed_total"] == 20


def test_a_new_start_counts_from_zero_and_no_file_has_the_counts(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path / "benefits.db", traced=True) as service:
            service.order("jo", "netflix")
            found = metrics(service)
            refused = [value for name, value in found.items() if name.startswith("benefits_orders_refused")]
            assert found["benefits_orders_placed_total"] + sum(refused) == 1
            for worker in service.workers():
                assert "/dev/shm" not in Path(f"/proc/{worker}/maps").read_text(encoding="utf-8")  # noqa: S108 - read, not written


def test_every_request_is_a_line_with_the_id_in_its_response(service: Service) -> None:
    answers = [
        service.request("GET", "/users/secret-name"),
        service.order("secret-name", "netflix"),
        service.request("GET", "/nothing"),
        service.request("GET", "/products", **{"X-Request-ID": "gateway-7"}),
    ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    wait_for(lambda: set(ids) <= {line["request_id"] for line in log_lines(service)})

    lines = {line["request_id"]: line for line in log_lines(service)}
    assert ids[-1] == "gateway-7"
    assert [(lines[each]["method"], lines[each]["route"], lines[each]["status"]) for each in ids] == [
        ("GET", "/users/{user_id}", 200),
        ("POST", "/orders", 200),
        ("GET", "(none)", 404),
        ("GET", "/products", 200),
    ]
    assert "secret-name" not in service.log.read_text()


def test_an_error_is_logged_under_the_id_of_its_request(service: Service) -> None:
    service.database.rename(service.database.with_suffix(".away"))
    answer = service.request("GET", "/products", **{"X-Request-ID": "the-unlucky-one"})

    assert answer.status == 503
    wait_for(lambda: "storage unavailable" in service.log.read_text())
    [warning] = [
        line
        for line in log_lines(service)
        if line["request_id"] == "the-unlucky-one" and line["message"] != "request"
    ]
    assert (warning["level"], warning["logger"]) == ("WARNING", "benefits_http.blueprint")
    assert re.match("storage unavailable: ", warning["message"])


def test_paths_are_logged_with_the_option(tmp_path: Path) -> None:
    with running(tmp_path / "benefits.db", "--log-paths") as service:
        service.request("GET", "/users/Jos%C3%A9")
        wait_for(lambda: any(line.get("path") == "/users/José" for line in log_lines(service)))
