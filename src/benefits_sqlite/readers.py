"""Reading: the queries, and how rows become values. It knows no connections and no transactions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol

import attrs

from benefits_core.errors import StorageUnavailableError
from benefits_core.model import Grant, Order, OrderLine, Product, Signature, User
from benefits_core.values import from_cents

# SQLite allows some 32,000 parameters a statement; longer lists take several queries.
_VALUES_PER_QUERY: Final = 1000

SELECT_USER: Final = """
    SELECT users.user_number, balance, product_id
    FROM users LEFT JOIN order_lines USING (user_number)
    WHERE user_id = ?
    ORDER BY order_number, position
    """
_SELECT_USERS: Final = """
    SELECT user_id, found.user_number, balance, product_id
    FROM (SELECT * FROM users WHERE {}) AS found LEFT JOIN order_lines USING (user_number)
    ORDER BY user_id, order_number, position
    """
_SELECT_PAGE_OF_USERS: Final = _SELECT_USERS.format("user_id > ? ORDER BY user_id LIMIT ?")
SELECT_THESE_USERS: Final = _SELECT_USERS.format("user_id IN ({})")
_SELECT_PRODUCTS: Final = "SELECT product_id, name, price FROM products WHERE retired_by IS NULL"
_SELECT_RETIRED: Final = """
    SELECT product_id, retired_by, retired_at, retired_note FROM products WHERE retired_by IS NOT NULL
    """
_SELECT_VERSION: Final = "SELECT version FROM catalogue"
_SELECT_GRANTS: Final = """
    SELECT user_id, reference, amount, given_by, given_at, note FROM users JOIN grants USING (user_number)
    WHERE user_id = ? ORDER BY position
    """
_SELECT_GRANTS_OF_REFERENCE: Final = """
    SELECT user_id, reference, amount, given_by, given_at, note FROM users JOIN grants USING (user_number)
    WHERE reference = ? AND user_id IN ({})
    """
_SELECT_SUMS: Final = "SELECT user_id, granted FROM users WHERE user_id IN ({})"

# The lines of cancelled orders are in a table of their own. CROSS JOIN keeps SQLite from another sequence than this one, in
# which each row is found by an index.
_SELECT_LINES: Final = """
    SELECT found.order_number, user_id, placed_at, cancelled_by, cancelled_at, cancelled_note,
           product_id, name, price, position
    FROM found CROSS JOIN users USING (user_number) CROSS JOIN {} AS lines
    WHERE lines.user_number = found.user_number AND lines.order_number = found.order_number
    """


def _select_orders(found: str, *, descending: bool = False) -> str:
    """Return a query for the lines of orders.

    :param found: a query for rows of the table of orders.
    """
    return f"""
        WITH found AS MATERIALIZED ({found})
        {_SELECT_LINES.format("order_lines")}
        UNION ALL
        {_SELECT_LINES.format("cancelled_lines")} AND cancelled_at IS NOT NULL
        ORDER BY 1 {"DESC" if descending else ""}, position
        """


# A user's orders are found by their lines, for there is no index of orders by user.
_NUMBERS_OF_USER: Final = """
    SELECT order_number FROM users JOIN {} USING (user_number) WHERE user_id = ?
    """
_ORDERS_OF_USER: Final = f"""
    SELECT * FROM orders WHERE order_number < ? AND order_number IN (
        {_NUMBERS_OF_USER.format("order_lines")} UNION {_NUMBERS_OF_USER.format("cancelled_lines")}
    ) ORDER BY order_number DESC LIMIT ?
    """  # noqa: S608 - our own texts
_SELECT_ORDER: Final = _select_orders("SELECT * FROM orders WHERE order_number = ?")
_SELECT_LATEST: Final = _select_orders(_ORDERS_OF_USER, descending=True)
_SELECT_PAGE_OF_ORDERS: Final = _select_orders(
    "SELECT * FROM orders WHERE order_number > ? ORDER BY order_number LIMIT ?"
)
_ALL: Final = 2**63 - 1


class Query(Protocol):
    """Runs a statement."""

    def __call__(self, sql: str, parameters: Sequence[object] = (), /) -> list[tuple[Any, ...]]:
        """Return the rows; raise the core's errors, not SQLite's."""
        ...


def user_from(user_id: str, rows: list[tuple[Any, ...]]) -> User:
    """Return the user whom the rows of ``SELECT_USER`` describe; there is at least one."""
    _, balance, first = rows[0]
    owned = () if first is None else tuple([product_id for *_, product_id in rows])
    return User(user_id, from_cents(balance), owned)


def users_from(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, User]]:
    """Return the primary key and the user for each whom rows like those of ``SELECT_THESE_USERS`` describe."""
    for user_id, rows_of_user in groupby(rows, key=itemgetter(0)):
        described = [row[1:] for row in rows_of_user]
        yield described[0][0], user_from(user_id, described)


def _signature(by: str, at: str, note: str) -> Signature:
    return Signature(by, datetime.fromisoformat(at), note)


def _grant(row: tuple[Any, ...]) -> Grant:
    user_id, reference, amount, *signature = row
    return Grant(user_id, reference, from_cents(amount), _signature(*signature))


def _product(row: tuple[Any, ...]) -> Product:
    product_id, name, price = row
    return Product(product_id, name, from_cents(price))


def _orders(rows: list[tuple[Any, ...]]) -> tuple[Order, ...]:
    return tuple(
        Order(
            str(number),
            user_id,
            tuple([OrderLine(row[6], row[7], from_cents(row[8])) for row in lines]),
            datetime.fromisoformat(placed_at),
            None if by is None else _signature(by, at, note),
        )
        for (number, user_id, placed_at, by, at, note), lines in groupby(rows, key=itemgetter(*range(6)))
    )


def _bindable(text: str) -> str | bytes:
    """Return any string as a parameter of a statement."""
    # SQLite takes no string with a lone surrogate, and has none. A blob is equal to no text.
    return text.encode(errors="surrogatepass") if re.search("[\ud800-\udfff]", text) else text


def select_in(
    query: Query, sql: str, values: Iterable[str], parameters: Sequence[object] = ()
) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a query for any number of values.

    :param sql: the query, with ``IN ({})``.
    :param values: any strings.
    :param parameters: those of the query that come before.
    """
    wanted = [*map(_bindable, values)]
    for start in range(
        0, max(1, len(wanted)), _VALUES_PER_QUERY
    ):  # once at least: after the end of a change it raises
        some = wanted[start : start + _VALUES_PER_QUERY]
        yield from query(sql.format(", ".join("?" * len(some))), (*parameters, *some))


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
        rows = self._query(_SELECT_PAGE_OF_USERS, (after or "", limit))
        return tuple(user for _, user in users_from(rows))


