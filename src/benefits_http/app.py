"""The Flask application for those who deploy: the blueprint at both of its places, CORS, and no HTML anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from flask import Flask, Response, request
from flask_cors import CORS
from werkzeug.exceptions import HTTPException, NotFound

from benefits_core import OPENING_BALANCE, Store
from benefits_http.blueprint import benefits_blueprint, error_response, unforeseen_error
from benefits_http.errors import HTTP_CODES, Answer

DEVELOPMENT_ORIGINS = ("http://localhost:3000",)
"""Where the React development server lives."""


class _Response(Response):
    # What has no body, such as the answer to OPTIONS, has no type either; Flask would call it HTML.
    default_mimetype = None


def create_app(
    store: Store,
    *,
    opening_balance: Decimal = OPENING_BALANCE,
    cors_origins: Sequence[str] = DEVELOPMENT_ORIGINS,
) -> Flask:
    """Return a WSGI application over a store.

    The API is served under ``/api`` and at the root, since the React frontend calls it without the prefix.

    :param store: where users, products and orders are kept.
    :param opening_balance: what a new user may spend, in money.
    :param cors_origins: the origins whose pages may call the API from a browser; ``*`` for all.
    """
    app = Flask(__name__, static_folder=None)
    app.response_class = _Response
    app.url_map.merge_slashes = False  # else a doubled slash with a wrong method is 405, and not 404
    blueprint = benefits_blueprint(store, opening_balance=opening_balance)
    app.before_request(_refuse_leading_slashes)
    app.register_blueprint(blueprint, url_prefix="/api")
    app.register_blueprint(blueprint, name="benefits_at_root")
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, unforeseen_error)
    CORS(
        app,
        origins=list(cors_origins),
        methods=["GET", "HEAD", "POST"],
        allow_headers=["Content-Type"],
        send_wildcard=True,
    )
    return app


def _refuse_leading_slashes() -> None:
    # Werkzeug ignores them when it looks for the rule.
    if request.environ["PATH_INFO"].startswith("//"):
        raise NotFound


def _http_error(error: HTTPException) -> Response:
    if error.code not in HTTP_CODES:
        return unforeseen_error(error)
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return error_response(Answer(error.code, HTTP_CODES[error.code], headers))
