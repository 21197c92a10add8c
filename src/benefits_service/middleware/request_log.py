"""What the service tells of each request: its id to the client, a line to the log, and numbers to the metrics."""

from __future__ import annotations

import asyncio
import atexit
import logging
import re
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from secrets import token_hex
from time import perf_counter
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from benefits_http.blueprint import REQUEST_ID, error_response
from benefits_http.errors import UNFORESEEN
from benefits_http.openapi import Document
from benefits_service import logs
from benefits_service.middleware.metrics import Answered, Metrics
from benefits_service.runtime.asgi import whole_body

# What gateways and tracers make: UUIDs, trace ids, base64. Nothing that could be taken for anything else in a log.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER_METHOD: Final = "other"
_NO_ROUTE: Final = "(none)"
_FRONTEND: Final = "(frontend)"

# Each may be six bytes of JSON, and a line longer than 4096 would not be written at once.
_PATH_LENGTH: Final = 500

# Those who ask for these are no users.
_PROBES: Final = frozenset({"/healthz", "/api/healthz", "/metrics"})

_log = logging.getLogger(__name__)


def describe_request_ids(document: Document) -> None:
    """Add to an OpenAPI document the header that :func:`observed` adds to every answer."""
    for response in document["components"]["responses"].values():
        response["headers"] = {
            **response["headers"],
            "X-Request-ID": {
                "description": "The id of the request, by which the log knows it: the client's own, if it sent a sane one.",
                "required": True,
                "schema": {"type": "string", "pattern": f"^{_SANE_ID.pattern}$"},
            },
        }


def observed(app: WSGIApplication, metrics: Metrics, *, log_paths: bool) -> WSGIApplication:
    """Return an application that tells what it does.

    A client's ``X-Request-ID`` is kept if it is sane; else one is made. The answer has it, and so has every log line.

    :param log_paths: whether the log may hold paths as they were asked for, and so the names of users.
    """
    told = _Told(metrics)
    atexit.register(told.tell)  # what the loop has not come to when it ends

    def observing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = perf_counter()
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if not _SANE_ID.fullmatch(request_id):
            request_id = token_hex(16)
        environ[REQUEST_ID] = request_id
        logs.request_id.set(request_id)
        status, route = "", _NO_ROUTE
        headers: list[tuple[str, str]] = []

        def starting(line: str, lines: list[tuple[str, str]], _: object = None) -> None:
            nonlocal status, headers, route
            status, headers, route = line, lines, _route(environ)

        try:
            # All of it, while there is still something else to be said.
            body = whole_body(app(environ, starting))  # type: ignore[arg-type] # nobody writes by what it returns
        except Exception:  # noqa: BLE001 - whatever it is, it is nothing for the client
            _log.exception("the application gave no answer")
            response = error_response(UNFORESEEN)
            response.headers.add("X-Content-Type-Options", "nosniff")
            parts, status, headers = response.get_wsgi_response(environ)
            body = b"".join(parts)
        start_response(status, [*headers, ("X-Request-ID", request_id)])
        code = int(status[:3])
        seconds = perf_counter() - began
        method = environ["REQUEST_METHOD"]
        if method not in _METHODS:
            method = _OTHER_METHOD
        line = logs.RequestLine(
            time=logs.now(),
            level="ERROR" if code >= HTTPStatus.INTERNAL_SERVER_ERROR else "INFO",
            message="request",
            method=method,
            route=route,
            status=code,
            duration_ms=round(seconds * 1000, 3),
            request_id=request_id,
            path=_path(environ) if log_paths else None,
        )
        told.add(line, None if route in _PROBES else Answered(method, route, code, seconds))
        return [body]

    return observing


class _Told:
    """What there is to tell of requests, told in one go for all that were answered in a turn of the event loop.

    It takes a tenth of a request off: one line written for many, and each counted by code that is warm.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lines: list[logs.RequestLine] = []
        self._answered: list[Answered] = []

    def add(self, line: logs.RequestLine, answered: Answered | None) -> None:
        """Have something told after this turn of the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.tell)
        self._lines.append(line)
        if answered is not None:
            self._answered.append(answered)

    def tell(self) -> None:
        """Tell all that has not been told yet."""
        lines, self._lines = self._lines, []
        answered, self._answered = self._answered, []
        logs.log_requests(lines)
        self._metrics.count_requests(answered)


def _route(environ: WSGIEnvironment) -> str:
    # Flask leaves its request there until it has answered.
    request = environ.get("werkzeug.request")
    if request is None:
        return _FRONTEND
    rule = request.url_rule
    return _NO_ROUTE if rule is None else _template(rule.rule)


@cache
def _template(rule: str) -> str:
    """Return a rule of Flask's as an OpenAPI path: ``/users/{user_id}``."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def _path(environ: WSGIEnvironment) -> str:
    path: str = environ["PATH_INFO"]
    return path.encode("latin-1").decode(errors="replace")[:_PATH_LENGTH]
