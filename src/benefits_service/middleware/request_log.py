"""The request log: every request has an id, and is written to the log and counted in the metrics."""

from __future__ import annotations

import asyncio
import atexit
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from random import Random
from time import perf_counter
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from benefits_http.blueprint import REQUEST_ID, error_response
from benefits_http.errors import INTERNAL_ERROR
from benefits_service import logs
from benefits_service.middleware.metrics import Metrics
from benefits_service.runtime.asgi import whole_body

# UUIDs, trace ids and base64, as gateways and tracers send them; no character with a meaning in a log.
_VALID_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER_METHOD: Final = "other"
_NO_ROUTE: Final = "(none)"
_FRONTEND: Final = "(frontend)"

# In characters. One takes at most six bytes in JSON, and a line must not exceed 4096 bytes.
_MAX_PATH_LENGTH: Final = 500

# An id is no secret, and the system's random numbers cost a system call each.
_random = Random()  # noqa: S311

_log = logging.getLogger(__name__)


def with_request_log(app: WSGIApplication, metrics: Metrics, *, log_paths: bool) -> WSGIApplication:
    """Return an application that logs and counts the requests to another one.

    A client's valid ``X-Request-ID`` is kept; otherwise the request gets a new id. The response and every log line have it.

    :param log_paths: whether log lines contain the path, and so the names of users.
    """
    buffer = _Buffer(metrics)
    atexit.register(buffer.flush)  # the event loop may end before its next iteration

    def logging_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = perf_counter()
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if not _VALID_ID.fullmatch(request_id):
            request_id = f"{_random.getrandbits(128):032x}"
        environ[REQUEST_ID] = request_id
        logs.request_id.set(request_id)
        status, route = "", _NO_ROUTE
        headers: list[tuple[str, str]] = []

        def keep_start(status_: str, headers_: list[tuple[str, str]], _: object = None) -> None:
            nonlocal status, headers, route
            status, headers, route = status_, headers_, _route(environ)

        try:
            # Read the complete body first: a failure in it can still be answered by an error.
            body = whole_body(app(environ, keep_start))  # type: ignore[arg-type] # no application here calls write()
        except Exception:  # noqa: BLE001 - the client receives no details of any error
            _log.exception("the application failed")
            response = error_response(INTERNAL_ERROR)
            response.headers.add("X-Content-Type-Options", "nosniff")
            parts, status, headers = response.get_wsgi_response(environ)
            body = b"".join(parts)
        start_response(status, [*headers, ("X-Request-ID", request_id)])
        code, method = int(status[:3]), environ["REQUEST_METHOD"]
        line = logs.RequestLine(
            time=datetime.now(UTC),
            level="ERROR" if code >= HTTPStatus.INTERNAL_SERVER_ERROR else "INFO",
            message="request",
            method=method if method in _METHODS else _OTHER_METHOD,
            route=route,
            status=code,
            duration_ms=round((perf_counter() - began) * 1000, 3),
            request_id=request_id,
            path=_path(environ) if log_paths else None,
        )
        buffer.add(line)
        return [body]

    return logging_app


class _Buffer:
    """Buffers log lines, and writes and counts them once per event-loop iteration (takes about 10 % off the time of a request)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lines: list[logs.RequestLine] = []

    def add(self, line: logs.RequestLine) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        logs.log_requests(lines)
        self._metrics.count_requests(lines)


def _route(environ: WSGIEnvironment) -> str:
    # Flask sets this key, and clears it when the request ends; the frontend does not set it.
    request = environ.get("werkzeug.request")
    if request is None:
        return _FRONTEND
    rule = request.url_rule
    return _NO_ROUTE if rule is None else _template(rule.rule)


@cache
def _template(rule: str) -> str:
    """Return a Flask rule as an OpenAPI path: ``/users/{user_id}``."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def _path(environ: WSGIEnvironment) -> str:
    path: str = environ["PATH_INFO"]
    return path.encode("latin-1").decode(errors="replace")[:_MAX_PATH_LENGTH]
