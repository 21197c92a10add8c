"""The changes of a batch, which share a transaction: each locks one user, finds products, and adds orders. Orders do no more.

They run twice. The first run ends where a change asks for its user; then one round trip locks and reads the users of all; in
the second run, everything is there. What a change writes is kept back. So a change that is refused leaves nothing to undo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar, cast

import attrs

from benefits_core.changes import ChangeState
from benefits_core.model import Grant, Order, Product, User
from benefits_core.ports import UnitOfWork
from benefits_postgres.writes import Writes


@attrs.define
class Batch:
    """What the changes of a batch share.

    :ivar users: the locked users as they are now, by id; None for one who is not stored.
    :ivar products: the catalogue, by product id; None until it is read.
    :ivar order_numbers: what ``new_id`` may return.
    :ivar held: the ids of users whom changes of others hold.
    """

    users: dict[str, User | None] = attrs.field(factory=dict)
    products: Mapping[str, Product] | None = None
    order_numbers: list[int] = attrs.field(factory=list)
    held: set[str] = attrs.field(factory=set)
    writes: Writes = attrs.field(factory=Writes)


_Result = TypeVar("_Result")


class _UnfitError(BaseException):
    """Ends the run of a change that asks for what its batch has not got. No ``except Exception`` of it may catch this."""


@attrs.define
class BatchSession:
    """One run of a change of a batch.

    :ivar wanted: the id of the user that it asked for; None if it asked for none.
    :ivar unfit: whether the run has ended at something that the batch has not got.
    :ivar alone: whether the change has to run alone.
    """

    batch: Batch
    state: ChangeState = attrs.field(factory=ChangeState)
    writes: Writes = attrs.field(factory=Writes)
    wanted: str | None = None
    unfit: bool = False
    alone: bool = False

    def run(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """Run a change, and add what it has written to the batch."""
        try:
            result = do(cast("UnitOfWork", _UnitOfWork(self)))
            self.require_usable()
            self.batch.users.update(self.state.users)
            self.batch.writes.add(self.writes)
            return result
        finally:
            self.state.end()

    def want(self, user_id: str | None) -> NoReturn:
        """End this run: the change needs this user, or the catalogue alone."""
        self.wanted, self.unfit = user_id, True
        self.alone = self.batch.products is not None  # the batch has been read, and can't be read again
        raise _UnfitError

    def leave(self) -> NoReturn:
        """End this run: the change has to run alone."""
        self.unfit = self.alone = True
        raise _UnfitError

    def require_usable(self) -> None:
        """Raise an error unless the change goes on."""
        self.state.require_usable()
        if self.unfit:
            raise _UnfitError


@attrs.frozen
class _Repository:
    session: BatchSession

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - any method of the ports
        def leave(*_: object, **__: object) -> NoReturn:
            self.session.require_usable()
            self.session.leave()

        return leave


@attrs.frozen
class _Users(_Repository):
    def get_or_add(self, opening: Grant) -> User:
        session, user_id = self.session, opening.user_id
        session.require_usable()
        session.state.require_opening(opening)
        user = session.state.users.get(user_id)
        if user is None:
            if user_id not in session.batch.users:
                session.want(user_id)
            user = session.batch.users[user_id]
            if user is None:
                user = session.writes.users[user_id] = User(user_id, opening.amount)
                session.writes.openings[user_id] = opening
            session.state.users[user_id] = user
        return user


@attrs.frozen
class _Products(_Repository):
    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        self.session.require_usable()
        products = self.session.batch.products
        if products is None:
            self.session.want(None)
        return {product_id: products[product_id] for product_id in product_ids if product_id in products}


@attrs.frozen
class _Orders(_Repository):
    def new_id(self) -> str:
        session = self.session
        session.require_usable()
        if not session.batch.order_numbers:
            session.leave()
        session.state.new_ids.append(str(session.batch.order_numbers.pop(0)))
        return session.state.new_ids[-1]

    def add(self, order: Order, buyer: User) -> None:
        session = self.session
        session.require_usable()
        session.state.add_order(order, buyer, session.batch.products or {})
        session.writes.orders.append(order)
        session.writes.users[buyer.user_id] = buyer


class _UnitOfWork:
    def __init__(self, session: BatchSession) -> None:
        self.users = _Users(session)
        self.grants = _Repository(session)
        self.products = _Products(session)
        self.orders = _Orders(session)
