"""What is told of each request: an id, a line, a number."""

from __future__ import annotations

import asyncio
import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from prometheus_client import Histogram
from werkzeug.test import Client, TestResponse, create_environ, run_wsgi_app

from benefits_core import MemoryStore, UseCases, User
from benefits_http import create_app
from benefits_service import logs
from benefits_service.middleware.metrics import Metrics
from benefits_service.middleware.request_log import observed
from contract.builders import stocked

Lines = Callable[[], list[dict[str, Any]]]


_Result = TypeVar("_Result")


def on_loop(function: Callable[[], _Result]) -> _Result:
    """Call a function on an event loop, and let that come to an end of what it has to do."""

    async def call() -> _Result:
        result = function()
        await asyncio.sleep(0)
        return result

    return asyncio.run(call())


class OnLoop(Client):
    """A client that asks there."""

    def open(self, *request: Any, **options: Any) -> TestResponse:
        return on_loop(lambda: super(OnLoop, self).open(*request, **options))


def client(
    metrics: Metrics | None = None, *, log_paths: bool = False, use_cases: UseCases | None = None
) -> Client:
    """Return a client of an observed application."""
    counters = metrics or Metrics()
    app = create_app(use_cases or counters.counting_orders(UseCases.over(stocked(MemoryStore()))))
    counters.expose_on(app)
    return OnLoop(observed(app, counters, log_paths=log_paths))


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    """Return what was logged of requests since the last call."""

    def logged() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    return logged


@pytest.mark.parametrize(
    "request_id", ["7", "a" * 128, "0b6f9a6c-1f3e-4d0c-8b6f-6f0c1d2e3f4a", "Root=1-67891233-abc:1/2+3=@_."]
)
def test_a_sane_request_id_is_kept(lines: Lines, request_id: str) -> None:
    response = client().get("/products", headers={"X-Request-ID": request_id})

    assert response.headers["X-Request-ID"] == request_id
    [line] = lines()
    assert line["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a" * 129, "a b", "a,b", '"', "{}", "José", "a\tb"])
def test_one_that_is_not_is_replaced(lines: Lines, request_id: str) -> None:
    response = client().get("/products", headers={"X-Request-ID": request_id})

    [line] = lines()
    assert line["request_id"] == response.headers["X-Request-ID"] != request_id
    assert len(line["request_id"]) == 32


def test_what_is_logged_while_the_body_is_made_has_its_id_too() -> None:
    def app(_: object, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        return (str(logs.request_id.get()).encode() for _ in range(1))

    observing = observed(app, Metrics(), log_paths=False)
    environ = create_environ("/", headers={"X-Request-ID": "sent"})
    body, _, _ = on_loop(lambda: run_wsgi_app(observing, environ, buffered=True))

    assert b"".join(body) == b"sent"


def test_every_request_has_an_id_of_its_own() -> None:
    asking = client()

    assert len({asking.get("/nothing").headers["X-Request-ID"] for _ in range(10)}) == 10


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/users/johndoe", "/users/{user_id}", 200),
        ("GET", "/api/users/a/b", "/api/users/{user_id}", 200),
        ("HEAD", "/products", "/products", 200),
        ("POST", "/orders", "/orders", 415),
        ("GET", "/nothing", "(none)", 404),
        ("DELETE", "/users/johndoe", "(none)", 405),
        ("GET", "/healthz", "/healthz", 200),
        ("GET", "/metrics", "/metrics", 200),
    ],
)
def test_a_line_says_what_was_asked_for_and_names_nobody(
    lines: Lines, method: str, path: str, route: str, status: int
) -> None:
    client().open(path, method=method)

    [line] = lines()
    assert (line["method"], line["route"], line["status"]) == (method, route, status)
    assert 0 < line["duration_ms"] < 60_000
    assert "johndoe" not in str(line)
    assert "path" not in line


def test_paths_are_logged_when_they_are_asked_for(lines: Lines) -> None:
    client(log_paths=True).get("/users/Jos%C3%A9%FF")

    [line] = lines()
    assert line["path"] == "/users/José\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(("method", "path"), [("A" * 5_000, "/"), ("GET", "/" + "%01" * 5_000)])
def test_no_client_can_make_a_line_too_long_to_be_written_at_once(
    capfd: pytest.CaptureFixture[str], method: str, path: str
) -> None:
    """Of a longer one a pipe may take a part, then a line of another worker, and then the rest."""
    client(log_paths=True).open(path, method=method)

    assert len(capfd.readouterr().err.encode()) <= select.PIPE_BUF


