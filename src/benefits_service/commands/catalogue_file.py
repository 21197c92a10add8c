"""Catalogue files: JSON like the response of ``GET /api/products``, decoded into products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from benefits_core import InvalidValueError, Product
from benefits_http.wire import ProductBody, ProductList

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
    try:
        # Declaring Decimal built in keeps msgspec from converting a price in quotes.
        entries = msgspec.convert(_decode(file), ProductList, builtin_types=(Decimal,)).products
    except InvalidOperation as error:
        raise InvalidCatalogueError("A number is out of range") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
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
