"""Writing: the repositories of a change, and the session in which their statements run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
from sqlite_utils import Database

from benefits_core.changes import ChangeState
from benefits_core.errors import BenefitsError, InconsistentChangeError, StorageUnavailableError
from benefits_core.model import Order, Product, Signature, User
from benefits_core.values import to_cents
from benefits_sqlite.readers import (
    SELECT_USER,
    SqliteOrderReader,
    SqliteProductReader,
    SqliteUserReader,
    catalogue_row,
    user_from,
)

_SELECT_HEAD: Final = """
    SELECT version, (SELECT coalesce(max(order_number), 0) FROM orders) FROM catalogue
    """


def core_error(error: sqlite3.DatabaseError) -> BenefitsError:
    """Return the core's error for one of SQLite's."""
    if isinstance(error, sqlite3.IntegrityError):
        return InconsistentChangeError(str(error))
    return StorageUnavailableError(str(error))


@attrs.define
class Cache:
    """The last order number and the catalogue's products, so that one query a transaction finds both.

    The products stay while the catalogue keeps its version. After a rollback, all of it is void.
    """

    last_order: int = 0
    products: dict[str, Product] = attrs.field(factory=dict)
    _version: int = 0
    _fresh: bool = False

    def expire(self) -> None:
        """Query again before the next use: another process may have written."""
        self._fresh = False

    def refresh(self, session: Session) -> None:
        """Query, if need be."""
        if not self._fresh:
            version, self.last_order = catalogue_row(session.query(_SELECT_HEAD))
            if version != self._version:
                self._version, self.products = version, {}
            self._fresh = True


class Session:
    """One change on the connection that writes.

    :ivar state: what the change remembers, and whether it can still be used.
    :ivar user_numbers: the primary key of each user that ``get_or_add`` has found, by user id.
    :ivar new_users: the users that it has added, by user id, until they are inserted: with their first order, so that
        one statement stores them with the balance that the order leaves, or when the change ends.
    """

    def __init__(self, db: Database, cache: Cache) -> None:
        self._db = db
        self._cache = cache
        self.state = ChangeState()
        self.user_numbers: dict[str, int] = {}
        self.new_users: dict[str, User] = {}

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement. See :class:`~benefits_sqlite.readers.Query`."""
        self.state.require_usable()
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            # SQLite may have rolled back by itself; it would commit the next statement at once, alone.
            raise self.state.lose(core_error(error)) from error

    def store_balance(self, user: User) -> int:
        """Insert a new user, or update the balance of a known one; return the primary key."""
        balance = to_cents(user.balance)
        if self.new_users.pop(user.user_id, None) is None:
            number = self.user_numbers[user.user_id]
            self.query("UPDATE users SET balance = ? WHERE user_number = ?", (balance, number))
        else:
            [[number]] = self.query(
                "INSERT INTO users (user_id, opening_balance, balance) VALUES (?, ?, ?) RETURNING user_number",
                (user.user_id, to_cents(user.opening_balance), balance),
            )
            self.user_numbers[user.user_id] = number
        return number

    def insert_new_users(self) -> None:
        """Insert the new users that have placed no order."""
        for user in tuple(self.new_users.values()):
            self.store_balance(user)

    def cache(self) -> Cache:
        """Return the cache, up to date."""
        self.state.require_usable()
        self._cache.refresh(self)
        return self._cache


@attrs.frozen
class SqliteUserRepository(SqliteUserReader):
    """Users within a change."""

    _session: Session

    def get(self, user_id: str) -> User | None:
        """See :class:`~benefits_core.ports.UserReader`."""
        stored = super().get(user_id)
        return self._session.new_users.get(user_id) if stored is None else stored

    def page(self, limit: int, *, after: str | None = None) -> tuple[User, ...]:
        """See :class:`~benefits_core.ports.UserReader`."""
        self._session.insert_new_users()
        return super().page(limit, after=after)

    def get_or_add(self, user: User) -> User:
        """See :class:`~benefits_core.ports.UserRepository`. The transaction has locked the whole file."""
        user_id, session = user.user_id, self._session
        rows = self._query(SELECT_USER, (user_id,))
        if rows:
            stored = user_from(user_id, rows)
            session.user_numbers[user_id] = rows[0][0]
        else:
            stored = session.new_users.setdefault(user_id, user)
            session.state.require_new(stored)
        session.state.users[user_id] = stored
        return stored


@attrs.frozen
class SqliteProductRepository(SqliteProductReader):
    """The catalogue within a change."""

    _session: Session

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        cached = self._session.cache().products
        wanted = tuple(product_ids)
        missing = [product_id for product_id in wanted if product_id not in cached]
        if missing:
            cached.update(super().find(missing))
        return {product_id: cached[product_id] for product_id in wanted if product_id in cached}

    def put(self, products: Iterable[Product]) -> None:
        """See :class:`~benefits_core.ports.ProductRepository`. It writes only the rows that change."""
        # Retired products, and those removed by hand, leave gaps between the places.
        places = dict(self._query("SELECT product_id, position FROM products"))
        before = {product.product_id: (places[product.product_id], product) for product in self.list_all()}
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
                    " position = excluded.position, retired_by = NULL, retired_at = NULL, retired_note = ''",
                    (key, product.name, to_cents(product.price), place),
                )
        self._session.cache().expire()  # triggers in the schema have raised the version

    def retire(self, product_ids: Iterable[str], signature: Signature) -> None:
        """See :class:`~benefits_core.ports.ProductRepository`."""
        leaving = tuple(product_ids)
        offered, retired = super().find(leaving), self.retired()
        self._session.state.require_known(leaving, {*offered, *retired})
        for product_id in offered:
            self._query(
                "UPDATE products SET retired_by = ?, retired_at = ?, retired_note = ? WHERE product_id = ?",
                (signature.by, signature.at.isoformat(), signature.note, product_id),
            )
        self._session.cache().expire()


@attrs.frozen
class SqliteOrderRepository(SqliteOrderReader):
    """The order book within a change."""

    _session: Session
    _products: SqliteProductRepository

    def new_id(self) -> str:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        cache = self._session.cache()
        cache.last_order += 1
        self._session.state.new_ids.append(str(cache.last_order))
        return self._session.state.new_ids[-1]

    def add(self, order: Order, buyer: User) -> None:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        self._session.state.add_order(order, buyer, self._products.find(order.items))
        user, number = self._session.store_balance(buyer), int(order.order_id)
        self._query(
            "INSERT INTO orders (order_number, user_number, total, placed_at) VALUES (?, ?, ?, ?)",
            (number, user, to_cents(order.total), order.placed_at.isoformat()),
        )
        for position, line in enumerate(order.lines):
            self._query(
                "INSERT INTO order_lines (order_number, user_number, position, product_id, price)"
                " VALUES (?, ?, ?, ?, ?)",
                (number, user, position, line.product_id, to_cents(line.price)),
            )


class SqliteUnitOfWork:
    """What a change reads and writes: repositories over one session."""

    def __init__(self, session: Session) -> None:
        self.users = SqliteUserRepository(session.query, session)
        self.products = SqliteProductRepository(session.query, session)
        self.orders = SqliteOrderRepository(session.query, session, self.products)
