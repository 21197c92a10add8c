"""The wire format: exact JSON out, strictly decoded JSON in."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_UP, Context, Decimal, localcontext
from typing import Any

import pytest

from benefits_core import Order, OrderLine, Product, Signature, User
from benefits_http import wire

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "number"),
    [
        ("0", b"0"),
        ("0.01", b"0.01"),
        ("0.1", b"0.1"),
        ("10", b"10"),
        ("75.50", b"75.5"),
        ("75.99", b"75.99"),
        ("5E+2", b"500"),
        ("500.00", b"500"),
        ("9999999999.99", b"9999999999.99"),
        ("9999999999.00", b"9999999999"),
    ],
)
def test_money_is_encoded_as_the_shortest_exact_number(amount: str, number: bytes) -> None:
    money = Decimal(amount)
    order = Order("1", "johndoe", (OrderLine("a", "A", money),), NOW)
    assert wire.user_body(User("johndoe", money)) == (
        b'{"user":{"user_id":"johndoe","data":{"balance":%b,"product_ids":[]}}}' % number
    )
    assert wire.products_body([Product("a", "A", money)]) == (
        b'{"products":[{"id":"a","name":"A","price":%b}]}' % number
    )
    assert wire.order_body(order) == b'{"order":{"order_id":"1","data":{"items":["a"],"total":%b}}}' % number


def test_money_on_the_wire_is_exact_in_any_decimal_context() -> None:
    products = [Product("a", "A", Decimal("75.99")), Product("b", "B", Decimal("9999999999.99"))]
    with localcontext(Context(prec=1, rounding=ROUND_UP, Emax=1)):
        body = wire.products_body(products)
        assert re.findall(rb'"price":([^}]+)', body) == [b"75.99", b"9999999999.99"]


def test_lists_keep_their_order_and_names_their_characters() -> None:
    user = User("José/😀", Decimal(0), ("b", "a"))
    assert wire.user_body(user).decode() == (
        '{"user":{"user_id":"José/😀","data":{"balance":0,"product_ids":["b","a"]}}}'
    )
    lines = (OrderLine("b", "B", Decimal("75.99")), OrderLine("a", "A", Decimal("45.99")))
    assert wire.order_body(Order("7", "johndoe", lines, NOW)) == (
        b'{"order":{"order_id":"7","data":{"items":["b","a"],"total":121.98}}}'
    )
    products = [Product("b", 'The "B"', Decimal(1)), Product("a", "A", Decimal(0))]
    assert [product["id"] for product in json.loads(wire.products_body(products))["products"]] == ["b", "a"]


def test_an_error_without_a_detail_has_no_such_field() -> None:
    assert wire.error_body("products_not_found") == b'{"error":"products_not_found"}'
    assert wire.error_body("invalid_request", "Why") == b'{"error":"invalid_request","detail":"Why"}'


def _order(*, items: Any = ("netflix",), user_id: Any = "johndoe") -> bytes:
    return json.dumps({"order": {"items": items, "user_id": user_id}}).encode()


def _with_extra(field: bytes) -> bytes:
    return b'{"order":{"items":["netflix"],"user_id":"johndoe"},' + field + b"}"


DECODED = wire.OrderDraft(items=["netflix"], user_id="johndoe")


def test_an_order_is_decoded() -> None:
    body = b' {"order": {"items": ["a", "", "a", "\\u00e9"], "user_id": " Jos\xc3\xa9 "}}\n'
    assert wire.read_order(body) == wire.OrderDraft(items=["a", "", "a", "é"], user_id=" José ")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (_order(items=[7]), "Expected `str`, got `int` - at `$.order.items[0]`"),
        (_order(items=["a", 7.5]), "Expected `str`, got `float` - at `$.order.items[1]`"),
        (_order(items=["a", None]), "Expected `str`, got `null` - at `$.order.items[1]`"),
        (_order(items=[["a"]]), "Expected `str`, got `array` - at `$.order.items[0]`"),
        (_order(items="netflix"), "Expected `array`, got `str` - at `$.order.items`"),
        (_order(items=None), "Expected `array`, got `null` - at `$.order.items`"),
        (_order(items={}), "Expected `array`, got `object` - at `$.order.items`"),
        (_order(items=["a"] * 101), "Expected `array` of length <= 100 - at `$.order.items`"),
        (_order(user_id=7), "Expected `str`, got `int` - at `$.order.user_id`"),
        (_order(user_id=True), "Expected `str`, got `bool` - at `$.order.user_id`"),
        (_order(user_id=None), "Expected `str`, got `null` - at `$.order.user_id`"),
        (b'{"order":{"items":[1e999],"user_id":"j"}}', "Expected `str`, got `float` - at `$.order.items[0]`"),
        (b'{"order":{"user_id":"j"}}', "Object missing required field `items` - at `$.order`"),
        (b'{"order":{"items":[]}}', "Object missing required field `user_id` - at `$.order`"),
        (b'{"order":[]}', "Expected `object`, got `array` - at `$.order`"),
        (b"{}", "Object missing required field `order`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
    ],
)
def test_a_body_of_another_shape_is_refused_and_the_error_names_the_field(body: bytes, detail: str) -> None:
    with pytest.raises(wire.InvalidRequestError) as refusal:
        wire.read_order(body)
    assert str(refusal.value) == detail


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"order",
        _order() + b" x",
        _order()[:-1],
        b"\xef\xbb\xbf" + _order(),
        _order().decode().encode("utf-16"),
        _order().decode().encode("utf-16-le"),
        _order().replace(b"netflix", b"\xff"),
        _order().replace(b"johndoe", b"\xed\xa0\x80"),
        _order().replace(b"johndoe", b"\\ud800"),
        _order().replace(b"johndoe", b"a\nb"),
        _with_extra(b'"note":"\xff"'),
        _with_extra(b'"\xff":1'),
        _with_extra(b'"note":{"deep":["\xc0\xaf"]}'),
        _with_extra(b'"note":NaN'),
        _with_extra(b'"note":' + b"[" * 20_000 + b"]" * 20_000),
        b'{"order":' * 5_000,
        b"[" * 65_536,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_a_body_that_is_not_json_in_utf_8_is_refused_even_in_unknown_fields(body: bytes) -> None:
    with pytest.raises(wire.InvalidRequestError, match=r"."):
        wire.read_order(body)


@pytest.mark.parametrize(
    "field",
    [
        b'"note":"please"',
        b'"note":1e999',
        b'"note":-1e-999',
        b'"note":123456789012345678901234567890',
        b'"note":' + b"1" * 5000 + b".5",
        b'"note":' + b"[" * 50 + b"]" * 50,
        b'"":null',
    ],
    ids=lambda field: repr(field[:40]),
)
def test_unknown_extra_fields_are_ignored(field: bytes) -> None:
    assert wire.read_order(_with_extra(field)) == DECODED
    nested = b'{"order":{"items":["netflix"],"user_id":"johndoe",' + field + b"}}"
    assert wire.read_order(nested) == DECODED


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (b"121.98", "121.98"),
        (b"121.97999999999999", "121.98"),
        (b"75.990000000000009", "75.99"),
        (b"0.014", "0.01"),
        (b"500", "500.00"),
        (b"5e2", "500.00"),
        (b"-0.0", "0.00"),
        (b"-1", "-1.00"),
        (b"9999999999.99", "9999999999.99"),
        (b"999999999999.99", "999999999999.99"),
        (b"1e300", "1E+300"),
        (b"1e999", "Infinity"),
        (b"9" * 40, None),
    ],
)
def test_an_expected_total_is_rounded_to_cents(number: bytes, expected: str | None) -> None:
    """A browser adds 75.99 and 45.99 to 121.97999999999999. What no order can cost stays what it is: another number."""
    draft = wire.read_order(b'{"order": {"items": [], "user_id": "jo", "expected_total": ' + number + b"}}")
    with localcontext(Context(prec=1)):
        total = wire.expected_total(draft)
    assert total == Decimal(expected or number.decode())


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b'"121.98"', "Expected `int | float`, got `str` - at `$.order.expected_total`"),
        (b"null", "Expected `int | float`, got `null` - at `$.order.expected_total`"),
        (b"true", "Expected `int | float`, got `bool` - at `$.order.expected_total`"),
        (b"[1]", "Expected `int | float`, got `array` - at `$.order.expected_total`"),
        (b"NaN", "JSON is malformed"),
    ],
)
def test_an_expected_total_is_a_number(value: bytes, detail: str) -> None:
    with pytest.raises(wire.InvalidRequestError, match=re.escape(detail)):
        wire.read_order(b'{"order": {"items": [], "user_id": "jo", "expected_total": ' + value + b"}}")


def test_an_order_need_not_expect_a_total() -> None:
    assert wire.expected_total(wire.read_order(b'{"order": {"items": [], "user_id": "jo"}}')) is None


def test_a_hundred_items_are_decoded_with_repeats() -> None:
    assert wire.read_order(_order(items=["a"] * 100)).items == ["a"] * 100


@pytest.mark.parametrize(
    "body",
    [
        b'{"order":7,"order":{"items":["netflix"],"user_id":"johndoe"}}',
        b'{"order":{"items":7,"user_id":7,"items":["a"],"user_id":"johndoe","items":["netflix"]}}',
        b'{"order":{"items":["netflix"],"user_id":"jane","user\\u005fid":"johndoe"}}',
    ],
)
def test_the_last_of_a_key_given_twice_counts(body: bytes) -> None:
    assert wire.read_order(body) == DECODED


def test_the_last_of_a_key_given_twice_counts_even_if_it_is_wrong() -> None:
    with pytest.raises(wire.InvalidRequestError, match=r"at `\$\.order`$"):
        wire.read_order(_with_extra(b'"order":7'))


def test_brackets_in_strings_nest_nothing() -> None:
    many = '["\\"]' * 20
    body = json.dumps({"order": {"items": [many, "{" * 300], "user_id": "jo"}, "more": [[]] * 200}).encode()
    assert wire.read_order(body).items == [many, "{" * 300]


@pytest.mark.parametrize("more", [b"[" * 200, b"[" * 200 + b"]" * 200, b'{"a":' * 200 + b"1" + b"}" * 200])
def test_nesting_in_an_unknown_field_is_limited(more: bytes) -> None:
    with pytest.raises(wire.InvalidRequestError, match="nested too deeply"):
        wire.read_order(b'{"order":{"items":["a"],"user_id":"jo"},"more":' + more + b"}")


def test_listed_orders_have_their_lines_and_times_in_whole_seconds() -> None:
    lines = (OrderLine("b", 'The "B"', Decimal("75.50")), OrderLine("a", "É", Decimal(0)))
    moment = datetime(2026, 11, 27, 18, 12, 3, 999_999, tzinfo=timezone(timedelta(hours=9)))
    placed = Order("12", "jo", lines, moment)
    cancelled = Order("7", "jo", lines[1:], NOW, Signature("Al", moment, "a mistake"))

    assert wire.orders_body([placed, cancelled]).decode() == (
        '{"orders":[{"order_id":"12","data":{"items":["b","a"],"total":75.5,"placed_at":"2026-11-27T09:12:03Z",'
        '"cancelled_at":null,"lines":[{"id":"b","name":"The \\"B\\"","price":75.5},{"id":"a","name":"É","price":0}]}},'
        '{"order_id":"7","data":{"items":["a"],"total":0,"placed_at":"2026-01-02T00:00:00Z",'
        '"cancelled_at":"2026-11-27T09:12:03Z","lines":[{"id":"a","name":"É","price":0}]}}]}'
    )
    assert wire.orders_body([]) == b'{"orders":[]}'


@pytest.mark.parametrize("year", [1, 1999, 9999])
def test_times_of_any_year_are_encoded(year: int) -> None:
    order = Order("1", "jo", (OrderLine("a", "A", Decimal(0)),), datetime(year, 1, 2, tzinfo=UTC))

    assert b'"placed_at":"%04d-01-02T00:00:00Z"' % year in wire.orders_body([order])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"user_id=jo", wire.OrdersQuery("jo", 50, None)),
        (b"limit=100&user_id=+J%6F+Do%65&before=12&x=y", wire.OrdersQuery(" Jo Doe", 100, "12")),
        ("user_id=José&before=é".encode(), wire.OrdersQuery("José", 50, "é")),
        (b"user_id=&limit=1&before=", wire.OrdersQuery("", 1, "")),
        (b"user_id=a&limit=0&user_id=b&limit=7", wire.OrdersQuery("b", 7, None)),
        (b"user_id=\xff%FF%C3%A9", wire.OrdersQuery("\udcff\udcffé", 50, None)),
    ],
)
def test_a_query_for_orders_is_decoded(query: bytes, expected: wire.OrdersQuery) -> None:
    assert wire.read_orders_query(query) == expected


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        (b"", "Missing required parameter `user_id`"),
        (b"limit=101", "Missing required parameter `user_id`"),
        (b"user_id=jo&limit=101", "Expected a whole number from 1 to 100 - at `limit`"),
        (b"user_id=jo&limit=", "Expected a whole number from 1 to 100 - at `limit`"),
        (b"user_id=jo&limit=\xff", "Expected a whole number from 1 to 100 - at `limit`"),
        (b"user_id=jo&limit=" + b"9" * 5000, "Expected a whole number from 1 to 100 - at `limit`"),
        (b"user_id=jo" + b"&" * 100, "Expected at most 100 parameters"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_an_invalid_query_for_orders_is_refused_and_the_error_names_the_parameter(
    query: bytes, detail: str
) -> None:
    with pytest.raises(wire.InvalidRequestError) as refusal:
        wire.read_orders_query(query)
    assert str(refusal.value) == detail
