"""The Flask application for those who deploy: the blueprint at both of its places, CORS, and no HTML but the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import cast

from flask import Flask, Request, Response, request
from flask_cors import CORS
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from benefits_core import UseCases
from benefits_http.blueprint import benefits_blueprint, error_response, unforeseen_error
from benefits_http.errors import HTTP_CODES, Answer
from benefits_http.openapi import Document
from benefits_http.routing import Router, Rules

DEVELOPMENT_ORIGINS = ("http://localhost:3000",)
"""Where the React development server lives."""


def require_origin(text: str) -> str:
    """Return what browsers send as an origin, or ``*``, as it is.

    :raises ValueError: it is neither; flask-cors would take some of that for a regular expression.
    """
    if text == "*" or re.fullmatch(r"https?://[A-Za-z0-9._:-]+", text):
        return text
    raise ValueError(f"{text!r} is not an origin such as https://benefits.example.com, nor *")


# A path that no rule matches.
_NOWHERE = "/\0"


class _Application(Flask):
    url_map_class = Rules
    url_map: Rules

    def make_default_options_response(self) -> Response:
        """Return the answer to OPTIONS. It has no body, and so no type either; Flask would call it HTML."""
        response = super().make_default_options_response()
        del response.headers["Content-Type"]
        return response

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what routes a request. No rule here looks at the host, and Flask would take it apart every time."""
        if request is None:
            return None  # it would make URLs outside of requests; here are none to be made
        # Werkzeug would ignore leading slashes, and refuse who wishes for a WebSocket, which a server may ignore.
        path = _NOWHERE if request.environ["PATH_INFO"].startswith("//") else request.path
        return Router(self.url_map, request.method, path)


def create_app(
    use_cases: UseCases,
    *,
    cors_origins: Iterable[str] = DEVELOPMENT_ORIGINS,
    document: Document | None = None,
) -> Flask:
    """Return a WSGI application, ready to be served.

    The API is served under ``/api`` and at the root, since the React frontend calls it without the prefix.

    :param use_cases: what the endpoints call; ``UseCases.over(store)`` makes them.
    :param cors_origins: the origins whose pages may call the API from a browser; ``*`` for all.
    :param document: the OpenAPI document to serve; by default ``describe()``, from ``benefits_http.openapi``.
    :raises ValueError: one of them is no origin.
    """
    app = _Application(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # else a doubled slash with a wrong method is 405, and not 404
    blueprint = benefits_blueprint(use_cases, document=document)
    app.register_blueprint(blueprint, url_prefix="/api")
    app.register_blueprint(blueprint, name="benefits_at_root")
    app.url_map.api = list(app.url_map.iter_rules())
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, unforeseen_error)
    CORS(
        app,
        origins=[require_origin(origin) for origin in cors_origins],
        methods=["GET", "HEAD", "POST"],
        allow_headers=["Content-Type", "X-Request-ID"],
        expose_headers=["ETag", "Retry-After", "X-Request-ID"],
        send_wildcard=True,
        always_send=False,
        intercept_exceptions=False,  # errors are answers here, and go through the one function below
    )
    # flask-cors takes its time over every request, and has nothing to say to one that comes from no page.
    [add_cors_headers] = cast("list[Callable[[Response], Response]]", app.after_request_funcs.pop(None))

    def protect(response: Response) -> Response:
        response.headers.add("X-Content-Type-Options", "nosniff")
        # Whether pages of an origin may read an answer is said in it, and caches must not give it to those of another.
        if "HTTP_ORIGIN" not in request.environ:
            response.headers.add("Vary", "Origin")
            return response
        response = add_cors_headers(response)
        response.vary.add("Origin")
        return response

    app.after_request(protect)
    return app


def _http_error(error: HTTPException) -> Response:
    if error.code not in HTTP_CODES:
        return unforeseen_error(error)
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return error_response(Answer(error.code, HTTP_CODES[error.code], headers))
