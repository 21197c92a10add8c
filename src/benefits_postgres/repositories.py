"""The repositories of a change. They read and write through its session: changes of a batch have another kind than others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import attrs

from benefits_core.changes import ChangeState
from benefits_core.errors import InconsistentChangeError
from benefits_core.model import Grant, Order, Product, Signature, User
from benefits_postgres.catalogue import Catalogue, PostgresProductReader
from benefits_postgres.connection import Rows
from benefits_postgres.readers import PostgresGrantReader, PostgresOrderReader, PostgresUserReader, storable
from benefits_postgres.writes import PUT_PRODUCTS, Writes, product_rows, signature_values


class Session(ABC):
    """One change: what it remembers, and what it has written that PostgreSQL has not got yet.

    Every method raises an error if the change has ended, or is lost.
    """

    def __init__(self) -> None:
        self.state = ChangeState()
        self.writes = Writes()

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """Run statements, which see all that was written; return the rows of the last. See ``readers.Query``."""

    @abstractmethod
    def lock(self, user_ids: Sequence[str]) -> Mapping[str, User]:
        """Lock users; return those that are stored, by id."""

    @abstractmethod
    def lock_id(self, user_id: str) -> User | None:
        """Lock the user of this id, or else the id: until the change ends, no other change adds a user of it."""

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """Return the catalogue, as this change has left it."""

    @abstractmethod
    def new_order_number(self) -> int:
        """Return the number of a new order."""


@attrs.frozen
class PostgresUserRepository(PostgresUserReader):
    """Users within a change."""

    _session: Session

    def get_or_add(self, opening: Grant) -> User:
        """See :class:`~benefits_core.ports.UserRepository`."""
        session, user_id = self._session, opening.user_id
        session.state.require_opening(opening)
        user = session.state.users.get(user_id) or session.lock_id(user_id)
        if user is None:
            user = session.writes.users[user_id] = User(user_id, opening.amount)
            session.writes.openings[user_id] = opening
        session.state.users[user_id] = user
        return user

    def lock(self, user_ids: Iterable[str]) -> Mapping[str, User]:
        """See :class:`~benefits_core.ports.UserRepository`."""
        return self._session.lock(storable(user_ids))

    def rename(self, user_id: str, new_id: str) -> None:
        """See :class:`~benefits_core.ports.UserRepository`."""
        session = self._session
        session.state.rename(user_id, new_id, taken=self.get(new_id) is not None)
        number = session.writes.numbers[new_id] = session.writes.numbers.pop(user_id)
        self._query("UPDATE users SET user_id = %s WHERE user_number = %s", (new_id, number))


@attrs.frozen
class PostgresGrantRepository(PostgresGrantReader):
    """Grants within a change."""

    _session: Session
    _missing: set[tuple[str, str]] = attrs.field(factory=set)  # references that users have no grant of

    def find(self, reference: str, user_ids: Iterable[str]) -> Mapping[str, Grant]:
        """See :class:`~benefits_core.ports.GrantReader`."""
        ids = tuple(user_ids)
        found = super().find(reference, ids)
        self._missing.update((reference, user_id) for user_id in ids if user_id not in found)
        return found

    def add(self, grant: Grant, receiver: User) -> None:
        """See :class:`~benefits_core.ports.GrantRepository`."""
        session, user_id = self._session, receiver.user_id
        session.state.require_usable()
        session.state.add_grant(grant, receiver)
        key = grant.reference, user_id
        if key not in self._missing and self.find(grant.reference, [user_id]):
            raise session.state.lose(InconsistentChangeError(f"{user_id!r} has a grant {grant.reference!r}"))
        self._missing.remove(key)
        session.writes.grants.append(grant)
        session.writes.users[user_id] = receiver


@attrs.frozen
class PostgresProductRepository(PostgresProductReader):
    """The catalogue within a change."""

    _state: ChangeState

    def put(self, products: Iterable[Product]) -> None:
        """See :class:`~benefits_core.ports.ProductRepository`."""
        given = {product.product_id: product for product in products}
        rest = (product for product in self.list_all() if product.product_id not in given)
        self._query(PUT_PRODUCTS, (product_rows(enumerate((*given.values(), *rest))),))

    def retire(self, product_ids: Iterable[str], signature: Signature) -> None:
        """See :class:`~benefits_core.ports.ProductRepository`."""
        leaving = tuple(product_ids)
        offered = self.find(leaving)
        self._state.require_known(leaving, {*offered, *self.retired()})
        self._query(
            "UPDATE products SET retired_by = %s, retired_at = %s, retired_note = %s WHERE product_id = ANY(%s)",
            (*signature_values(signature), list(offered)),
        )


@attrs.frozen
class PostgresOrderRepository(PostgresOrderReader):
    """The order book within a change."""

    _session: Session

    def new_id(self) -> str:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        self._session.state.new_ids.append(str(self._session.new_order_number()))
        return self._session.state.new_ids[-1]

    def add(self, order: Order, buyer: User) -> None:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        self._session.state.add_order(order, buyer, self._session.catalogue().by_id)
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
        self.products = PostgresProductRepository(session.query, session.catalogue, session.state)
        self.orders = PostgresOrderRepository(session.query, session)
