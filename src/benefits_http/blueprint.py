"""The endpoints, as a blueprint to mount at any prefix: parse, call a use case, encode; and their description."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from secrets import token_hex
from typing import Final
from wsgiref.types import WSGIEnvironment

from flask import Blueprint, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.datastructures import Headers
from werkzeug.routing import BaseConverter

from benefits_core import (
    BenefitsError,
    InvalidUserIdError,
    Product,
    UseCases,
)
from benefits_http import wire
from benefits_http.docs import add_docs
from benefits_http.errors import (
    INVALID_REQUEST,
    TOO_LARGE,
    UNAVAILABLE,
    UNFORESEEN,
    UNSUPPORTED_MEDIA_TYPE,
    Answer,
    answer_to,
)
from benefits_http.openapi import Document, describe

_NO_STORE: Final = {"Cache-Control": "no-store"}
_ASK_AGAIN: Final = {"Cache-Control": "no-cache"}  # keep it, but ask whether it is still true

REQUEST_ID: Final = "benefits.request_id"
"""Where in the WSGI environment a request's id is looked for, when an error is logged; without one, one is made."""

USER_IN_PATH: Final = "<benefits_user:user_id>"
"""How a rule says that a path ends in a user name."""

_log = logging.getLogger(__name__)


class UserPath(BaseConverter):
    """A user name in a path. It may hold single slashes, and a line feed, which Flask's ``path`` does not match."""

    part_isolating = False
    regex = "(?:[^/]+(?:/[^/]+)*)?"


class RefusedRequestError(Exception):
    """A request that is answered before the core is asked."""

    def __init__(self, answer: Answer, detail: str) -> None:
        super().__init__(answer.code)
        self.answer = answer
        self.detail = detail


def benefits_blueprint(use_cases: UseCases, *, document: Document | None = None) -> Blueprint:
    """Return the blueprint. Mount it as often as you like: ``app.register_blueprint(blueprint, url_prefix="/api")``.

    It refuses and fails in JSON by itself; unknown paths and wrong methods are the application's to answer.

    :param use_cases: what the endpoints call; ``UseCases.over(store)`` makes them.
    :param document: the OpenAPI document to serve; by default ``describe()``, from ``benefits_http.openapi``. An
        application that adds to what the endpoints answer passes a document that says so.
    """
    blueprint = Blueprint("benefits", __name__)
    blueprint.record(_add_converter)

    # Flask would answer a doubled slash with a redirect, and a redirect turns a POST into a GET.
    get = partial(blueprint.route, methods=["GET"], merge_slashes=False)
    post = partial(blueprint.route, methods=["POST"], merge_slashes=False)

    @get("/users")
    @get(f"/users/{USER_IN_PATH}")
    def user(user_id: str = "") -> Response:
        _refuse_undecodable_path()
        return _JsonResponse(wire.user_body(use_cases.get_user(user_id)), _NO_STORE)

    catalogue = _Catalogue()

    @get("/products")
    def products() -> Response:
        return catalogue.response(use_cases.list_products())

    @post("/orders")
    def orders() -> Response:
        draft = wire.read_order(_json_request_body())
        return _JsonResponse(wire.order_body(use_cases.place_order(draft.user_id, draft.items)), _NO_STORE)

    @get("/healthz")
    def healthz() -> Response:
        use_cases.ping()
        return _JsonResponse(wire.health_body(), _NO_STORE)

    add_docs(blueprint, describe() if document is None else document)

    blueprint.register_error_handler(BenefitsError, _core_error)
    blueprint.register_error_handler(wire.InvalidRequestError, _invalid_request)
    blueprint.register_error_handler(RefusedRequestError, _refused_request)
    return blueprint


class _Catalogue:
    """The catalogue as a body, encoded once for each change of it, with a tag by which clients know what they have."""

    def __init__(self) -> None:
        self._encoded: tuple[Sequence[Product], bytes, str] | None = None

    def response(self, products: Sequence[Product]) -> Response:
        encoded = self._encoded
        # A store may return the same sequence until something changes; a long one is not compared then.
        if encoded is None or (encoded[0] is not products and encoded[0] != products):
            body = wire.products_body(products)
            self._encoded = encoded = products, body, sha256(body).hexdigest()[:32]
        _, body, tag = encoded
        headers = {"ETag": f'"{tag}"', **_ASK_AGAIN}
        if request.if_none_match.contains_weak(tag):
            return Response(status=304, headers=headers)
        return _JsonResponse(body, headers)


def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["benefits_user"] = UserPath


class _JsonResponse(Response):
    """An answer that is complete as it is made.

    Werkzeug would copy its headers once more, look for locations to correct in them, and count the body, in as much time as it
    takes to find a user.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        complete = {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}
        super().__init__((body,), status, Headers(complete))
        self._made_as = self.status_code

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        if self.status_code == self._made_as and "Content-Length" in self.headers:
            return self.headers
        return super().get_wsgi_headers(environ)  # the application around has made something else of it


def error_response(answer: Answer, detail: str | None = None) -> Response:
    """Return an error as the wire format has it. Errors are never cached."""
    return _JsonResponse(wire.error_body(answer.code, detail), answer.headers | _NO_STORE, answer.status)


def unforeseen_error(error: Exception) -> Response:
    """Answer an error nobody foresaw: its cause goes to the log, under an id, and never to the client."""
    request_id = request.environ.get(REQUEST_ID) or token_hex(16)
    # The rule and not the path, which may hold a name.
    _log.error("request %s failed: %s %s", request_id, request.method, request.url_rule, exc_info=error)
    return error_response(UNFORESEEN)


def _core_error(error: BenefitsError) -> Response:
    answer = answer_to(error)
    if answer is UNFORESEEN:
        return unforeseen_error(error)
    if answer is UNAVAILABLE:
        _log.warning("storage unavailable: %s", error)
    return error_response(answer)


def _invalid_request(error: wire.InvalidRequestError) -> Response:
    return error_response(INVALID_REQUEST, str(error))


def _refused_request(error: RefusedRequestError) -> Response:
    return error_response(error.answer, error.detail)


def _refuse_undecodable_path() -> None:
    # WSGI hands the path's bytes over as if they were Latin-1; Flask has put U+FFFD where they are not UTF-8.
    path = request.environ["PATH_INFO"].encode("latin-1")
    try:
        path.decode()
    except UnicodeDecodeError as error:
        raise InvalidUserIdError("user_id", path, "UTF-8") from error


def _json_request_body() -> bytes:
    if (request.content_length or 0) > wire.MAX_BODY_BYTES:
        raise _too_large()
    # Not all of it at once: a chunked body may be of any length, and Flask's own limit would cut it there instead of refusing it.
    body, stream = b"", request.stream
    while chunk := stream.read(wire.MAX_BODY_BYTES + 1 - len(body)):
        body += chunk
    body = body or request.get_data()  # in case the application around has read it before
    if len(body) > wire.MAX_BODY_BYTES:
        raise _too_large()
    if request.mimetype != "application/json":
        raise RefusedRequestError(UNSUPPORTED_MEDIA_TYPE, "Send application/json.")
    return body


def _too_large() -> RefusedRequestError:
    return RefusedRequestError(TOO_LARGE, f"The limit is {wire.MAX_BODY_BYTES} bytes.")
