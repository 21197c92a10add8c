"""The OpenAPI description of every endpoint, made of the types that decode and encode, and of the error table."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any, Final

import attrs
import msgspec

from benefits_core import InvalidUserIdError, OrderRefusedError, Product, User
from benefits_core.values import MAX_ID_LENGTH, MAX_MONEY, MAX_NAME_LENGTH
from benefits_http import wire
from benefits_http.errors import (
    ANSWERS,
    HTTP_CODES,
    INVALID_REQUEST,
    TOO_LARGE,
    UNAVAILABLE,
    UNFORESEEN,
    UNSUPPORTED_MEDIA_TYPE,
    Answer,
)

Document = dict[str, Any]
"""An OpenAPI document, or a part of one, as plain JSON values."""

_JSON: Final = "application/json"

# What str.strip() trims.
WHITE_SPACE: Final = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"
_EDGE: Final = rf"[^{WHITE_SPACE}{_CONTROL}]"
_NAME_RULE: Final = (
    "White space around it is trimmed and the rest NFC-normalised; what is left has 1 to "
    f"{MAX_ID_LENGTH} code points without control characters (Cc). Case matters. (The patterns count before "
    "normalisation, which a regular expression can't do.)"
)


def _user_id(condition: str = "") -> Document:
    # The second way is the rule. The first, which it contains, is for programs that make names up from this: they
    # don't see past the white space, nor that a pattern limits the length.
    padding, inner = f"[{WHITE_SPACE}]*", f"[^{_CONTROL}]"
    bounded = f"{_EDGE}(?:{inner}{{0,{MAX_ID_LENGTH - 2}}}{_EDGE})?"
    return {
        "type": "string",
        "anyOf": [
            {
                "description": "As it is kept.",
                "maxLength": MAX_ID_LENGTH,
                "pattern": f"^{condition}{_EDGE}(?:{inner}*{_EDGE})?$",
            },
            {"description": "To be trimmed.", "pattern": f"^{condition}{padding}{bounded}{padding}$"},
        ],
    }


_MEANINGS: Final = {
    "products_not_found": "The order names a product that is not in the catalogue, or no product at all.",
    "products_already_purchased": "The order names a product that the user has bought before.",
    "insufficient_balance": "The order costs more than the user has left.",
    "invalid_user_id": "Nobody can be called that.",
    "invalid_request": "The body can't be understood; `detail` names the field.",
    "not_found": "There is nothing at this path. Trailing and doubled slashes count.",
    "method_not_allowed": "The path has other methods; `Allow` lists them.",
    "request_too_large": f"The body is larger than {wire.MAX_BODY_BYTES // 1024} KiB.",
    "unsupported_media_type": "The content type of the body is not `application/json`.",
    "internal_error": "Something that nobody foresaw. Its cause is in the log of the service.",
    "storage_unavailable": "The store can't serve now. Nothing is half-written; another try may succeed.",
}
"""What each error code means, for people. An error of the table that is not described here fails the build."""

_DETAILS: Final = {
    "invalid_request": "Expected `str`, got `int` - at `$.order.items[0]`",
    "request_too_large": f"The limit is {wire.MAX_BODY_BYTES} bytes.",
    "unsupported_media_type": "Send application/json.",
}
"""An example of the detail of each error that may carry one."""

_MONEY: Final[Document] = {
    "type": "number",
    "minimum": 0,
    "maximum": float(MAX_MONEY),
}
_EXACTLY: Final = "An exact decimal number with at most two decimals, in its shortest form."
_PRODUCT_ID: Final[Document] = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH}
_KNOWN_USER_ID: Final[Document] = {
    "type": "string",
    "description": "The user name, normalised.",
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
}

# How msgspec describes an amount of money.
_AMOUNT: Final = msgspec.json.schema(int | Decimal)

# Clients grow, so unknown fields of what they send are ignored; what they are sent has no others.
_REQUESTS: Final = {"OrderRequest", "OrderDraft"}

# What the types don't say of their fields: rules that the core enforces, and words for people.
_FIELDS: Final[dict[str, dict[str, Document]]] = {
    "OrderDraft": {
        "items": {
            "description": "Product ids. One that is repeated counts once; one that is unknown refuses the order.",
        },
        "user_id": {"description": f"A user name. {_NAME_RULE}", **_user_id()},
    },
    "UserBody": {"user_id": _KNOWN_USER_ID},
    "UserData": {
        "balance": {**_MONEY, "description": f"What is left to spend. {_EXACTLY}"},
        "product_ids": {"items": _PRODUCT_ID, "description": "What the user owns, in the order bought."},
    },
    "ProductBody": {
        "id": {**_PRODUCT_ID, "description": "By which it is ordered."},
        "name": {"minLength": 1, "maxLength": MAX_NAME_LENGTH, "description": "For people."},
        "price": {**_MONEY, "description": _EXACTLY},
    },
    "OrderBody": {"order_id": {"minLength": 1, "description": "Unique among all orders."}},
    "OrderData": {
        "items": {"items": _PRODUCT_ID, "description": "The product ids, in the order sent, each once."},
        "total": {**_MONEY, "description": f"What it cost. {_EXACTLY}"},
    },
    "ErrorResponse": {
        "error": {"description": "A stable code, for programs."},
        "detail": {"description": "For people; its words may change."},
    },
}

_NO_STORE: Final[Document] = {
    "description": "Not to be kept: the next moment it may be untrue.",
    "required": True,
    "schema": {"type": "string", "const": "no-store"},
}
_ASK_AGAIN: Final[Document] = {
    "description": "Keep it, but ask whether it is still true.",
    "required": True,
    "schema": {"type": "string", "const": "no-cache"},
}
_ETAG: Final[Document] = {
    "description": "Changes when the catalogue does. Send it as `If-None-Match`.",
    "required": True,
    "schema": {"type": "string"},
    "example": '"b2ab1b1ea0b04c4e9bd29d5fd8f5a1c7"',
}
_HEADERS: Final[dict[str, Document]] = {
    "Allow": {
        "description": "The methods that the path has.",
        "required": True,
        "schema": {"type": "string"},
        "example": "GET, HEAD, OPTIONS",
    },
    "Retry-After": {
        "description": "After how many seconds another try may succeed.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
}


_ANY_HEADER: Final[Document] = {"required": True, "schema": {"type": "string"}}

# Examples are encoded as answers are.
_PRODUCTS: Final = (
    Product("netflix", "Netflix", Decimal("75.99")),
    Product("spotify", "Spotify", Decimal("45.99")),
)
_USER, _ORDER = User.new("johndoe").buy(
    _PRODUCTS, order_id="1", placed_at=datetime(2026, 7, 1, 12, tzinfo=UTC)
)


@attrs.frozen
class DescribedError:
    """An error with the words for it.

    :param answer: how it is said over HTTP.
    :param meaning: what it means, for people; CommonMark.
    :param detail: an example of its ``detail``; none, if it never carries one.
    """

    answer: Answer
    meaning: str
    detail: str | None = None


def describe() -> Document:
    """Return the description of the blueprint's endpoints: an OpenAPI 3.1 document, fresh, the caller's to add to.

    It names no server: the blueprint says where it is mounted when it serves the document. All responses are in
    ``components.responses``, so what is true of every answer, such as a header, can be added there in one loop.
    """
    document: Document = {
        "openapi": "3.1.1",
        "info": {
            "title": "Benefits",
            "version": version("benefits"),
            "summary": "Employees see what is on offer, see their balance, and order.",
            "description": (
                "Bodies are JSON. An error has a stable code for programs in `error`; the three refusals of an order "
                "carry nothing else, other errors may carry a `detail` for people.\n\n"
                "A path with GET has HEAD too, without the body, and OPTIONS is answered with `Allow`. Any other method "
                "is 405 `method_not_allowed`, any other path 404 `not_found`. Errors are never to be cached. "
                "Unknown extra fields of a request are ignored, and of a key given twice the last one counts."
            ),
        },
        "tags": [
            {"name": "users", "description": "Who orders, what is left to spend, and what they own."},
            {"name": "products", "description": "What is on offer."},
            {"name": "orders", "description": "Buying."},
            {"name": "service", "description": "About the service itself."},
        ],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(
                wire.OrderRequest,
                wire.UserResponse,
                wire.ProductList,
                wire.OrderResponse,
                wire.HealthResponse,
                wire.ErrorResponse,
            ),
            "responses": _successes(),
        },
    }
    not_found = Answer(404, HTTP_CODES[404])
    wrong_method = Answer(405, HTTP_CODES[405], {"Allow": "as the path has"})
    invalid_user_id = ANSWERS[InvalidUserIdError]
    refusals = [answer for kind, answer in ANSWERS.items() if issubclass(kind, OrderRefusedError)]
    endpoints = operations(document)
    stored = ["getUser", "listProducts", "placeOrder", "checkHealth"]
    add_errors(document, [_described(invalid_user_id)], to=["getUser"])
    add_errors(document, [_described(not_found)], to=["getUser"])
    add_errors(
        document,
        [_described(answer) for answer in (*refusals, INVALID_REQUEST, invalid_user_id)],
        to=["placeOrder"],
        name="order_refused",
    )
    add_errors(document, [_described(wrong_method)], to=[])
    add_errors(document, [_described(TOO_LARGE)], to=["placeOrder"])
    add_errors(document, [_described(UNSUPPORTED_MEDIA_TYPE)], to=["placeOrder"])
    add_errors(document, [_described(UNFORESEEN)], to=endpoints)
    add_errors(document, [_described(UNAVAILABLE)], to=stored)
    return deepcopy(document)  # its parts are constants of this module


def operations(document: Document) -> dict[str, Document]:
    """Return the operations of a document by their ids."""
    return {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }


def add_errors(
    document: Document, errors: Iterable[DescribedError], *, to: Iterable[str], name: str | None = None
) -> None:
    """Describe what some operations may answer besides: one response, for errors that share a status.

    :param document: what to add it to.
    :param to: the ids of these operations.
    :param name: of the response among the components; by default, the code of the first error.
    :raises ValueError: an operation has a response of that status already.
    """
    described = list(errors)
    answer = described[0].answer
    key, status = name or answer.code, str(answer.status)
    by_id = operations(document)
    for operation_id in to:
        responses = by_id[operation_id]["responses"]
        if status in responses:
            raise ValueError(f"{operation_id} has a response {status} already")
        responses[status] = {"$ref": f"#/components/responses/{key}"}
    document["components"]["responses"][key] = _error_response(described)


def _described(answer: Answer) -> DescribedError:
    return DescribedError(answer, _MEANINGS[answer.code], _DETAILS.get(answer.code))


def _error_response(errors: list[DescribedError]) -> Document:
    plain = [error for error in errors if error.detail is None]
    detailed = [error for error in errors if error.detail is not None]
    shapes = [_error_schema(alike) for alike in (plain, detailed) if alike]
    return {
        "description": errors[0].meaning if len(errors) == 1 else "`error` says why.",
        "headers": {
            "Cache-Control": _NO_STORE,
            **{name: _HEADERS.get(name, _ANY_HEADER) for error in errors for name in error.answer.headers},
        },
        "content": {
            _JSON: {
                "schema": shapes[0] if len(shapes) == 1 else {"oneOf": shapes},
                "examples": {
                    error.answer.code: {
                        "summary": error.meaning,
                        "value": _plain(wire.error_body(error.answer.code, error.detail)),
                    }
                    for error in errors
                },
            }
        },
    }


def _error_schema(alike: list[DescribedError]) -> Document:
    schema = _schemas(wire.ErrorResponse)["ErrorResponse"]
    schema["properties"]["error"]["enum"] = [error.answer.code for error in alike]
    if alike[0].detail is None:
        del schema["properties"]["detail"]
    return {name: schema[name] for name in ("type", "properties", "required", "additionalProperties")}


def _schemas(*shapes: type[msgspec.Struct]) -> Document:
    _, schemas = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    for name, schema in schemas.items():
        for field, said in _FIELDS.get(name, {}).items():
            declared = schema["properties"][field]
            if declared == _AMOUNT:
                declared.clear()  # on the wire it is a number, and never a string
            declared |= deepcopy(said)
        if name not in _REQUESTS:
            schema["additionalProperties"] = False
    return schemas


def _paths() -> Document:
    return {
        "/users/{user_id}": {
            "get": {
                "operationId": "getUser",
                "tags": ["users"],
                "summary": "Get a user",
                "description": "Whoever does not exist yet is created, with the opening balance.",
                "parameters": [
                    {
                        "name": "user_id",
                        "in": "path",
                        "required": True,
                        "description": (
                            f"A user name, percent-encoded as UTF-8. {_NAME_RULE} Single slashes may stand inside it. "
                            "An empty name is answered as an invalid one."
                        ),
                        "schema": _user_id(r"(?!/)(?![\s\S]*/(?:/|$))"),
                    }
                ],
                "responses": {"200": {"$ref": "#/components/responses/user"}},
            }
        },
        "/products": {
            "get": {
                "operationId": "listProducts",
                "tags": ["products"],
                "summary": "List the products on offer",
                "description": "In the order of the catalogue.",
                "parameters": [
                    {
                        "name": "If-None-Match",
                        "in": "header",
                        "description": "The `ETag` of a catalogue that you have already.",
                        "schema": {"type": "string"},
                        "example": _ETAG["example"],
                    }
                ],
                "responses": {
                    "200": {"$ref": "#/components/responses/catalogue"},
                    "304": {"$ref": "#/components/responses/catalogue_unchanged"},
                },
            }
        },
        "/orders": {
            "post": {
                "operationId": "placeOrder",
                "tags": ["orders"],
                "summary": "Order products",
                "description": (
                    "The order is placed whole or not at all, and a refused order changes nothing. A user who does "
                    f"not exist yet is created with it. The body has at most {wire.MAX_BODY_BYTES // 1024} KiB, and "
                    f"arrays and objects in it are nested at most {wire.MAX_DEPTH} deep."
                ),
                "requestBody": {
                    "required": True,
                    "content": {
                        _JSON: {
                            "schema": {"$ref": "#/components/schemas/OrderRequest"},
                            "examples": {
                                "two_products": {
                                    "summary": "Two products for one user",
                                    "value": {
                                        "order": {"items": list(_ORDER.items), "user_id": _ORDER.user_id}
                                    },
                                }
                            },
                        }
                    },
                },
                "responses": {"200": {"$ref": "#/components/responses/order"}},
            }
        },
        "/healthz": {
            "get": {
                "operationId": "checkHealth",
                "tags": ["service"],
                "summary": "Ask whether the service is well",
                "description": "It is while its store can be read.",
                "responses": {"200": {"$ref": "#/components/responses/healthy"}},
            }
        },
        "/openapi.json": {
            "get": {
                "operationId": "getDescription",
                "tags": ["service"],
                "summary": "Get this description",
                "responses": {"200": {"$ref": "#/components/responses/description"}},
            }
        },
        "/docs": {
            "get": {
                "operationId": "readDescription",
                "tags": ["service"],
                "summary": "Read this description, as a page",
                "responses": {"200": {"$ref": "#/components/responses/page"}},
            }
        },
    }


def _successes() -> Document:
    catalogue_headers = {"ETag": _ETAG, "Cache-Control": _ASK_AGAIN}
    return {
        "user": _success("The user.", "UserResponse", wire.user_body(_USER), {"Cache-Control": _NO_STORE}),
        "catalogue": _success(
            "The catalogue.", "ProductList", wire.products_body(_PRODUCTS), catalogue_headers
        ),
        "catalogue_unchanged": {
            "description": "The catalogue is the one that you have.",
            "headers": catalogue_headers,
        },
        "order": {
            **_success(
                "The order was placed.",
                "OrderResponse",
                wire.order_body(_ORDER),
                {"Cache-Control": _NO_STORE},
            ),
            "links": {
                "user": {
                    "operationId": "getUser",
                    "parameters": {"user_id": "$request.body#/order/user_id"},
                    "description": "Whose balance and products follow.",
                }
            },
        },
        "healthy": _success(
            "All is well.", "HealthResponse", wire.health_body(), {"Cache-Control": _NO_STORE}
        ),
        "description": {
            "description": "An OpenAPI 3.1 document.",
            "headers": {"Cache-Control": _ASK_AGAIN},
            "content": {
                _JSON: {
                    "schema": {
                        "type": "object",
                        "required": ["openapi", "info", "servers", "paths", "components"],
                    }
                }
            },
        },
        "page": {
            "description": "A page that needs nothing else: no script, no other file, no internet.",
            "headers": {"Cache-Control": _ASK_AGAIN},
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
    }


def _success(description: str, schema: str, example: bytes, headers: Document) -> Document:
    return {
        "description": description,
        "headers": headers,
        "content": {
            _JSON: {
                "schema": {"$ref": f"#/components/schemas/{schema}"},
                "examples": {"example": {"value": _plain(example)}},
            }
        },
    }


def _plain(body: bytes) -> Any:  # noqa: ANN401 - JSON is of any type
    return msgspec.json.decode(body)
