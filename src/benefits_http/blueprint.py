"""The endpoints, as a Flask blueprint: each parses a request, calls a use case, and encodes the result."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from secrets import token_hex
from typing import Final
from wsgiref.types import WSGIEnvironment

from flask import Blueprint, Response, abort, request
from werkzeug.datastructures import Headers
from werkzeug.routing import BaseConverter

from benefits_core import BenefitsError, InvalidUserIdError, Product, UseCases
from benefits_http import wire
from benefits_http.docs import add_docs
from benefits_http.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    REQUEST_TOO_LARGE,
    STORAGE_UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    ErrorSpec,
    error_spec,
)
from benefits_http.openapi import Document, describe

_NO_STORE: Final = {"Cache-Control": "no-store"}
_REVALIDATE: Final = {"Cache-Control": "no-cache"}  # a cache may keep the response, but must revalidate it

REQUEST_ID: Final = "benefits.request_id"
"""The key of the request id in the WSGI environment. Without one, an error is logged with a random id."""

_log = logging.getLogger(__name__)


USER_ID_IN_PATH: Final = "<benefits_user:user_id>"


class UserIdConverter(BaseConverter):
    """A user id in a path. It may contain single slashes and line feeds; Flask's ``path`` matches no line feed."""

    regex = "(?:[^/]+(?:/[^/]+)*)?"


def benefits_blueprint(use_cases: UseCases, *, document: Document | None = None) -> Blueprint:
    """Return the blueprint. An application may register it at several prefixes.

    All errors of the endpoints are JSON. The application answers unknown paths and wrong methods itself.

    :param use_cases: called by the endpoints; ``UseCases.over(store)`` builds them.
    :param document: the OpenAPI document to serve; by default ``describe()``, from ``benefits_http.openapi``. An
        application that adds to what the endpoints answer passes a document that says so.
    """
    blueprint = Blueprint("benefits", __name__)
    blueprint.record(lambda state: state.app.url_map.converters.update(benefits_user=UserIdConverter))

    # By default, Flask redirects a path with a doubled slash. The API never redirects.
    get = partial(blueprint.route, methods=["GET"], merge_slashes=False)
    post = partial(blueprint.route, methods=["POST"], merge_slashes=False)

    @get("/users")
    @get(f"/users/{USER_ID_IN_PATH}")
    def user(user_id: str = "") -> Response:
        _refuse_undecodable_path()
        return _JsonResponse(wire.user_body(use_cases.get_user(user_id)), _NO_STORE)

    catalogue = _EncodedCatalogue()

    @get("/products")
    def products() -> Response:
        return catalogue.response(use_cases.list_products())

    @post("/orders")
    def orders() -> Response:
        draft = wire.read_order(_read_json_body())
        order = use_cases.place_order(draft.user_id, draft.items, wire.expected_total(draft))
        return _JsonResponse(wire.order_body(order), _NO_STORE)

    @get("/orders")
    def own_orders() -> Response:
        query = wire.read_orders_query(request.query_string)
        listed = use_cases.list_own_orders(query.user_id, query.limit, query.before)
        return _JsonResponse(wire.orders_body(listed), _NO_STORE)

    @get("/healthz")
    def healthz() -> Response:
        use_cases.ping()
        return _JsonResponse(wire.health_body(), _NO_STORE)

    add_docs(blueprint, describe() if document is None else document)

    blueprint.register_error_handler(BenefitsError, _core_error)
    blueprint.register_error_handler(
        wire.InvalidRequestError, lambda error: error_response(INVALID_REQUEST, str(error))
    )
    return blueprint


class _EncodedCatalogue:
    """The last catalogue as JSON, with its entity tag. It is encoded again only when it has changed."""

    def __init__(self) -> None:
        self._encoded: tuple[Sequence[Product], bytes, str] | None = None

    def response(self, products: Sequence[Product]) -> Response:
        encoded = self._encoded
        # A store may return the same sequence until the catalogue changes. Then its products are not compared.
        if encoded is None or (encoded[0] is not products and encoded[0] != products):
            body = wire.products_body(products)
            self._encoded = encoded = products, body, sha256(body).hexdigest()[:32]
        _, body, tag = encoded
        headers = {"ETag": f'"{tag}"', **_REVALIDATE}
        if request.if_none_match.contains_weak(tag):
            return Response(status=304, headers=headers)
        return _JsonResponse(body, headers)


class _JsonResponse(Response):
    """A response whose headers are complete. Werkzeug would copy and correct them: 6 % of the time of a user's request."""

    def __init__(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        complete = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        super().__init__((body,), status, Headers(complete))

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """Return the headers as they are, unless a host has made this a response without a body."""
        has_body = self.status_code not in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
        return self.headers if has_body else super().get_wsgi_headers(environ)


def error_response(spec: ErrorSpec, detail: str | None = None) -> Response:
    """Return an error as JSON. Caches must not keep it."""
    return _JsonResponse(wire.error_body(spec.code, detail), spec.headers | _NO_STORE, spec.status)


def internal_error_response(error: Exception) -> Response:
    """Log an unexpected error, and return a response that tells the client nothing about it."""
    request_id = request.environ.get(REQUEST_ID) or token_hex(16)
    # The rule, not the path: a path may contain the name of a user.
    _log.error("request %s failed: %s %s", request_id, request.method, request.url_rule, exc_info=error)
    return error_response(INTERNAL_ERROR)


def _core_error(error: BenefitsError) -> Response:
    spec = error_spec(error)
    if spec is INTERNAL_ERROR:
        return internal_error_response(error)
    if spec is STORAGE_UNAVAILABLE:
        _log.warning("storage unavailable: %s", error)
    return error_response(spec)


def _refuse_undecodable_path() -> None:
    # WSGI decodes a path as Latin-1. Flask decodes it as UTF-8, with U+FFFD, a valid character, for invalid bytes.
    path = request.environ["PATH_INFO"].encode("latin-1")
    try:
        path.decode()
    except UnicodeDecodeError as error:
        raise InvalidUserIdError("user_id", path, "UTF-8") from error


def _read_json_body() -> bytes:
    limit = wire.MAX_BODY_BYTES
    if (request.content_length or 0) > limit or len(body := _read_at_most(limit + 1)) > limit:
        abort(error_response(REQUEST_TOO_LARGE, f"The limit is {limit} bytes."))
    if request.mimetype != "application/json":
        abort(error_response(UNSUPPORTED_MEDIA_TYPE, "Send application/json."))
    return body


def _read_at_most(size: int) -> bytes:
    # A chunked body may have any size, and Flask's own limit cuts it instead of refusing it.
    body = b""
    while chunk := request.stream.read(size - len(body)):
        body += chunk
    return body or request.get_data()  # the application may have read the body before
