"""Who is asking: the employee whom a proxy names in a header, and nobody else.

WSGI can't tell ``X-Forwarded-User`` from ``X_Forwarded_User``, nor two of them from one with a comma in it. So what
is trusted is decided on the header lines as they arrived, which ``asgi`` keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Concatenate, Final, ParamSpec, TypeVar

import attrs
from flask import Flask, Response, request

from benefits_core import InvalidUserIdError, UseCases
from benefits_core.values import normal_user_id
from benefits_http.blueprint import error_response
from benefits_http.errors import Answer
from benefits_http.openapi import DescribedError, Document, add_errors, operations

# A challenge has to stand in every 401 (RFC 9110). No browser asks for a password because of this one.
UNAUTHENTICATED: Final = Answer(
    401, "unauthenticated", {"WWW-Authenticate": 'Proxy-Identity realm="benefits"'}
)
FORBIDDEN: Final = Answer(403, "forbidden")

# The endpoints that everybody may ask. Any other one, also one that is new, asks who it is.
PUBLIC_ENDPOINTS: Final = frozenset({"products", "healthz", "metrics", "openapi", "page"})

# What clients, proxies and this service say other things in than a user id.
_TAKEN: Final = frozenset(
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
        "x-request-id",
    }
)

_ASKING: Final = "benefits.user_id"

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class ForbiddenError(Exception):
    """Somebody asks for somebody else."""


def require_header_name(text: str) -> str:
    """Return the name of a header that can name a user, as it is.

    :raises ValueError: it can't be one, or some program on the way could take another header for it.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+", text):
        raise ValueError(
            f"{text!r} is no header name of letters, digits and hyphens, such as X-Forwarded-User"
        )
    if text.lower() in _TAKEN:
        raise ValueError(f"{text!r} has a meaning of its own; name another header, such as X-Forwarded-User")
    return text


def named_user(headers: Iterable[tuple[bytes, bytes]], header: str) -> str | None:
    """Return the normalised user id that a header names, or None if it names nobody for certain.

    :param headers: name and value of each header line, as they arrived.
    :param header: the name of the one to trust; its value is UTF-8.
    """
    trusted = header.lower().encode()
    lines = [(name.lower(), value) for name, value in headers if name.lower().replace(b"_", b"-") == trusted]
    if len(lines) != 1:
        return None
    [(name, value)] = lines
    # A comma is how a proxy joins what its client sent with what it adds itself.
    if name != trusted or b"," in value:
        return None
    try:
        return normal_user_id(value.decode())
    except (UnicodeDecodeError, InvalidUserIdError):
        return None


def restrict_to_self(use_cases: UseCases) -> UseCases:
    """Return use cases with which everybody can look up and order for nobody but themselves.

    They work while the application answers a request, after :func:`authenticate` has looked at it.
    """
    return attrs.evolve(
        use_cases,
        get_user=_restricted(use_cases.get_user),
        place_order=_restricted(use_cases.place_order),
    )


def _restricted(
    use_case: Callable[Concatenate[str, _Arguments], _Result],
) -> Callable[Concatenate[str, _Arguments], _Result]:
    def guarded(user_id: str, /, *arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        if normal_user_id(user_id) != request.environ[_ASKING]:
            raise ForbiddenError
        return use_case(user_id, *arguments, **options)

    return guarded


def describe_identity(document: Document, header: str) -> None:
    """Add to an OpenAPI document what :func:`authenticate` adds to the behaviour."""
    document["components"]["securitySchemes"] = {
        "proxy": {
            "type": "apiKey",
            "in": "header",
            "name": header,
            "description": "Set by the proxy, never by a client: the user name, in UTF-8.",
        }
    }
    protected = ["getUser", "placeOrder"]
    for operation_id in protected:
        operations(document)[operation_id]["security"] = [{"proxy": []}]
    nobody = DescribedError(UNAUTHENTICATED, "The proxy has named nobody.")
    somebody_else = DescribedError(FORBIDDEN, "Everybody can look up and order for themselves only.")
    add_errors(document, [nobody], to=protected)
    add_errors(document, [somebody_else], to=protected)


def authenticate(app: Flask, header: str) -> None:
    """Make an application ask who it is before it reads a body; it has to be served over ASGI.

    :param header: the name of the header that names the user.
    """

    def identify() -> Response | None:
        if request.endpoint is None or request.method == "OPTIONS":  # it is not there, or it is a preflight
            return None
        if request.endpoint.rpartition(".")[2] in PUBLIC_ENDPOINTS:
            return None
        user_id = named_user(request.environ["asgi.scope"]["headers"], header)
        if user_id is None:
            return error_response(UNAUTHENTICATED)
        request.environ[_ASKING] = user_id
        return None

    app.before_request(identify)
    app.register_error_handler(ForbiddenError, lambda _: error_response(FORBIDDEN))
