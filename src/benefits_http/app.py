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
from benefits_http.blueprint import (
    USER_ID_IN_PATH,
    UserIdConverter,
    benefits_blueprint,
    error_response,
    internal_error_response,
)
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


_is_user_id: Final = re.compile(UserIdConverter.regex).fullmatch


class _Router(MapAdapter):
    """Matches one request to a rule.

    It remembers rules, for Werkzeug compares a path with all of them, part by part: a tenth of the time of a user's request.
    """

    def __init__(self, app: _Application, request: Request) -> None:
        super().__init__(app.url_map, "", request.root_path, "", "http", request.path, request.method)
        self._fixed, self._of_users = app.fixed_rules, app.user_rules

    def match(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as in the class above
        """Return what Werkzeug returns."""
        if arguments or options != {"return_rule": True}:
            return super().match(*arguments, **options)
        method, path = self.default_method, self.path_info
        if (method, path) in self._fixed:
            return self._fixed[method, path], {}
        for beginning, rule in tuple(self._of_users.items()):  # a copy, for another thread may add to it
            user_id = path[len(beginning) :]
            if path.startswith(beginning) and method in (rule.methods or ()) and _is_user_id(user_id):
                return rule, {"user_id": user_id}
        rule, values = super().match(return_rule=True)
        self._remember(rule, values)
        return rule, values

    def _remember(self, rule: Rule, values: Mapping[str, Any]) -> None:
        if not values:
            self._fixed[self.default_method, self.path_info] = rule
            return
        beginning = rule.rule.removesuffix(USER_ID_IN_PATH)
        others = [other for other in self.map.iter_rules() if other.rule.startswith(beginning)]
        if rule.rule == beginning + USER_ID_IN_PATH and values.keys() == {"user_id"} and len(others) == 1:
            self._of_users[beginning] = rule


class _Application(Flask):
    """Flask with the contract's rules for paths.

    :ivar fixed_rules: the rules without arguments that requests have been matched to, by method and path.
    :ivar user_rules: the same for those that end with a user id, by the path before it.
    """

    def __init__(self, import_name: str) -> None:
        self.fixed_rules: dict[tuple[str, str], Rule] = {}
        self.user_rules: dict[str, Rule] = {}
        super().__init__(import_name, static_folder=None)
        # Otherwise a doubled slash and a wrong method give 405 instead of 404.
        self.url_map.merge_slashes = False

    def add_url_rule(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as in the class above
        """Add a rule, to which paths may lead that led to others before."""
        self.user_rules.clear()
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
        allow_headers=["Content-Type", "X-Request-ID"],
        expose_headers=["ETag", "Retry-After", "X-Request-ID"],
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
