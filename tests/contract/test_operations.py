"""What operators see of the service: log lines and metrics, of all worker processes together."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contract.running import Service, running
from waiting import A_LONG_TIME, wait_for


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path / "benefits.db", workers=3) as started:
        yield started


def metrics(service: Service) -> dict[str, float]:
    """Return each sample by its name and labels."""
    text = service.request("GET", "/metrics").body.decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def metrics_folder(service: Service) -> Path:
    """Return where its workers count together."""
    worker = min(service.workers())
    environment = Path(f"/proc/{worker}/environ").read_text(encoding="utf-8").split("\0")
    [folder] = [line for line in environment if line.startswith("PROMETHEUS_MULTIPROC_DIR=")]
    return Path(folder.partition("=")[2])


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


def test_a_new_start_counts_from_zero_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path / "benefits.db", traced=True) as service:
            service.order("jo", "netflix")
            folder = metrics_folder(service)
            assert folder.parent == Path("/dev/shm")  # noqa: S108 - in memory
            assert folder.is_dir()
            total = metrics(service)["benefits_orders_placed_total"]
            assert (
                total
                + sum(
                    value
                    for name, value in metrics(service).items()
                    if name.startswith("benefits_orders_refused")
                )
                == 1
            )
        assert not folder.exists()


def test_workers_whose_parent_was_killed_leave_nothing_behind_either(tmp_path: Path) -> None:
    with running(tmp_path / "benefits.db") as service:
        folder = metrics_folder(service)
        service.process.kill()
        service.process.wait()
        wait_for(lambda: not folder.exists())


def test_what_is_left_when_all_are_killed_is_removed_at_a_later_start(tmp_path: Path) -> None:
    with running(tmp_path / "benefits.db") as service:
        left = metrics_folder(service)
        service.kill()
    just_now = time.time() + A_LONG_TIME  # which it still is when the next service has started
    os.utime(left, (just_now, just_now))
    with running(tmp_path / "benefits.db") as service:
        assert left.is_dir()  # it could be of a service that starts just now
        living = metrics_folder(service)
        for folder in (left, living):
            os.utime(folder, (0, 0))
        with running(tmp_path / "benefits.db", traced=True):
            assert not left.exists()
            assert living.is_dir()


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
