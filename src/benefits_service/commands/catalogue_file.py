"""Catalogue files: JSON like the response of ``GET /api/products``, decoded into products."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from benefits_core import InvalidValueError, Product
from benefits_http.wire import ProductBody, ProductList

MAX_FILE_BYTES: Final = 64 << 20
"""How long a catalogue file may be: several hundred thousand products."""

# Of the four bytes of an ASCII character.
_ZEROS_IN_UTF_32: Final = 3

_decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode


class InvalidCatalogueError(Exception):
    """A file that is no catalogue; the message names the entry and the reason."""


def read_catalogue(
    file: bytes, progress: Callable[[list[ProductBody]], Iterable[ProductBody]] = iter
) -> list[Product]:
    """Decode a catalogue file.

    :param file: the content of the file.
    :param progress: receives the entries and yields each of them, such as a progress bar.
    :raises InvalidCatalogueError: the content is not a catalogue, or an entry is not a valid product.
    """
    if len(file) > MAX_FILE_BYTES:
        raise InvalidCatalogueError(f"it is longer than {MAX_FILE_BYTES >> 20} MiB")
    try:
        # Declaring Decimal built in keeps msgspec from converting a price in quotes.
        entries = msgspec.convert(_decode(_text(file)), ProductList, builtin_types=(Decimal,)).products
    except InvalidOperation as error:
        raise InvalidCatalogueError("A number is out of range") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidCatalogueError(str(error)) from error
    products: dict[str, Product] = {}
    for index, entry in enumerate(progress(entries)):
        try:
            product = Product(entry.id, entry.name, Decimal(entry.price))
        except InvalidValueError as error:
            raise InvalidCatalogueError(f"{error} - at `$.products[{index}]`") from error
        if product.product_id in products:
            raise InvalidCatalogueError(f"The id {entry.id!r} occurs twice - at `$.products[{index}]`")
        products[product.product_id] = product
    return list(products.values())


def _text(file: bytes) -> str:
    """Return the text of a file in UTF-8. It may begin with a byte order mark, as editors on Windows write it."""
    encoding = _wide_encoding(file)
    if encoding is not None:
        raise InvalidCatalogueError(f"It is encoded in {encoding}; save it as UTF-8")
    try:
        return file.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidCatalogueError(
            f"Line {line} is not UTF-8: byte 0x{error.object[error.start]:02X}; save it as UTF-8"
        ) from error


def _wide_encoding(file: bytes) -> str | None:
    """Return "UTF-16" or "UTF-32" if the file has that encoding; otherwise None.

    Without a byte order mark, the zero bytes tell it: JSON begins with ASCII characters (RFC 4627, section 3).
    """
    zeros = tuple(byte == 0 for byte in file[:4])
    # First UTF-32: its byte order mark in little-endian order begins with that of UTF-16.
    if file.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or zeros.count(True) == _ZEROS_IN_UTF_32:
        return "UTF-32"
    if file.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or True in zeros[:2]:
        return "UTF-16"
    return None
