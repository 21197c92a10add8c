"""The request log: the id of each request, and its line in the log."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import create_environ, run_wsgi_app

from benefits_core import UseCases, User
from benefits_service import logs
from benefits_service.middleware.metrics import Metrics
from benefits_service.middleware.request_log import with_request_log
from unit.loop_client import LoopClient, logged_client, run_on_loop

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    """Return a function that returns the lines logged since its last call."""

    def logged() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    return logged


@pytest.mark.parametrize(
    "request_id", ["7", "a" * 128, "0b6f9a6c-1f3e-4d0c-8b6f-6f0c1d2e3f4a", "Root=1-67891233-abc:1/2+3=@_."]
)
def test_a_valid_request_id_is_kept(lines: Lines, request_id: str) -> None:
    response = logged_client().get("/products", headers={"X-Request-ID": request_id})

    assert response.headers["X-Request-ID"] == request_id
    [line] = lines()
    assert line["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a" * 129, "a b", "a,b", '"', "{}", "José", "a\tb"])
def test_an_invalid_request_id_is_replaced(lines: Lines, request_id: str) -> None:
    response = logged_client().get("/products", headers={"X-Request-ID": request_id})

    [line] = lines()
    assert line["request_id"] == response.headers["X-Request-ID"] != request_id
    assert len(line["request_id"]) == 32


def test_the_request_id_is_set_while_the_body_is_generated() -> None:
    def app(_: object, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        return (str(logs.request_id.get()).encode() for _ in range(1))

    logging_app = with_request_log(app, Metrics(), log_paths=False)
    environ = create_environ("/", headers={"X-Request-ID": "sent"})
    body, _, _ = run_on_loop(lambda: run_wsgi_app(logging_app, environ, buffered=True))

    assert b"".join(body) == b"sent"


def test_every_request_has_an_id_of_its_own() -> None:
    client = logged_client()

    assert len({client.get("/nothing").headers["X-Request-ID"] for _ in range(10)}) == 10


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
def test_a_line_has_method_route_status_and_duration_and_no_user_name(
    lines: Lines, method: str, path: str, route: str, status: int
) -> None:
    logged_client().open(path, method=method)

    [line] = lines()
    assert (line["method"], line["route"], line["status"]) == (method, route, status)
    assert 0 < line["duration_ms"] < 60_000
    assert "johndoe" not in str(line)
    assert "path" not in line


def test_log_paths_adds_the_path(lines: Lines) -> None:
    logged_client(log_paths=True).get("/users/Jos%C3%A9%FF")

    [line] = lines()
    assert line["path"] == "/users/José\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(("method", "path"), [("A" * 5_000, "/"), ("GET", "/" + "%01" * 5_000)])
def test_no_request_makes_a_line_longer_than_a_pipe_writes_at_once(
    capfd: pytest.CaptureFixture[str], method: str, path: str
) -> None:
    """In a pipe, lines of other workers could split a longer one."""
    logged_client(log_paths=True).open(path, method=method)

    assert len(capfd.readouterr().err.encode()) <= select.PIPE_BUF


def test_the_cause_of_an_error_is_logged_with_the_id_of_its_request(
    lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> User:
        raise LookupError("secret")

    use_cases = UseCases(fail, tuple, None, None, None)  # type: ignore[arg-type] # the request uses no other
    response = logged_client(use_cases=use_cases).get("/users/johndoe", headers={"X-Request-ID": "abc"})

    assert response.status_code == 500
    [line] = lines()
    assert (line["level"], line["status"]) == ("ERROR", 500)
    [record] = caplog.records
    assert record.getMessage() == "request abc failed: GET /users/<benefits_user:user_id>"


def test_an_exception_of_the_application_is_logged_and_answered_by_500_without_its_cause(
    lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise LookupError("secret")

    client = LoopClient(with_request_log(broken, Metrics(), log_paths=False))
    response = client.get("/", headers={"X-Request-ID": "abc"})

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
def test_an_exception_after_start_response_is_answered_by_500(
    lines: Lines, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """A file of the frontend that can't be read, say. The status is sent only once the body is complete."""
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

    app = with_request_log(broken, Metrics(), log_paths=False)
    environ = create_environ("/", method=method, headers={"X-Request-ID": "abc"})
    body, status, headers = run_on_loop(lambda: run_wsgi_app(app, environ))

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


def test_a_file_of_the_frontend_has_the_route_frontend(lines: Lines) -> None:
    def file(_: object, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    app = with_request_log(file, Metrics(), log_paths=False)
    run_on_loop(lambda: run_wsgi_app(app, create_environ("/main.js")))

    [line] = lines()
    assert line["route"] == "(frontend)"


def test_a_request_in_the_last_iteration_of_the_loop_is_logged_at_exit(
    capfd: pytest.CaptureFixture[str],
) -> None:
    program = (
        "import asyncio\n"
        "from werkzeug.test import create_environ, run_wsgi_app\n"
        "from benefits_service.middleware.metrics import Metrics\n"
        "from benefits_service.middleware.request_log import with_request_log\n"
        "def app(_, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return []\n"
        "loop = asyncio.new_event_loop()\n"
        "def send():\n"
        "    run_wsgi_app(with_request_log(app, Metrics(), log_paths=False), create_environ('/'))\n"
        "    loop.stop()\n"
        "loop.call_soon(send)\n"
        "loop.run_forever()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

    [line] = capfd.readouterr().err.splitlines()
    assert json.loads(line)["status"] == 200
