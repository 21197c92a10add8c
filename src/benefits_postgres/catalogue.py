"""The catalogue: how it is read, and what was read last, for it is read all the time and hardly ever changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs

from benefits_core.errors import StorageUnavailableError
from benefits_core.model import Product, Signature
from benefits_core.values import from_cents
from benefits_postgres.connection import Database, Rows
from benefits_postgres.readers import Query, signature_from

SELECT_VERSION: Final = "SELECT CASE count(*) WHEN 1 THEN max(version::text) END FROM catalogue"
# The version and the products in one statement, so that both are of one moment.
SELECT_CATALOGUE: Final = f"""
    SELECT version, product_id, name, price
    FROM ({SELECT_VERSION}) AS catalogue(version) LEFT JOIN products ON retired_by IS NULL ORDER BY position
    """


@attrs.frozen
class Catalogue:
    """The products on offer.

    :param version: a random id, which is new with every change.
    :param products: in their order.
    :ivar by_id: by product id.
    """

    version: str
    products: tuple[Product, ...]
    by_id: Mapping[str, Product] = attrs.field(init=False)

    @by_id.default
    def _by_id(self) -> Mapping[str, Product]:
        return {product.product_id: product for product in self.products}


def catalogue_from(rows: Rows) -> Catalogue:
    """Return the catalogue that the rows of ``SELECT_CATALOGUE`` describe.

    :raises StorageUnavailableError: it has no version.
    """
    if rows[0][0] is None:
        raise StorageUnavailableError("the table catalogue is damaged; restore it from a backup")
    products = [Product(key, name, from_cents(price)) for _, key, name, price in rows if key is not None]
    return Catalogue(rows[0][0], tuple(products))


class CatalogueCache:
    """The catalogue as one connection has read it last."""

    def __init__(self) -> None:
        self._last = Catalogue("", ())

    def read(self, database: Database, version: Rows) -> Catalogue:
        """Return the catalogue. While nothing has changed, it is the same one.

        :param version: what ``SELECT_VERSION`` has returned on this connection.
        """
        if self._last.version != version[0][0]:
            [rows] = database.run(SELECT_CATALOGUE)
            self._last = catalogue_from(rows)
        return self._last


@attrs.frozen
class PostgresProductReader:
    """The catalogue, and the products that were retired."""

    _query: Query
    _catalogue: Callable[[], Catalogue]

    def list_all(self) -> tuple[Product, ...]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        return self._catalogue().products

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        by_id = self._catalogue().by_id
        return {product_id: by_id[product_id] for product_id in product_ids if product_id in by_id}

    def retired(self) -> Mapping[str, Signature]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        rows = self._query(
            "SELECT product_id, retired_by, retired_at AT TIME ZONE 'UTC', retired_note FROM products"
            " WHERE retired_by IS NOT NULL"
        )
        return {product_id: signature_from(*signature) for product_id, *signature in rows}
