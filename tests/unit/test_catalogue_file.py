"""Catalogue files: valid ones are read exactly, others are refused."""

from __future__ import annotations

import codecs
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benefits_core import Product
from benefits_core.values import from_cents
from benefits_http.wire import products_body
from benefits_service.commands.catalogue_file import read_catalogue
from benefits_service.commands.text_files import InvalidFileError


def test_prices_are_read_exactly_and_products_keep_their_order() -> None:
    body = b"""{"about": "ours", "products": [
        {"id": "netflix", "name": "Netflix", "price": 75.99, "colour": "red"},
        {"id": "gym", "name": "Gym", "price": 60},
        {"id": "gold", "name": "Gold", "price": 9999999999.99},
        {"id": "bike", "name": "Bike", "price": 5E2},
        {"id": "vaccination", "name": "Flu vaccination", "price": 0}
    ]}"""
    assert read_catalogue(body) == [
        Product("netflix", "Netflix", Decimal("75.99")),
        Product("gym", "Gym", Decimal(60)),
        Product("gold", "Gold", Decimal("9999999999.99")),
        Product("bike", "Bike", Decimal(500)),
        Product("vaccination", "Flu vaccination", Decimal(0)),
    ]


def test_a_catalogue_may_be_empty() -> None:
    assert read_catalogue(b'{"products":[]}') == []


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        (
            b'{"id":"b","name":"B","price":"5"}',
            r"Expected `int \| decimal`, got `str` - at `\$\.products\[1\]\.price`",
        ),
        (b'{"id":"b","name":"B","price":true}', r"got `bool` - at `\$\.products\[1\]\.price`"),
        (b'{"id":"b","name":"B"}', r"missing required field `price` - at `\$\.products\[1\]`"),
        (b'{"id":7,"name":"B","price":5}', r"Expected `str`, got `int` - at `\$\.products\[1\]\.id`"),
        (
            b'{"id":"b","name":"B","price":5.005}',
            r"price must be .*Decimal\('5\.005'\) - at `\$\.products\[1\]`",
        ),
        (b'{"id":"b","name":"B","price":-1}', r"price must be .* - at `\$\.products\[1\]`"),
        (b'{"id":"b","name":"B","price":1e400}', r"price must be .* - at `\$\.products\[1\]`"),
        (b'{"id":"","name":"B","price":5}', r"product_id must be .*'' - at `\$\.products\[1\]`"),
        (b'{"id":"b","name":"a\\nb","price":5}', r"name must be .* - at `\$\.products\[1\]`"),
        (b'{"id":"a","name":"B","price":5}', r"'a' occurs twice - at `\$\.products\[1\]`"),
        (b"7", r"Expected `object`, got `int` - at `\$\.products\[1\]`"),
    ],
)
def test_the_error_names_the_first_invalid_entry(entry: bytes, detail: str) -> None:
    body = b'{"products":[{"id":"a","name":"A","price":5},' + entry + b',{"id":"","name":"","price":-1}]}'
    with pytest.raises(InvalidFileError, match=detail):
        read_catalogue(body)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"products":{}}', b'{"products":["\xff"]}', b"[" * 65_536]
)
def test_a_file_that_is_not_a_catalogue_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidFileError, match=r"."):
        read_catalogue(body)


CATALOGUE = '{"products": [\n  {"id": "cafe", "name": "Café", "price": 5}\n]}\n'


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["without", "with"])
@pytest.mark.parametrize(
    "text", [CATALOGUE, "\r\n " + CATALOGUE.replace("\n", "\r\n")], ids=["unix", "windows"]
)
def test_a_file_with_a_byte_order_mark_is_read(mark: bytes, text: str) -> None:
    assert read_catalogue(mark + text.encode()) == [Product("cafe", "Café", Decimal(5))]


@pytest.mark.parametrize("space", ["", " ", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["without a mark", "with a mark"])
@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-32"])
def test_a_file_in_a_wide_encoding_is_refused_by_its_name(
    encoding: str, order: str, mark: str, space: str
) -> None:
    file = (mark + space + CATALOGUE).encode(f"{encoding}-{order}")
    with pytest.raises(InvalidFileError, match=f"It is encoded in {encoding}; save it as UTF-8"):
        read_catalogue(file)


@pytest.mark.parametrize("file", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, "\ufeff{}".encode("utf-16-le")])
def test_a_short_file_in_utf_16_is_refused_by_its_name(file: bytes) -> None:
    with pytest.raises(InvalidFileError, match="It is encoded in UTF-16"):
        read_catalogue(file)


@pytest.mark.parametrize(
    ("encoding", "byte"), [("latin-1", "E9"), ("cp1252", "E9"), ("cp850", "82"), ("mac-roman", "8E")]
)
def test_the_error_names_the_line_that_is_not_utf_8(encoding: str, byte: str) -> None:
    with pytest.raises(InvalidFileError, match=f"Line 2 is not UTF-8: byte 0x{byte}; save it as UTF-8"):
        read_catalogue(CATALOGUE.encode(encoding))


def test_a_file_that_was_cut_inside_a_character_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="Line 2 is not UTF-8: byte 0xC3"):
        read_catalogue(CATALOGUE.encode().partition(b"\xa9")[0])


def test_a_file_of_nothing_but_a_byte_order_mark_is_not_a_catalogue() -> None:
    with pytest.raises(InvalidFileError, match="truncated"):
        read_catalogue(codecs.BOM_UTF8)


@given(st.integers(0, 999_999_999_999))
def test_the_api_sends_each_price_in_its_shortest_form_and_a_file_of_it_is_read_exactly(cents: int) -> None:
    product = Product("a", "A", from_cents(cents))
    body = products_body([product])
    assert re.search(rb'"price":(0|[1-9]\d*)(\.\d?[1-9])?}', body)
    assert read_catalogue(body) == [product]
