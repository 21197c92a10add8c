"""Reading: the queries, and how rows become values. It knows no connections and no transactions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol

import attrs

from benefits_core.errors import StorageUnavailableError
from benefits_core.model import Order, OrderLine, Product, Signature, User
from benefits_core.values import from_cents

# SQLite allows some 32,000 parameters a statement; no order comes near this many items.
_IDS_PER_QUERY: Final = 1000

SELECT_USER: Final = """
    SELECT users.user_number, opening_balance, balance, product_id
    FROM users LEFT JOIN order_lines USING (user_number)
    WHERE user_id = ?
    ORDER BY order_number, position
    """
_SELECT_USERS: Final = """
    SELECT user_id, page.user_number, opening_balance, balance, product_id
    FROM (SELECT * FROM users WHERE user_id > ? ORDER BY user_id LIMIT ?) AS page
    LEFT JOIN order_lines USING (user_number)
    ORDER BY user_id, order_number, position
    """
_SELECT_PRODUCTS: Final = "SELECT product_id, name, price FROM products WHERE retired_by IS NULL"
_SELECT_RETIRED: Final = """
    SELECT product_id, retired_by, retired_at, retired_note FROM products WHERE retired_by IS NOT NULL
    """
_SELECT_VERSION: Final = "SELECT version FROM catalogue"
_SELECT_ORDERS: Final = """
    SELECT orders.order_number, user_id, placed_at, product_id, price
    FROM orders, users, order_lines AS lines
    WHERE orders.user_number = users.user_number
      AND lines.user_number = users.user_number
      AND lines.order_number = orders.order_number
      AND {} = ?
    ORDER BY orders.order_number, lines.position
    """
_SELECT_ORDER: Final = _SELECT_ORDERS.format("orders.order_number")
_SELECT_ORDERS_OF: Final = _SELECT_ORDERS.format("users.user_id")
# CROSS JOIN keeps SQLite from another sequence than this one, in which each row is found by an index.
_SELECT_PAGE_OF_ORDERS: Final = """
    SELECT page.order_number, user_id, placed_at, product_id, price
    FROM (SELECT * FROM orders WHERE order_number > ? ORDER BY order_number LIMIT ?) AS page
    CROSS JOIN users USING (user_number)
    CROSS JOIN order_lines AS lines
    WHERE lines.user_number = page.user_number AND lines.order_number = page.order_number
    ORDER BY page.order_number, lines.position
    """


class Query(Protocol):
    """Runs a statement."""

    def __call__(self, sql: str, parameters: Sequence[object] = (), /) -> list[tuple[Any, ...]]:
        """Return the rows; raise the core's errors, not SQLite's."""
        ...


def user_from(user_id: str, rows: list[tuple[Any, ...]]) -> User:
    """Return the user whom the rows of ``SELECT_USER`` describe; there is at least one."""
    _, opening_balance, balance, first = rows[0]
    owned = () if first is None else tuple([product_id for *_, product_id in rows])
    return User(user_id, from_cents(opening_balance), from_cents(balance), owned)


def _product(row: tuple[Any, ...]) -> Product:
    product_id, name, price = row
    return Product(product_id, name, from_cents(price))


def _orders(rows: list[tuple[Any, ...]]) -> tuple[Order, ...]:
    return tuple(
        Order(
            str(number),
            user_id,
            tuple(OrderLine(product_id, from_cents(price)) for *_, product_id, price in lines),
            datetime.fromisoformat(placed_at),
        )
        for (number, user_id, placed_at), lines in groupby(rows, key=itemgetter(0, 1, 2))
    )


@attrs.frozen
class SqliteUserReader:
    """Users, read from their table."""

    _query: Query

    def get(self, user_id: str) -> User | None:
        """See :class:`~benefits_core.ports.UserReader`."""
        rows = self._query(SELECT_USER, (user_id,))
        return user_from(user_id, rows) if rows else None

    def page(self, limit: int, *, after: str | None = None) -> tuple[User, ...]:
        """See :class:`~benefits_core.ports.UserReader`."""
        rows = self._query(_SELECT_USERS, (after or "", limit))
        return tuple(
            user_from(user_id, [row[1:] for row in rows_of_user])
            for user_id, rows_of_user in groupby(rows, key=itemgetter(0))
        )


@attrs.frozen
class SqliteProductReader:
    """The catalogue, read from its table."""

    _query: Query

    def list_all(self) -> tuple[Product, ...]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        return tuple(map(_product, self._query(f"{_SELECT_PRODUCTS} ORDER BY position")))

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        # A lone surrogate is in no catalogue, and SQLite takes no such string.
        wanted = [text for text in product_ids if not re.search("[\ud800-\udfff]", text)]
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            some = wanted[start : start + _IDS_PER_QUERY]
            marks = ", ".join("?" * len(some))
            rows += self._query(f"{_SELECT_PRODUCTS} AND product_id IN ({marks})", some)
        return {product.product_id: product for product in map(_product, rows)}

    def retired(self) -> Mapping[str, Signature]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        return {
            product_id: Signature(by, datetime.fromisoformat(at), note)
            for product_id, by, at, note in self._query(_SELECT_RETIRED)
        }


def catalogue_row(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return the only row of the table ``catalogue``.

    :raises StorageUnavailableError: it has none, or several: another program has changed it.
    """
    if len(rows) != 1:
        raise StorageUnavailableError("the table catalogue is damaged; restore the file from a backup")
    return rows[0]


@attrs.define
class LastCatalogue:
    """The catalogue as it was read last, with its version: it is read all the time, and hardly ever changes."""

    known: tuple[int | None, tuple[Product, ...]] = (None, ())


@attrs.frozen
class SqliteCatalogueReader(SqliteProductReader):
    """The catalogue, read again only when it has changed."""

    _last: LastCatalogue

    def list_all(self) -> tuple[Product, ...]:
        """See :class:`~benefits_core.ports.ProductReader`. While nothing changes, it is the same tuple."""
        version = self._version()
        known, products = self._last.known
        if version != known:
            products = super().list_all()
            # If it has changed between the two queries, these products may be of either version.
            if self._version() == version:
                self._last.known = version, products
        return products

    def _version(self) -> int:
        [version] = catalogue_row(self._query(_SELECT_VERSION))
        return int(version)


@attrs.frozen
class SqliteOrderReader:
    """The order book, read from its tables."""

    _query: Query

    def get(self, order_id: str) -> Order | None:
        """See :class:`~benefits_core.ports.OrderReader`."""
        number = int(order_id) if re.fullmatch("[1-9][0-9]{0,17}", order_id) else 0  # which no order has
        rows = self._query(_SELECT_ORDER, (number,))
        return _orders(rows)[0] if rows else None

    def of_user(self, user_id: str) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        return _orders(self._query(_SELECT_ORDERS_OF, (user_id,)))

    def page(self, limit: int, *, after: str | None = None) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        return _orders(self._query(_SELECT_PAGE_OF_ORDERS, (int(after or 0), limit)))
