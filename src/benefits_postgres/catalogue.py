"""The catalogue as it was read last: it is read all the time, and hardly ever changes."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from benefits_core.errors import StorageUnavailableError
from benefits_core.model import Product
from benefits_postgres.connection import Database, Rows
from benefits_postgres.readers import SELECT_CATALOGUE, product_from

SELECT_VERSION = "SELECT version FROM catalogue"


@attrs.define
class Catalogue:
    """What one connection has read of the catalogue."""

    _known: tuple[int, int] = (0, 0)  # which opening of the connection, and which version
    _products: tuple[Product, ...] = ()
    _by_id: Mapping[str, Product] = attrs.field(factory=dict)

    def products(self, database: Database, version: Rows) -> tuple[Product, ...]:
        """Return the products in their order, read again if they have changed.

        :param version: what ``SELECT_VERSION`` has returned on this connection.
        """
        self._refresh(database, version)
        return self._products

    def by_id(self, database: Database, version: Rows) -> Mapping[str, Product]:
        """Return the products by id. See :meth:`products`."""
        self._refresh(database, version)
        return self._by_id

    def _refresh(self, database: Database, version: Rows) -> None:
        if len(version) != 1:
            raise StorageUnavailableError("the table catalogue is damaged; restore it from a backup")
        # Another server, which answers after a failover, may have counted otherwise.
        if self._known != (database.opened, version[0][0]):
            [rows] = database.run(SELECT_CATALOGUE)
            self._products = tuple([product_from(row[1:]) for row in rows if row[1] is not None])
            self._by_id = {product.product_id: product for product in self._products}
            self._known = database.opened, rows[0][0]