def test_the_cause_of_an_error_is_logged_under_the_id_of_its_request(
    lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> User:
        raise LookupError("secret")

    use_cases = UseCases(fail, tuple, None, None)  # type: ignore[arg-type] # these are not asked for
    response = client(use_cases=use_cases).get("/users/johndoe", headers={"X-Request-ID": "abc"})

    assert response.status_code == 500
    [line] = lines()
    assert (line["level"], line["status"]) == ("ERROR", 500)
    [record] = caplog.records
    assert record.getMessage() == "request abc failed: GET /users/<benefits_user:user_id>"


def test_an_application_that_breaks_altogether_is_logged_as_an_error_and_not_shown(
    lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise LookupError("secret")

    asking = OnLoop(observed(broken, Metrics(), log_paths=False))
    response = asking.get("/", headers={"X-Request-ID": "abc"})

    assert (response.status_code, response.data) == (500, b'{"error":"internal_error"}')
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-ID"] == "abc"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    [line] = lines()
    assert (line["level"], line["status"], line["route"]) == ("ERROR", 500, "(none)")
    [record] = caplog.records
    assert record.exc_info
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_that_fails_after_its_beginning_is_an_error_too(
    lines: Lines, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """A file of the frontend that can't be read, say. Nothing of it is on its way before all of it is there."""
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"the first half"
            raise OSError("gone")

        def close(self) -> None:
            closed.append(True)

    def broken(_: object, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "28")])
        return Body()

    app = observed(broken, Metrics(), log_paths=False)
    environ = create_environ("/", method=method, headers={"X-Request-ID": "abc"})
    body, status, headers = on_loop(lambda: run_wsgi_app(app, environ))

    assert (status, b"".join(body)) == (
        "500 INTERNAL SERVER ERROR",
        b'{"error":"internal_error"}' if method == "GET" else b"",
    )
    assert headers["Content-Length"] == "26"
    assert headers["X-Request-ID"] == "abc"
    assert closed
    [line] = lines()
    assert (line["level"], line["status"]) == ("ERROR", 500)
    assert "gone" in caplog.text


def test_what_is_no_route_of_the_api_is_the_frontends(lines: Lines) -> None:
    def file(_: object, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    app = observed(file, Metrics(), log_paths=False)
    on_loop(lambda: run_wsgi_app(app, create_environ("/main.js")))

    [line] = lines()
    assert line["route"] == "(frontend)"


def test_what_the_loop_has_not_come_to_when_it_ends_is_told_nevertheless(
    capfd: pytest.CaptureFixture[str],
) -> None:
    program = (
        "import asyncio\n"
        "from werkzeug.test import create_environ, run_wsgi_app\n"
        "from benefits_service.middleware.metrics import Metrics\n"
        "from benefits_service.middleware.request_log import observed\n"
        "def app(_, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return []\n"
        "loop = asyncio.new_event_loop()\n"
        "def ask():\n"
        "    run_wsgi_app(observed(app, Metrics(), log_paths=False), create_environ('/'))\n"
        "    loop.stop()\n"
        "loop.call_soon(ask)\n"
        "loop.run_forever()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

    [line] = capfd.readouterr().err.splitlines()
    assert json.loads(line)["status"] == 200


def _fail(*_: object) -> None:
    raise OSError("the file can't grow")


class TestMetrics:
    def test_requests_are_counted_by_method_route_and_status(self) -> None:
        asking = client()
        for path in ["/users/johndoe", "/users/jane", "/users/%00", "/nothing", "/nowhere"]:
            asking.get(path)
        asking.open("/products", method="BREW")

        text = asking.get("/metrics").text
        assert 'benefits_http_requests_total{method="GET",route="/users/{user_id}",status="200"} 2.0' in text
        assert 'benefits_http_requests_total{method="GET",route="/users/{user_id}",status="400"} 1.0' in text
        assert 'benefits_http_requests_total{method="GET",route="(none)",status="404"} 2.0' in text
        assert 'benefits_http_requests_total{method="other",route="(none)",status="405"} 1.0' in text

    def test_how_long_they_took_is_a_histogram(self) -> None:
        asking = client()
        asking.get("/users/johndoe")

        text = asking.get("/metrics").text
        assert 'seconds_bucket{le="10.0",method="GET",route="/users/{user_id}"} 1.0' in text
        assert 'seconds_count{method="GET",route="/users/{user_id}"} 1.0' in text

    def test_probes_are_no_users(self) -> None:
        asking = client()
        for path in ["/healthz", "/api/healthz", "/metrics"]:
            asking.get(path)

        assert "benefits_http_requests_total{" not in asking.get("/metrics").text

    def test_what_can_not_be_counted_is_answered_nevertheless(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        asking = client()
        monkeypatch.setattr(Histogram, "observe", _fail)

        assert asking.get("/products").status_code == 200
        assert caplog.messages == ["requests could not be counted"]

    def test_orders_are_counted_by_what_became_of_them(self) -> None:
        asking = client()
        for items in [["netflix"], ["netflix"], ["netflix"], ["yacht"], ["spotify"], [7]]:
            asking.post("/orders", json={"order": {"items": items, "user_id": "johndoe"}})

        text = asking.get("/metrics").text
        assert "benefits_orders_placed_total 2.0" in text
        assert 'benefits_orders_refused_total{reason="products_already_purchased"} 2.0' in text
        assert 'benefits_orders_refused_total{reason="products_not_found"} 1.0' in text
        assert 'benefits_orders_refused_total{reason="insufficient_balance"} 0.0' in text

    def test_every_refusal_is_there_before_the_first_one(self) -> None:
        text = client().get("/metrics").text

        assert text.count("benefits_orders_refused_total{") == 3

    @pytest.mark.parametrize(
        ("accept", "content_type"),
        [
            ("", "text/plain"),
            ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
            ("application/openmetrics-text; version=abc", "text/plain"),
            ("text/plain;version=\xff", "text/plain"),
        ],
    )
    def test_the_format_is_what_the_scraper_asks_for(self, accept: str, content_type: str) -> None:
        response = client().get("/metrics", headers={"Accept": accept})

        assert response.headers["Content-Type"].startswith(content_type)
