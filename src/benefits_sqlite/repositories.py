"""Writing: the repositories of a change, and the session in which their statements run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import attrs
from sqlite_utils import Database

from benefits_core.changes import ChangeState
from benefits_core.errors import BenefitsError, InconsistentChangeError, StorageUnavailableError
from benefits_core.model import Grant, Order, Product, Signature, User
from benefits_core.values import to_cents
from benefits_sqlite.readers import (
    SELECT_THESE_USERS,
    SELECT_USER,
    SqliteGrantReader,
    SqliteOrderReader,
    SqliteProductReader,
    SqliteUserReader,
    catalogue_row,
    select_in,
    user_from,
    users_from,
)

_SELECT_HEAD: Final = """
    SELECT version, (SELECT coalesce(max(order_number), 0) FROM orders) FROM catalogue
    """


def core_error(error: sqlite3.DatabaseError) -> BenefitsError:
    """Return the core's error for one of SQLite's."""
    if isinstance(error, sqlite3.IntegrityError):
        return InconsistentChangeError(str(error))
    return StorageUnavailableError(str(error))


@lru_cache(1)  # thousands of grants have the same signature
def _columns(signature: Signature) -> tuple[str, str, str]:
    return signature.by, signature.at.isoformat(), signature.note


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
    :ivar user_numbers: the primary keys of the users that the change has read or inserted, by user id.
    :ivar new_users: the opening grants of the users that it has added, by user id, until they are inserted: with their
        first order, so that one statement stores them with the balance that the order leaves, or when they are read.
    """

    def __init__(self, db: Database, cache: Cache) -> None:
        self._db = db
        self._cache = cache
        self.state = ChangeState()
        self.user_numbers: dict[str, int] = {}
        self.new_users: dict[str, Grant] = {}

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement. See :class:`~benefits_sqlite.readers.Query`."""
        self.state.require_usable()
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            # SQLite may have rolled back by itself; it would commit the next statement at once, alone.
            raise self.state.lose(core_error(error)) from error

    def query_inserted(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement that finds the new users in their table."""
        self.insert_new_users()
        return self.query(sql, parameters)

    def store_balance(self, user: User) -> int:
        """Insert a new user, or update the balance of a known one; return the primary key."""
        balance = to_cents(user.balance)
        opening = self.new_users.pop(user.user_id, None)
        if opening is None:
            number = self.user_numbers[user.user_id]
            self.query("UPDATE users SET balance = ? WHERE user_number = ?", (balance, number))
        else:
            [[number]] = self.query(
                "INSERT INTO users (user_id, granted, balance) VALUES (?, ?, ?) RETURNING user_number",
                (user.user_id, to_cents(opening.amount), balance),
            )
            self.user_numbers[user.user_id] = number
            self.insert_grant(number, opening)
        return number

    def insert_grant(self, user_number: int, grant: Grant) -> None:
        """Insert a grant as the last one of its user."""
        self.query(
            "INSERT INTO grants (user_number, reference, position, amount, given_by, given_at, note)"
            " VALUES (?, ?, (SELECT count(*) FROM grants WHERE user_number = ?), ?, ?, ?, ?)",
            (user_number, grant.reference, user_number, to_cents(grant.amount), *_columns(grant.signature)),
        )

    def insert_new_users(self) -> None:
        """Insert the new users that have placed no order."""
        for user_id in tuple(self.new_users):
            self.store_balance(self.state.users[user_id])

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
        return self._session.state.users.get(user_id) if stored is None else stored

    def page(self, limit: int, *, after: str | None = None) -> tuple[User, ...]:
        """See :class:`~benefits_core.ports.UserReader`."""
        self._session.insert_new_users()
        return super().page(limit, after=after)

    # The transaction has locked the whole file, so every user is locked.

    def get_or_add(self, opening: Grant) -> User:
        """See :class:`~benefits_core.ports.UserRepository`."""
        user_id, session = opening.user_id, self._session
        session.state.require_opening(opening)
        rows = self._query(SELECT_USER, (user_id,))
        if rows:
            stored = user_from(user_id, rows)
            session.user_numbers[user_id] = rows[0][0]
        elif user_id in session.new_users:
            return session.state.users[user_id]
        else:
            stored = User(user_id, opening.amount)
            session.new_users[user_id] = opening
        session.state.users[user_id] = stored
        return stored

    def lock(self, user_ids: Iterable[str]) -> Mapping[str, User]:
        """See :class:`~benefits_core.ports.UserRepository`."""
        state, users = self._session.state, {}
        rows = select_in(self._session.query_inserted, SELECT_THESE_USERS, user_ids)
        for number, user in users_from(rows):
            self._session.user_numbers[user.user_id] = number
            state.users[user.user_id] = users[user.user_id] = user
        return users

    def rename(self, user_id: str, new_id: str) -> None:
        """See :class:`~benefits_core.ports.UserRepository`."""
        session = self._session
        session.insert_new_users()
        session.state.rename(user_id, new_id, taken=self.get(new_id) is not None)
        number = session.user_numbers[new_id] = session.user_numbers.pop(user_id)
        self._query("UPDATE users SET user_id = ? WHERE user_number = ?", (new_id, number))


@attrs.frozen
class SqliteGrantRepository(SqliteGrantReader):
    """Grants within a change."""

    _session: Session

    def add(self, grant: Grant, receiver: User) -> None:
        """See :class:`~benefits_core.ports.GrantRepository`."""
        session = self._session
        session.state.require_usable()
        session.insert_new_users()  # with the balance that they have without it
        session.state.add_grant(grant, receiver)
        number = session.user_numbers[receiver.user_id]
        self._query(
            "UPDATE users SET balance = ?, granted = granted + ? WHERE user_number = ?",
            (to_cents(receiver.balance), to_cents(grant.amount), number),
        )
        session.insert_grant(number, grant)


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
                (*_columns(signature), product_id),
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
                "INSERT INTO order_lines (order_number, user_number, position, product_id, name, price)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (number, user, position, line.product_id, line.name, to_cents(line.price)),
            )

    def cancel(self, order: Order, owner: User) -> None:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        signature = self._session.state.cancel_order(order, owner, self.get(order.order_id))
        user, number = self._session.store_balance(owner), int(order.order_id)
        self._query(
            "UPDATE orders SET cancelled_by = ?, cancelled_at = ?, cancelled_note = ? WHERE order_number = ?",
            (*_columns(signature), number),
        )
        columns, lines = "user_number, order_number, position, product_id, name, price", (user, number)
        self._query(
            f"INSERT INTO cancelled_lines ({columns}) SELECT {columns} FROM order_lines"  # noqa: S608 - our own names
            " WHERE user_number = ? AND order_number = ?",
            lines,
        )
        self._query("DELETE FROM order_lines WHERE user_number = ? AND order_number = ?", lines)


class SqliteUnitOfWork:
    """What a change reads and writes: repositories over one session."""

    def __init__(self, session: Session) -> None:
        self.users = SqliteUserRepository(session.query, session)
        self.grants = SqliteGrantRepository(session.query_inserted, session)
        self.products = SqliteProductRepository(session.query, session)
        self.orders = SqliteOrderRepository(session.query, session, self.products)
