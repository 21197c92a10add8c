"""The wire format: what bodies look like, strictly decoded and exactly encoded. It knows JSON, but no HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Context, Decimal, InvalidOperation
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from benefits_core import InvalidValueError, Order, Product, User

MAX_BODY_BYTES: Final = 64 * 1024
"""How large the body of an order may be."""

MAX_ITEMS: Final = 100
"""How many items an order may list, repeats counted."""

MAX_DEPTH: Final = 100
"""How deeply an order may nest arrays and objects; it needs three."""

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_Shape = TypeVar("_Shape")


class InvalidRequestError(Exception):
    """A body that can't be understood; the message names the field."""


class OrderDraft(msgspec.Struct):
    """What somebody wants to order."""

    items: Annotated[list[str], msgspec.Meta(max_length=MAX_ITEMS)]
    user_id: str


class OrderRequest(msgspec.Struct):
    """The body of an order: who wants what."""

    order: OrderDraft


class UserData(msgspec.Struct):
    """What is known of a user."""

    balance: int | Decimal
    product_ids: tuple[str, ...]


class UserBody(msgspec.Struct):
    """A user."""

    user_id: str
    data: UserData


class UserResponse(msgspec.Struct):
    """The answer to who asks for a user."""

    user: UserBody


class ProductBody(msgspec.Struct):
    """A product."""

    id: str
    name: str
    price: int | Decimal


class ProductList(msgspec.Struct):
    """The catalogue, in its own order. A catalogue file looks like this, too."""

    products: list[ProductBody]


class OrderData(msgspec.Struct):
    """What was ordered, and what it cost."""

    items: tuple[str, ...]
    total: int | Decimal


class OrderBody(msgspec.Struct):
    """An order."""

    order_id: str
    data: OrderData


class OrderResponse(msgspec.Struct):
    """The answer to an order that was placed."""

    order: OrderBody


class ErrorResponse(msgspec.Struct):
    """Every answer that isn't a success: a stable code for programs, and perhaps a detail for people."""

    error: str
    detail: str | msgspec.UnsetType = msgspec.UNSET


class HealthResponse(msgspec.Struct):
    """The answer of a service that is well."""

    status: Literal["ok"] = "ok"


encode: Final = msgspec.json.Encoder(decimal_format="number").encode

# Digits for any amount of money, whatever the program that embeds us does with its own decimal context.
_ANY_AMOUNT: Final = Context(prec=28)

_decode_request: Final = msgspec.json.Decoder(OrderRequest).decode
_decode_anything: Final = msgspec.json.Decoder(float_hook=float).decode
_decode_catalogue: Final = msgspec.json.Decoder(float_hook=Decimal).decode


def _shaped(plain: object, shape: type[_Shape]) -> _Shape:
    # Decimals are declared as known, so that a price in quotes is no price.
    return msgspec.convert(plain, shape, builtin_types=(Decimal,))


def _number(amount: Decimal) -> int | Decimal:
    whole = int(amount)
    return whole if whole == amount else amount.normalize(_ANY_AMOUNT)


def read_order(body: bytes) -> OrderDraft:
    """Decode an order.

    :raises InvalidRequestError: it can't be understood.
    """
    try:
        body.decode()  # msgspec skips over what stands in unknown fields
        _refuse_deep_nesting(body)
        return _decoded_order(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(str(error)) from error


def _refuse_deep_nesting(body: bytes) -> None:
    # Some versions of Python let a decoder recurse for longer than the stack of a server's thread lasts.
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
        # Perhaps only the first of a key given twice is wrong; of plain values, the last one is kept.
        return _shaped(_decode_anything(body), OrderRequest).order


def read_catalogue(
    body: bytes, through: Callable[[list[ProductBody]], Iterable[ProductBody]] = iter
) -> list[Product]:
    """Decode a catalogue file.

    :param through: what is given the entries and yields them, such as a progress bar.
    :raises InvalidRequestError: it can't be understood, or an entry is no product; the message says which.
    """
    try:
        entries = _shaped(_decode_catalogue(body), ProductList).products
    except InvalidOperation as error:
        raise InvalidRequestError("A number is out of range") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(str(error)) from error
    products: dict[str, Product] = {}
    for index, entry in enumerate(through(entries)):
        try:
            product = Product(entry.id, entry.name, Decimal(entry.price))
        except InvalidValueError as error:
            raise InvalidRequestError(f"{error} - at `$.products[{index}]`") from error
        if product.product_id in products:
            raise InvalidRequestError(
                f"The id {product.product_id!r} is there twice - at `$.products[{index}]`"
            )
        products[product.product_id] = product
    return list(products.values())


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


def health_body() -> bytes:
    """Encode that all is well."""
    return encode(HealthResponse())
