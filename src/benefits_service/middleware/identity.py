"""Identity: a proxy names the user in a header, users read and order for themselves only, and an endpoint returns their id.

WSGI gives ``X-Forwarded-User`` and ``X_Forwarded_User`` the same key, and joins several lines by a comma. So the header is
read from the raw lines of the request, which ``asgi`` keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from flask import Flask, Response, request

from benefits_core import InvalidUserIdError, UseCases
from benefits_core.values import normal_user_id
from benefits_http import wire
from benefits_http.blueprint import error_response
from benefits_http.errors import ErrorSpec
from benefits_service.user_ids import converting_user_ids

# Every 401 must have a challenge (RFC 9110). Browsers do not know this scheme, and so show no password dialog.
UNAUTHENTICATED: Final = ErrorSpec(
    401, "unauthenticated", {"WWW-Authenticate": 'Proxy-Identity realm="benefits"'}
)
FORBIDDEN: Final = ErrorSpec(403, "forbidden")

# The endpoints that need no user. Every other endpoint needs one, also a new one.
PUBLIC_ENDPOINTS: Final = frozenset({"products", "healthz", "metrics", "openapi", "docs", "docs_file"})

# Headers that clients, proxies or this service use for something else.
_RESERVED_HEADERS: Final = frozenset(
    {
        "accept",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "if-none-match",
        "origin",
        "referer",
        "transfer-encoding",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-request-id",
    }
)

# The key of the user id in the WSGI environment.
_USER_ID: Final = "benefits.user_id"


class ForbiddenError(Exception):
    """A request acts for another user than the one that the proxy names."""


def require_header_name(text: str) -> str:
    """Return the name of a header if the header can name a user.

    :raises ValueError: the name is invalid or ambiguous, or the header has another meaning.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+", text):
        raise ValueError(
            f"{text!r} is not a header name of letters, digits and hyphens, such as X-Forwarded-User"
        )
    if text.lower() in _RESERVED_HEADERS:
        raise ValueError(f"{text!r} has another meaning; use a header such as X-Forwarded-User")
    return text


def named_user(
    headers: Iterable[tuple[bytes, bytes]], header: str, normalise: Callable[[str], str] = normal_user_id
) -> str | None:
    """Return the normalised user id in a header, or None if the header is missing, ambiguous or invalid.

    :param headers: the name and the value of each raw header line.
    :param header: the name of the trusted header; its value is UTF-8.
    :param normalise: returns the user id of a name, or raises InvalidUserIdError.
    """
    trusted = header.lower().encode()
    lines = [(name.lower(), value) for name, value in headers if name.lower().replace(b"_", b"-") == trusted]
    if len(lines) != 1:
        return None
    [(name, value)] = lines
    # By a comma, a proxy joins the client's value and its own.
    if name != trusted or b"," in value:
        return None
    try:
        return normalise(value.decode())
    except (UnicodeDecodeError, InvalidUserIdError):
        return None


def restrict_to_self(use_cases: UseCases) -> UseCases:
    """Return use cases that refuse every other user than the one of the current request.

    They need a request of an application that :func:`authenticate` has changed.
    """
    return converting_user_ids(use_cases, _require_self)


def _require_self(user_id: str) -> str:
    if normal_user_id(user_id) != request.environ[_USER_ID]:
        raise ForbiddenError
    return user_id


def authenticate(app: Flask, header: str, normalise: Callable[[str], str] = normal_user_id) -> None:
    """Make an application require a user, before it reads a body. It must be served through ``as_asgi``.

    :param header: the name of the header in which the proxy names the user.
    :param normalise: returns the user id of a name in it, as the use cases get it.
    """

    def identify() -> Response | None:
        if request.endpoint is None or request.method == "OPTIONS":  # a 404 or 405, or a CORS preflight
            return None
        if request.endpoint.rpartition(".")[2] in PUBLIC_ENDPOINTS:
            return None
        user_id = named_user(request.environ["asgi.scope"]["headers"], header, normalise)
        if user_id is None:
            return error_response(UNAUTHENTICATED)
        request.environ[_USER_ID] = user_id
        return None

    app.before_request(identify)
    app.register_error_handler(ForbiddenError, lambda _: error_response(FORBIDDEN))


def add_identity_endpoint(app: Flask) -> None:
    """Add ``GET /api/identity`` and ``GET /identity``: the user whom the proxy names; null if there is no identity."""

    def identity() -> Response:
        body = wire.encode({"user_id": request.environ.get(_USER_ID)})
        return Response(body, headers={"Cache-Control": "no-store"}, mimetype="application/json")

    for path in ("/api/identity", "/identity"):
        app.add_url_rule(path, "identity", identity)
