"""The SQL: what is asked of the tables, and how rows become values. It knows no connections and no transactions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol, Self

import attrs

from benefits_core.errors import BenefitsError, InconsistentChangeError
from benefits_core.model import Order, OrderLine, Product, User
from benefits_core.values import from_cents, to_cents

# SQLite allows some 32,000 parameters a statement; no order comes near this many items.
_IDS_PER_QUERY: Final = 1000

_SELECT_USER: Final = """
    SELECT users.user_number, opening_balance, balance, product_id
    FROM users LEFT JOIN order_lines USING (user_number)
    WHERE user_id = ?
    ORDER BY order_number, position
    """
_SELECT_PRODUCTS: Final = "SELECT product_id, name, price FROM products"
_SELECT_VERSION: Final = "SELECT version FROM catalogue"
_SELECT_HEAD: Final = """
    SELECT version,
        (SELECT coalesce(max(user_number), 0) + 1 FROM users),
        (SELECT coalesce(max(order_number), 0) + 1 FROM orders)
    FROM catalogue
    """
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


class Query(Protocol):
    """Runs one statement and returns its rows. Raises the core's errors, not SQLite's."""

    def __call__(self, sql: str, parameters: Sequence[object] = (), /) -> list[tuple[Any, ...]]:
        """Run it."""
        ...


def _user(user_id: str, rows: list[tuple[Any, ...]]) -> User:
    _, opening_balance, balance, first = rows[0]
    owned = () if first is None else tuple([product_id for *_, product_id in rows])
    return User.restored(user_id, from_cents(opening_balance), from_cents(balance), owned)


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
        rows = self._query(_SELECT_USER, (user_id,))
        return _user(user_id, rows) if rows else None


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
            rows += self._query(f"{_SELECT_PRODUCTS} WHERE product_id IN ({marks})", some)
        return {product.product_id: product for product in map(_product, rows)}


@attrs.define
class LastCatalogue:
    """The catalogue as it was read last, and its version: it is asked for all the time, and hardly ever changes."""

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
            # If it has changed meanwhile, nobody knows of which version they are.
            if self._version() == version:
                self._last.known = version, products
        return products

    def _version(self) -> int:
        [[version]] = self._query(_SELECT_VERSION)
        return int(version)


@attrs.frozen
class SqliteOrderReader:
    """The order book, read from its tables."""

    _query: Query

    def get(self, order_id: str) -> Order | None:
        """See :class:`~benefits_core.ports.OrderReader`."""
        if not re.fullmatch("[1-9][0-9]{0,17}", order_id):
            return None  # not a number we ever gave
        rows = self._query(_SELECT_ORDER, (int(order_id),))
        return _orders(rows)[0] if rows else None

    def of_user(self, user_id: str) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        return _orders(self._query(_SELECT_ORDERS_OF, (user_id,)))


@attrs.define
class Known:
    """What the writing connection knows of the tables, so that it asks once a transaction, and not once an order.

    Products are kept while the catalogue stays the same. What becomes undone makes all of it unknown.
    """

    next_user: int = 0
    next_order: int = 0
    products: dict[str, Product] = attrs.field(factory=dict)
    _catalogue: int = 0
    _current: bool = False

    def expire(self) -> None:
        """Have it looked up again when it is wanted: others may have written."""
        self._current = False

    def current(self, query: Query) -> Self:
        """Return itself, looked up if need be."""
        if not self._current:
            [[catalogue, self.next_user, self.next_order]] = query(_SELECT_HEAD)
            if catalogue != self._catalogue:
                self._catalogue, self.products = catalogue, {}
            self._current = True
        return self


@attrs.frozen
class LockedUser:
    """A user that ``get_or_add`` returned in this unit of work.

    :param number: the one that the tables know them by; None while they are not in the tables.
    """

    number: int | None
    user: User


class Session(Protocol):
    """What the repositories of a unit of work share. Once that has ended, or is lost, it tells nothing but raises."""

    def locked(self) -> dict[str, LockedUser]:
        """Return the users locked, by id."""
        ...

    def known(self) -> Known:
        """Return what is known of the tables."""
        ...

    def lose(self, error: BenefitsError) -> None:
        """Make the unit of work lost, for this reason, which is raised from now on."""
        ...


@attrs.frozen
class SqliteUserRepository(SqliteUserReader):
    """Users within a unit of work."""

    _session: Session

    def get(self, user_id: str) -> User | None:
        """See :class:`~benefits_core.ports.UserReader`."""
        locked = self._session.locked().get(user_id)
        return super().get(user_id) if locked is None else locked.user

    def get_or_add(self, user: User) -> User:
        """See :class:`~benefits_core.ports.UserRepository`. The transaction has locked everything already.

        A new one is written when the unit of work ends, or with their first order, so that most are written once.
        """
        locked = self._session.locked().get(user.user_id)
        if locked is None:
            rows = self._query(_SELECT_USER, (user.user_id,))
            locked = LockedUser(rows[0][0], _user(user.user_id, rows)) if rows else LockedUser(None, user)
            self._session.locked()[user.user_id] = locked
        return locked.user

    def put(self, locked: LockedUser) -> LockedUser:
        """Write a user as they are now, and return them."""
        user, number = locked.user, locked.number
        if number is None:
            known = self._session.known()
            number = known.next_user
            self._query(
                "INSERT INTO users (user_number, user_id, opening_balance, balance) VALUES (?, ?, ?, ?)",
                (number, user.user_id, to_cents(user.opening_balance), to_cents(user.balance)),
            )
            known.next_user += 1
        else:
            self._query(
                "UPDATE users SET balance = ? WHERE user_number = ?", (to_cents(user.balance), number)
            )
        written = self._session.locked()[user.user_id] = LockedUser(number, user)
        return written

    def put_newcomers(self) -> None:
        """Write those who are not in the tables yet."""
        for locked in tuple(self._session.locked().values()):
            if locked.number is None:
                self.put(locked)


@attrs.frozen
class SqliteProductRepository(SqliteProductReader):
    """The catalogue within a unit of work."""

    _session: Session

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        known = self._session.known().products
        wanted = tuple(product_ids)
        new = [product_id for product_id in wanted if product_id not in known]
        if new:
            known.update(super().find(new))
        return {product_id: known[product_id] for product_id in wanted if product_id in known}

    def put(self, products: Iterable[Product]) -> None:
        """See :class:`~benefits_core.ports.ProductRepository`. Rows that stay as they are are not written."""
        before = {product.product_id: (place, product) for place, product in enumerate(self.list_all())}
        given = {product.product_id: product for product in products}
        rest = {key: product for key, (_, product) in before.items() if key not in given}
        after = {
            product.product_id: (place, product)
            for place, product in enumerate((*given.values(), *rest.values()))
        }
        for key, (place, product) in after.items():
            if before.get(key) != (place, product):
                self._query(
                    "INSERT INTO products (product_id, name, price, position) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET name = excluded.name, price = excluded.price,"
                    " position = excluded.position",
                    (key, product.name, to_cents(product.price), place),
                )
        self._session.known().expire()  # the database has counted what has changed


@attrs.frozen
class SqliteOrderRepository(SqliteOrderReader):
    """The order book within a unit of work."""

    _session: Session
    _users: SqliteUserRepository

    def next_id(self) -> str:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        return str(self._session.known().next_order)

    def add(self, order: Order) -> None:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        try:
            self._add(order)
        except InconsistentChangeError as error:
            self._session.lose(error)
            raise

    def _add(self, order: Order) -> None:
        locked = self._session.locked().get(order.user_id)
        if locked is None:
            raise InconsistentChangeError(f"{order.user_id!r} was not got in this unit of work")
        known = self._session.known()
        if order.order_id != str(known.next_order):
            raise InconsistentChangeError(f"order id {order.order_id!r} is not the next one")
        buyer = self._users.put(LockedUser(locked.number, locked.user.after(order)))
        number = known.next_order
        self._query(
            "INSERT INTO orders (order_number, user_number, total, placed_at) VALUES (?, ?, ?, ?)",
            (number, buyer.number, to_cents(order.total), order.placed_at.isoformat()),
        )
        for position, line in enumerate(order.lines):
            self._query(
                "INSERT INTO order_lines (order_number, user_number, position, product_id, price)"
                " VALUES (?, ?, ?, ?, ?)",
                (number, buyer.number, position, line.product_id, to_cents(line.price)),
            )
        known.next_order += 1
