"""Health: what the service can do now. It may be able to read and unable to keep an order."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, request

from benefits_http.wire import health_body


def show_health(app: Flask, can_change: Callable[[], bool]) -> None:
    """Make ``GET /healthz`` of an application say whether the service can only read.

    The status remains 200: to restart the service, or to send requests elsewhere, would only end the reads too.

    :param can_change: returns whether orders can be kept.
    """

    def add_health(response: Response) -> Response:
        if request.endpoint is None or request.endpoint.rpartition(".")[2] != "healthz":
            return response
        if response.status_code == HTTPStatus.OK and not can_change():
            response.set_data(health_body("read_only"))
        return response

    app.after_request(add_health)
