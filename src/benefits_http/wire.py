"""The wire format: the JSON bodies, strictly decoded and exactly encoded. Nothing here knows HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Annotated, Final, Literal

import msgspec

from benefits_core import Order, Product, User

MAX_BODY_BYTES: Final = 64 * 1024
"""The size limit of the body of an order."""

MAX_ITEMS: Final = 100
"""The number of items that an order may list, repeats counted."""

MAX_DEPTH: Final = 100
"""The depth to which an order may nest arrays and objects; it needs three."""

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


class InvalidRequestError(Exception):
    """A body that does not have the shape of an order; the message names the field."""


class OrderDraft(msgspec.Struct):
    """The products that a user wants."""

    items: Annotated[list[str], msgspec.Meta(max_length=MAX_ITEMS)]
    user_id: str
    expected_total: int | float | msgspec.UnsetType = msgspec.UNSET


class OrderRequest(msgspec.Struct):
    """The body of an order."""

    order: OrderDraft


class UserData(msgspec.Struct):
    """What a user has."""

    balance: int | Decimal
    product_ids: tuple[str, ...]


class UserBody(msgspec.Struct):
    """A user's name and data."""

    user_id: str
    data: UserData


class UserResponse(msgspec.Struct):
    """A user."""

    user: UserBody


class ProductBody(msgspec.Struct):
    """A product."""

    id: str
    name: str
    price: int | Decimal


class ProductList(msgspec.Struct):
    """The catalogue, in its own order. A catalogue file has the same form."""

    products: list[ProductBody]


class OrderData(msgspec.Struct):
    """What was ordered, and what it cost."""

    items: tuple[str, ...]
    total: int | Decimal


class OrderBody(msgspec.Struct):
    """An order's id and data."""

    order_id: str
    data: OrderData


class OrderResponse(msgspec.Struct):
    """An order that was placed."""

    order: OrderBody


class ErrorResponse(msgspec.Struct):
    """Every error: a stable code for programs, and sometimes a detail for people."""

    error: str
    detail: str | msgspec.UnsetType = msgspec.UNSET


class HealthResponse(msgspec.Struct):
    """The service can reach its store. ``read_only``: it can read, but keep no order now."""

    status: Literal["ok", "read_only"] = "ok"


encode: Final = msgspec.json.Encoder(decimal_format="number").encode

_CENT: Final = Decimal("0.01")
_MORE_THAN_ANY_TOTAL: Final = Decimal("1e15")

# Enough digits for any amount of money. The decimal context of the calling program may have fewer.
_ANY_AMOUNT: Final = Context(prec=28)

_decode_request: Final = msgspec.json.Decoder(OrderRequest).decode
_decode_anything: Final = msgspec.json.Decoder(float_hook=float).decode


def _number(amount: Decimal) -> int | Decimal:
    whole = int(amount)
    return whole if whole == amount else amount.normalize(_ANY_AMOUNT)


def read_order(body: bytes) -> OrderDraft:
    """Decode an order.

    :raises InvalidRequestError: the body is not JSON, or does not have the shape of an order.
    """
    try:
        body.decode()  # msgspec does not check the encoding of unknown fields
        _refuse_deep_nesting(body)
        return _decoded_order(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(str(error)) from error


def _refuse_deep_nesting(body: bytes) -> None:
    # On some versions of Python, the decoder's recursion overflows the stack of a thread before Python limits it.
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise InvalidRequestError("JSON is nested too deeply")


def _decoded_order(body: bytes) -> OrderDraft:
    try:
        return _decode_request(body).order
    except msgspec.ValidationError:
        # If a key occurs twice, the last value counts, but msgspec checks every one. A dict keeps only the last one.
        return msgspec.convert(_decode_anything(body), OrderRequest).order


def expected_total(draft: OrderDraft) -> Decimal | None:
    """Return what a client expects an order to cost, rounded to cents: a browser adds 75.99 and 45.99 to 121.97999999999999.

    None if it expects nothing. A number that no order can cost is returned as it is.
    """
    expected = draft.expected_total
    if expected is msgspec.UNSET:
        return None
    number = Decimal(str(expected))
    return number.quantize(_CENT, context=_ANY_AMOUNT) if abs(number) < _MORE_THAN_ANY_TOTAL else number


def user_body(user: User) -> bytes:
    """Encode a user."""
    data = UserData(_number(user.balance), user.product_ids)
    return encode(UserResponse(UserBody(user.user_id, data)))


def products_body(products: Iterable[Product]) -> bytes:
    """Encode the catalogue."""
    bodies = [ProductBody(product.product_id, product.name, _number(product.price)) for product in products]
    return encode(ProductList(bodies))


def order_body(order: Order) -> bytes:
    """Encode an order."""
    return encode(OrderResponse(OrderBody(order.order_id, OrderData(order.items, _number(order.total)))))


def error_body(code: str, detail: str | None = None) -> bytes:
    """Encode an error."""
    return encode(ErrorResponse(code, msgspec.UNSET if detail is None else detail))


def health_body(status: Literal["ok", "read_only"] = "ok") -> bytes:
    """Encode what the service can do with its store."""
    return encode(HealthResponse(status))