@attrs.frozen
class SqliteGrantReader:
    """Grants, read from their table."""

    _query: Query

    def of_user(self, user_id: str) -> tuple[Grant, ...]:
        """See :class:`~benefits_core.ports.GrantReader`."""
        return tuple(map(_grant, self._query(_SELECT_GRANTS, (_bindable(user_id),))))

    def find(self, reference: str, user_ids: Iterable[str]) -> Mapping[str, Grant]:
        """See :class:`~benefits_core.ports.GrantReader`."""
        rows = select_in(self._query, _SELECT_GRANTS_OF_REFERENCE, user_ids, (_bindable(reference),))
        return {grant.user_id: grant for grant in map(_grant, rows)}

    def sums(self, user_ids: Iterable[str]) -> Mapping[str, Decimal]:
        """See :class:`~benefits_core.ports.GrantReader`."""
        rows = select_in(self._query, _SELECT_SUMS, user_ids)
        return {user_id: from_cents(granted) for user_id, granted in rows}


@attrs.frozen
class SqliteProductReader:
    """The catalogue, read from its table."""

    _query: Query

    def list_all(self) -> tuple[Product, ...]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        return tuple(map(_product, self._query(f"{_SELECT_PRODUCTS} ORDER BY position")))

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        rows = select_in(self._query, f"{_SELECT_PRODUCTS} AND product_id IN ({{}})", product_ids)
        return {product.product_id: product for product in map(_product, rows)}

    def retired(self) -> Mapping[str, Signature]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        return {product_id: _signature(*signature) for product_id, *signature in self._query(_SELECT_RETIRED)}


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
        return self.latest(user_id, _ALL)[::-1]

    def latest(self, user_id: str, limit: int, *, before: str | None = None) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        user = _bindable(user_id)
        return _orders(self._query(_SELECT_LATEST, (int(before or _ALL), user, user, limit)))

    def page(self, limit: int, *, after: str | None = None) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        return _orders(self._query(_SELECT_PAGE_OF_ORDERS, (int(after or 0), limit)))
