"""A change that runs alone, in a transaction of its own: whatever it asks is one query, and it waits for the locks of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from benefits_core.changes import ChangeState
from benefits_core.errors import BenefitsError, InconsistentChangeError
from benefits_core.model import Grant, Order, Product, Signature, User
from benefits_postgres.connection import Database, Rows, is_storable
from benefits_postgres.readers import (
    SELECT_USERS,
    PostgresGrantReader,
    PostgresOrderReader,
    PostgresProductReader,
    PostgresUserReader,
    user_from,
)
from benefits_postgres.writes import PUT_PRODUCTS, Writes, product_rows, signature_values

# In the sequence of their ids, so that two changes never wait for each other. The users are read by a statement of its own:
# one that waits for a lock sees afterwards the new balance, but not the new purchases.
_LOCK_USERS: Final = """
    SELECT count(*) FROM (
        SELECT FROM users WHERE user_id = ANY(%s) ORDER BY user_id FOR NO KEY UPDATE
    ) AS locked;
    """
# Until its end, no other change adds a user. Every batch that may add one shares this lock.
_LOCK_NEWCOMERS: Final = "SELECT pg_advisory_xact_lock(hashtextextended('', 'users'::regclass::oid::bigint))"
_NUMBERS_AT_ONCE: Final = 500


class Session:
    """One change on the connection that writes.

    :ivar state: what the change remembers, and whether it can still be used.
    :ivar writes: what it has written that PostgreSQL has not got yet.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.state = ChangeState()
        self.writes = Writes()
        self.free: set[tuple[str, str]] = (
            set()
        )  # the reference and the user id of grants that have not been given
        self._numbers: list[int] = []  # for new users
        self.absent: set[str] = set()  # the ids of which there is no user, nor will be
        self._newcomers_locked = False
        self._catalogue_locked = False

    def query(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """Run statements, which see all that was written; return the rows of the last. See ``readers.Query``."""
        self.state.require_usable()
        written, values = self.writes.take()
        try:
            return self._database.run(written + sql, [*values, *parameters], limit=None)[-1]
        except BenefitsError as error:
            raise self.state.lose(error) from error

    def query_catalogue(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """Run a statement on the catalogue. The change sees it as it stays: until its end, no other change writes to it."""
        if not self._catalogue_locked:
            self.query("SELECT FROM catalogue FOR UPDATE")
            self._catalogue_locked = True
        return self.query(sql, parameters)

    def lock_newcomers(self) -> bool:
        """Keep other changes from adding users. Return False if this change did so before."""
        if self._newcomers_locked:
            return False
        self.query(_LOCK_NEWCOMERS)
        self._newcomers_locked = True
        return True

    def note_absent(self, user_ids: Iterable[str]) -> None:
        """Remember ids that no user has, if no other change can add one."""
        if self._newcomers_locked:
            self.absent.update(user_ids)

    def new_number(self) -> int:
        """Return the primary key of a new user."""
        if not self._numbers:
            rows = self.query(
                "SELECT nextval('user_numbers') FROM generate_series(1, %s)", [_NUMBERS_AT_ONCE]
            )
            self._numbers = [number for (number,) in rows]
        return self._numbers.pop()


@attrs.frozen
class PostgresUserRepository(PostgresUserReader):
    """Users within a change."""

    _session: Session

    def get_or_add(self, opening: Grant) -> User:
        """See :class:`~benefits_core.ports.UserRepository`."""
        session, user_id = self._session, opening.user_id
        session.state.require_opening(opening)
        if user_id in session.state.users:
            return session.state.users[user_id]
        users = {} if user_id in session.absent else self.lock([user_id])
        if not users and session.lock_newcomers():
            users = self.lock([user_id])  # somebody may have added it in between
        if users:
            return users[user_id]
        added = User(user_id, opening.amount)
        session.writes.numbers[user_id] = session.new_number()
        session.writes.openings[user_id] = opening
        session.writes.users[user_id] = session.state.users[user_id] = added
        return added

    def lock(self, user_ids: Iterable[str]) -> Mapping[str, User]:
        """See :class:`~benefits_core.ports.UserRepository`."""
        ids = [user_id for user_id in user_ids if is_storable(user_id)]
        rows = self._query(f"{_LOCK_USERS} {SELECT_USERS} WHERE user_id = ANY(%s)", (ids, ids))
        self._session.writes.numbers.update({row[0]: row[1] for row in rows})
        users = {row[0]: user_from(row) for row in rows}
        self._session.state.users.update(users)
        self._session.note_absent(user_id for user_id in ids if user_id not in users)
        return users

    def rename(self, user_id: str, new_id: str) -> None:
        """See :class:`~benefits_core.ports.UserRepository`."""
        session = self._session
        session.state.rename(user_id, new_id, taken=self.get(new_id) is not None)
        session.absent.discard(new_id)
        number = session.writes.numbers[new_id] = session.writes.numbers.pop(user_id)
        self._query("UPDATE users SET user_id = %s WHERE user_number = %s", (new_id, number))


@attrs.frozen
class PostgresGrantRepository(PostgresGrantReader):
    """Grants within a change."""

    _session: Session

    def find(self, reference: str, user_ids: Iterable[str]) -> Mapping[str, Grant]:
        """See :class:`~benefits_core.ports.GrantReader`."""
        ids = tuple(user_ids)
        found = super().find(reference, ids)
        self._session.free.update((reference, user_id) for user_id in ids if user_id not in found)
        return found

    def add(self, grant: Grant, receiver: User) -> None:
        """See :class:`~benefits_core.ports.GrantRepository`."""
        session, user_id = self._session, receiver.user_id
        session.state.require_usable()
        session.state.add_grant(grant, receiver)
        key = grant.reference, user_id
        if key not in session.free and self.find(grant.reference, [user_id]):
            raise session.state.lose(InconsistentChangeError(f"{user_id!r} has a grant {grant.reference!r}"))
        session.free.remove(key)
        session.writes.grants.append(grant)
        session.writes.users[user_id] = receiver


@attrs.frozen
class PostgresProductRepository(PostgresProductReader):
    """The catalogue within a change. Its first use locks it for other changes that run alone."""

    _session: Session

    def put(self, products: Iterable[Product]) -> None:
        """See :class:`~benefits_core.ports.ProductRepository`."""
        given = {product.product_id: product for product in products}
        rest = (product for product in self.list_all() if product.product_id not in given)
        self._query(PUT_PRODUCTS, (product_rows(enumerate((*given.values(), *rest))),))

    def retire(self, product_ids: Iterable[str], signature: Signature) -> None:
        """See :class:`~benefits_core.ports.ProductRepository`."""
        leaving = tuple(product_ids)
        offered = self.find(leaving)
        self._session.state.require_known(leaving, {*offered, *self.retired()})
        self._query(
            "UPDATE products SET retired_by = %s, retired_at = %s, retired_note = %s WHERE product_id = ANY(%s)",
            (*signature_values(signature), list(offered)),
        )


@attrs.frozen
class PostgresOrderRepository(PostgresOrderReader):
    """The order book within a change."""

    _session: Session
    _products: PostgresProductRepository

    def new_id(self) -> str:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        [[number]] = self._query("SELECT nextval('order_numbers')")
        self._session.state.new_ids.append(str(number))
        return self._session.state.new_ids[-1]

    def add(self, order: Order, buyer: User) -> None:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        self._session.state.add_order(order, buyer, self._products.find(order.items))
        self._session.writes.orders.append(order)
        self._session.writes.users[buyer.user_id] = buyer

    def cancel(self, order: Order, owner: User) -> None:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        signature = self._session.state.cancel_order(order, owner, self.get(order.order_id))
        self._session.writes.users[owner.user_id] = owner
        number, user = int(order.order_id), self._session.writes.numbers[owner.user_id]
        self._query(
            "UPDATE orders SET cancelled_by = %s, cancelled_at = %s, cancelled_note = %s WHERE order_number = %s;"
            " WITH moved AS (DELETE FROM order_lines WHERE user_number = %s AND order_number = %s RETURNING *)"
            " INSERT INTO cancelled_lines SELECT * FROM moved",
            (*signature_values(signature), number, user, number),
        )


class PostgresUnitOfWork:
    """What a change reads and writes: repositories over one session."""

    def __init__(self, session: Session) -> None:
        self.users = PostgresUserRepository(session.query, session)
        self.grants = PostgresGrantRepository(session.query, session)
        self.products = PostgresProductRepository(session.query_catalogue, session)
        self.orders = PostgresOrderRepository(session.query, session, self.products)
