"""The wire format: JSON bodies and query strings, strictly decoded and exactly encoded. Nothing here knows HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Context, Decimal
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

import attrs
import msgspec

from benefits_core import Order, Product, User

MAX_BODY_BYTES: Final = 64 * 1024
"""The size limit of the body of an order."""

MAX_ITEMS: Final = 100
"""The number of items that an order may list, repeats counted."""

MAX_DEPTH: Final = 100
"""The depth to which an order may nest arrays and objects; it needs three."""

MAX_PARAMETERS: Final = 100
"""The number of parameters that a query string may have; listing orders takes three."""

MAX_LISTED_ORDERS: Final = 100
"""The number of orders that a client may list at once."""

LISTED_ORDERS: Final = 50
"""The number of orders that are listed if the client names no limit."""

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


class InvalidRequestError(Exception):
    """A body or a query string that does not have the right shape; the message names the field or the parameter."""


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


class OrderLineBody(msgspec.Struct):
    """A product of an order, with the name and the price that it had when it was bought."""

    id: str
    name: str
    price: int | Decimal


class ListedOrderData(OrderData):
    """What was ordered, what it cost, and when it was placed and cancelled."""

    placed_at: datetime
    cancelled_at: datetime | None
    lines: list[OrderLineBody]


class ListedOrderBody(msgspec.Struct):
    """The id and data of an order in a list."""

    order_id: str
    data: ListedOrderData


class OrderList(msgspec.Struct):
    """Orders of one user, the last one first."""

    orders: list[ListedOrderBody]


@attrs.frozen
class OrdersQuery:
    """Which orders a client lists.

    :param user_id: the user who placed them, as in the query.
    :param limit: how many at most.
    :param before: the order id before which they were placed; None for the last ones.
    """

    user_id: str
    limit: int
    before: str | None


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


def read_orders_query(query: bytes) -> OrdersQuery:
    """Decode the query string of a request for the orders of a user. Unknown parameters are ignored.

    Bytes that are not UTF-8 become surrogates, which neither a user id nor an order id can contain.

    :raises InvalidRequestError: ``user_id`` is missing, ``limit`` is invalid, or there are too many parameters.
    """
    text = query.decode(errors="surrogateescape")
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_PARAMETERS
        )
    except ValueError as error:
        raise InvalidRequestError(f"Expected at most {MAX_PARAMETERS} parameters") from error
    parameters = dict(pairs)
    if "user_id" not in parameters:
        raise InvalidRequestError("Missing required parameter `user_id`")
    limit = parameters.get("limit", str(LISTED_ORDERS))
    # int() reads more than digits, such as "+5", "1_0" and "\u0663", and refuses numbers of thousands of digits.
    if not re.fullmatch("[1-9][0-9]{0,2}", limit) or int(limit) > MAX_LISTED_ORDERS:
        raise InvalidRequestError(f"Expected a whole number from 1 to {MAX_LISTED_ORDERS} - at `limit`")
    return OrdersQuery(parameters["user_id"], int(limit), parameters.get("before"))


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


def orders_body(orders: Iterable[Order]) -> bytes:
    """Encode a list of orders."""
    return encode(OrderList([_listed(order) for order in orders]))


def _listed(order: Order) -> ListedOrderBody:
    lines = [OrderLineBody(line.product_id, line.name, _number(line.price)) for line in order.lines]
    data = ListedOrderData(
        order.items,
        _number(order.total),
        placed_at=_in_seconds(order.placed_at),
        cancelled_at=None if order.cancelled is None else _in_seconds(order.cancelled.at),
        lines=lines,
    )
    return ListedOrderBody(order.order_id, data)


def _in_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def error_body(code: str, detail: str | None = None) -> bytes:
    """Encode an error."""
    return encode(ErrorResponse(code, msgspec.UNSET if detail is None else detail))


def health_body(status: Literal["ok", "read_only"] = "ok") -> bytes:
    """Encode what the service can do with its store."""
    return encode(HealthResponse(status))
