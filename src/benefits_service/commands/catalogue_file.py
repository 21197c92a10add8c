"""Catalogue files: JSON like the response of ``GET /api/products``, decoded into products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from benefits_core import InvalidValueError, Product
from benefits_http.wire import ProductBody, ProductList
from benefits_service.commands.text_files import InvalidFileError, decode

_decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode


def read_catalogue(
    file: bytes, progress: Callable[[list[ProductBody]], Iterable[ProductBody]] = iter
) -> list[Product]:
    """Decode a catalogue file.

    :param file: the content of the file.
    :param progress: receives the entries and yields each of them, such as a progress bar.
    :raises InvalidFileError: the content is not a catalogue, or an entry is not a valid product.
    """
    try:
        # Declaring Decimal built in keeps msgspec from converting a price in quotes.
        entries = msgspec.convert(_decode(decode(file)), ProductList, builtin_types=(Decimal,)).products
    except InvalidOperation as error:
        raise InvalidFileError("A number is out of range") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidFileError(str(error)) from error
    products: dict[str, Product] = {}
    for index, entry in enumerate(progress(entries)):
        try:
            product = Product(entry.id, entry.name, Decimal(entry.price))
        except InvalidValueError as error:
            raise InvalidFileError(f"{error} - at `$.products[{index}]`") from error
        if product.product_id in products:
            raise InvalidFileError(f"The id {entry.id!r} occurs twice - at `$.products[{index}]`")
        products[product.product_id] = product
    return list(products.values())
