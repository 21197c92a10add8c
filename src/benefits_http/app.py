"""The Flask application: the blueprint at both prefixes, CORS, and every error as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flask import Flask, Request, Response, request
from flask_cors import cross_origin
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import MapAdapter, Rule

from benefits_core import UseCases
from benefits_http.blueprint import benefits_blueprint, error_response, internal_error_response
from benefits_http.errors import HTTP_CODES, ErrorSpec
from benefits_http.openapi import Document

DEVELOPMENT_ORIGINS = ("http://localhost:3000",)
"""The origin of the React development server."""


def require_origin(text: str) -> str:
    """Return an origin, as browsers send it, or ``*``.

    :raises ValueError: the text is neither. flask-cors would treat some of these texts as regular expressions.
    """
    if text == "*" or re.fullmatch(r"https?://[A-Za-z0-9._:-]+", text):
        return text
    raise ValueError(f"{text!r} is not an origin such as https://benefits.example.com, nor *")


_Match = tuple[Rule, Mapping[str, Any]]

# How many matches are remembered, and for paths of what length: a client may send any number of long ones.
_MAX_MATCHES: Final = 4096
_MAX_PATH_LENGTH: Final = 200


class _Router(MapAdapter):
    """Matches one request to a rule.

    It remembers matches, for Werkzeug compares a path with the rules part by part: a tenth of the time of a user's request.
    """

    def __init__(self, app: _Application, request: Request) -> None:
        super().__init__(app.url_map, "", request.root_path, "", "http", request.path, request.method)
        self._known = app.known_matches

    def match(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as in the class above
        """Return what Werkzeug returns."""
        if arguments or options != {"return_rule": True} or len(self.path_info) > _MAX_PATH_LENGTH:
            return super().match(*arguments, **options)
        key = self.default_method, self.path_info
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_MATCHES:
                self._known.clear()
            self._known[key] = found = super().match(return_rule=True)
        rule, values = found
        return rule, dict(values)


class _Application(Flask):
    """Flask with the contract's rules for paths.

    :ivar known_matches: by method and path.
    """

    def __init__(self, import_name: str) -> None:
        self.known_matches: dict[tuple[str, str], _Match] = {}
        super().__init__(import_name, static_folder=None)
        # Otherwise a doubled slash and a wrong method give 405 instead of 404.
        self.url_map.merge_slashes = False

    def add_url_rule(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as in the class above
        """Add a rule, to which paths may lead that led to others before."""
        self.known_matches.clear()
        super().add_url_rule(*arguments, **options)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Route a request by its method and path alone, not by its host or as a WebSocket."""
        if request is None:
            return super().create_url_adapter(request)
        # Werkzeug merges the leading slashes of `request.path`, so it would find `//products`.
        if request.environ.get("PATH_INFO", "").startswith("//"):
            raise NotFound
        return _Router(self, request)

    def make_default_options_response(self) -> Response:
        """Return Flask's response to OPTIONS without a content type: it has no body, and must not be HTML."""
        response = super().make_default_options_response()
        del response.headers["Content-Type"]
        return response


def create_app(
    use_cases: UseCases,
    *,
    cors_origins: Iterable[str] = DEVELOPMENT_ORIGINS,
    document: Document | None = None,
) -> Flask:
    """Return a WSGI application that serves the API at ``/api`` and, for the React frontend, at the root.

    :param use_cases: called by the endpoints; ``UseCases.over(store)`` builds them.
    :param cors_origins: the origins whose pages may call the API from a browser; ``*`` allows every origin.
    :param document: the OpenAPI document to serve; by default ``describe()``, from ``benefits_http.openapi``.
    :raises ValueError: one of ``cors_origins`` is not an origin.
    """
    app = _Application(__name__)
    blueprint = benefits_blueprint(use_cases, document=document)
    app.register_blueprint(blueprint, url_prefix="/api")
    app.register_blueprint(blueprint, name="benefits_at_root")
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, internal_error_response)

    @cross_origin(
        origins=[require_origin(origin) for origin in cors_origins],
        methods=["GET", "HEAD", "POST"],
        allow_headers=["Content-Type"],
        expose_headers=["ETag", "Retry-After"],
        send_wildcard=True,
        always_send=False,
        vary_header=False,
        automatic_options=False,  # Flask answers OPTIONS
    )
    def add_cors_headers(response: Response) -> Response:
        return response

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.add("X-Content-Type-Options", "nosniff")
        # The CORS headers depend on the origin, so a cache must keep one response for each origin.
        response.headers.add("Vary", "Origin")
        # Without an origin there are no CORS headers, but flask-cors still takes half as long as all of Flask.
        return add_cors_headers(response) if "HTTP_ORIGIN" in request.environ else response

    return app


def _http_error(error: HTTPException) -> Response:
    if error.code not in HTTP_CODES:
        return internal_error_response(error)
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return error_response(ErrorSpec(error.code, HTTP_CODES[error.code], headers))
