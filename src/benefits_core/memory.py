"""The in-memory store: a full implementation of the ports, for tests and for programs that need no file.

One lock makes changes take turns. A change writes to a draft, a layer over what is kept, and the draft of a change that
succeeds becomes visible at once, as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from heapq import nsmallest
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import attrs

from benefits_core.changes import ChangeLock, ChangeState, LockTimeoutError, finally_do
from benefits_core.errors import InconsistentChangeError, StorageUnavailableError
from benefits_core.model import Grant, Order, Product, Signature, User
from benefits_core.ports import UnitOfWork
from benefits_core.values import sum_of

PATIENCE: Final = 5.0
"""How long a change waits for others before it begins, in seconds, unless the store is given another patience."""

_Result = TypeVar("_Result")
_Row = TypeVar("_Row", User, Order, tuple[Order, ...], tuple[Grant, ...])


class _Absent:
    """What no row is."""


_ABSENT: Final = _Absent()

# What has no docstring here does what ``ports`` says under the same name.


class _Table(Generic[_Row]):
    """Uncommitted rows layered over committed ones. A ChainMap does the same, and takes far longer."""

    __slots__ = ("_below", "rows")

    def __init__(self, below: dict[str, _Row | None] | None = None) -> None:
        self.rows: dict[str, _Row | None] = {}  # None hides the row below
        self._below: dict[str, _Row | None] = {} if below is None else below

    def get(self, key: str) -> _Row | None:
        row = self.rows.get(key, _ABSENT)  # one look: another thread may take the row away
        return self._below.get(key) if isinstance(row, _Absent) else row

    def page(self, limit: int, after: str | None, value: Callable[[str], Any]) -> tuple[_Row, ...]:
        rows = self._below | self.rows  # a copy: another thread may add rows in the meantime
        following = {
            key: row
            for key, row in rows.items()
            if row is not None and (after is None or value(key) > value(after))
        }
        return tuple(following[key] for key in nsmallest(limit, following, value))

    def take_over(self, draft: _Table[_Row]) -> None:
        self.rows.update(draft.rows)
        for key in [key for key, row in draft.rows.items() if row is None]:
            del self.rows[key]


@attrs.define
class _Tables:
    users: _Table[User]
    grants_of: _Table[tuple[Grant, ...]]
    orders: _Table[Order]
    orders_of: _Table[tuple[Order, ...]]
    catalogue: Mapping[str, Product]  # replaced, never changed in place: readers may be half-way through it
    retired: Mapping[str, Signature]  # likewise
    last_order: int  # the number that new_id returned last

    def draft(self) -> _Tables:
        """Return empty tables layered over these."""
        return _Tables(
            _Table(self.users.rows),
            _Table(self.grants_of.rows),
            _Table(self.orders.rows),
            _Table(self.orders_of.rows),
            self.catalogue,
            self.retired,
            self.last_order,
        )

    def take_over(self, draft: _Tables) -> None:
        """Keep what a draft over these tables holds."""
        self.users.take_over(draft.users)
        self.grants_of.take_over(draft.grants_of)
        self.orders.take_over(draft.orders)
        self.orders_of.take_over(draft.orders_of)
        self.catalogue, self.retired, self.last_order = draft.catalogue, draft.retired, draft.last_order


@attrs.frozen
class _UserReader:
    _tables: Callable[[], _Tables]

    def get(self, user_id: str) -> User | None:
        return self._tables().users.get(user_id)

    def page(self, limit: int, *, after: str | None = None) -> tuple[User, ...]:
        return self._tables().users.page(limit, after, str)


@attrs.frozen
class _GrantReader:
    _tables: Callable[[], _Tables]

    def of_user(self, user_id: str) -> tuple[Grant, ...]:
        return self._tables().grants_of.get(user_id) or ()

    def find(self, reference: str, user_ids: Iterable[str]) -> Mapping[str, Grant]:
        tables = self._tables()
        grants = (grant for user_id in user_ids for grant in tables.grants_of.get(user_id) or ())
        return {grant.user_id: grant for grant in grants if grant.reference == reference}

    def sums(self, user_ids: Iterable[str]) -> Mapping[str, Decimal]:
        tables = self._tables()
        grants = {user_id: tables.grants_of.get(user_id) for user_id in user_ids}
        return {user_id: sum_of(grant.amount for grant in some) for user_id, some in grants.items() if some}


@attrs.frozen
class _ProductReader:
    _tables: Callable[[], _Tables]

    def list_all(self) -> tuple[Product, ...]:
        return tuple(self._tables().catalogue.values())

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        catalogue = self._tables().catalogue
        return {product_id: catalogue[product_id] for product_id in product_ids if product_id in catalogue}

    def retired(self) -> Mapping[str, Signature]:
        return self._tables().retired


@attrs.frozen
class _OrderReader:
    _tables: Callable[[], _Tables]

    def get(self, order_id: str) -> Order | None:
        return self._tables().orders.get(order_id)

    def of_user(self, user_id: str) -> tuple[Order, ...]:
        return self._tables().orders_of.get(user_id) or ()

    def latest(self, user_id: str, limit: int, *, before: str | None = None) -> tuple[Order, ...]:
        orders = self.of_user(user_id)[::-1]
        earlier = (order for order in orders if before is None or int(order.order_id) < int(before))
        return tuple(islice(earlier, limit))

    def page(self, limit: int, *, after: str | None = None) -> tuple[Order, ...]:
        return self._tables().orders.page(limit, after, int)


@attrs.frozen
class _Draft:
    """What a change has written so far."""

    tables: _Tables
    state: ChangeState = attrs.field(factory=ChangeState)

    def __call__(self) -> _Tables:
        """Return the tables, unless the change has ended or is lost."""
        self.state.require_usable()
        return self.tables


@attrs.frozen
class _UserRepository(_UserReader):
    _state: ChangeState

    # The change holds the lock of the whole store, so every user is locked.

    def get_or_add(self, opening: Grant) -> User:
        tables, user_id = self._tables(), opening.user_id
        self._state.require_opening(opening)
        stored = tables.users.get(user_id)
        if stored is None:
            stored = tables.users.rows[user_id] = User(user_id, opening.amount)
            tables.grants_of.rows[user_id] = (opening,)
        self._state.users[user_id] = stored
        return stored

    def lock(self, user_ids: Iterable[str]) -> Mapping[str, User]:
        tables = self._tables()
        found = {user_id: tables.users.get(user_id) for user_id in user_ids}
        users = {user_id: user for user_id, user in found.items() if user is not None}
        self._state.users.update(users)
        return users

    def rename(self, user_id: str, new_id: str) -> None:
        tables = self._tables()
        self._state.rename(user_id, new_id, taken=self.get(new_id) is not None)
        grants, orders = tables.grants_of.get(user_id) or (), tables.orders_of.get(user_id) or ()
        renamed = tuple(attrs.evolve(order, user_id=new_id) for order in orders)
        tables.orders.rows.update({order.order_id: order for order in renamed})
        tables.orders_of.rows.update({user_id: None, new_id: renamed})
        tables.grants_of.rows[user_id] = None
        tables.grants_of.rows[new_id] = tuple(attrs.evolve(grant, user_id=new_id) for grant in grants)
        tables.users.rows.update({user_id: None, new_id: self._state.users[new_id]})


@attrs.frozen
class _GrantRepository(_GrantReader):
    _state: ChangeState

    def add(self, grant: Grant, receiver: User) -> None:
        tables, user_id = self._tables(), receiver.user_id
        self._state.add_grant(grant, receiver)
        earlier = self.of_user(user_id)
        if grant.reference in {one.reference for one in earlier}:
            raise self._state.lose(InconsistentChangeError(f"{user_id!r} has a grant {grant.reference!r}"))
        tables.users.rows[user_id] = receiver
        tables.grants_of.rows[user_id] = (*earlier, grant)


@attrs.frozen
class _ProductRepository(_ProductReader):
    _state: ChangeState

    def put(self, products: Iterable[Product]) -> None:
        tables = self._tables()
        given = {product.product_id: product for product in products}
        rest = {key: product for key, product in tables.catalogue.items() if key not in given}
        tables.catalogue = given | rest
        tables.retired = {key: by for key, by in tables.retired.items() if key not in given}

    def retire(self, product_ids: Iterable[str], signature: Signature) -> None:
        tables, leaving = self._tables(), dict.fromkeys(product_ids, signature)
        self._state.require_known(leaving, {*tables.catalogue, *tables.retired})
        tables.catalogue = {key: product for key, product in tables.catalogue.items() if key not in leaving}
        tables.retired = {**leaving, **tables.retired}


@attrs.frozen
class _OrderRepository(_OrderReader):
    _state: ChangeState

    def new_id(self) -> str:
        tables = self._tables()
        tables.last_order += 1
        self._state.new_ids.append(str(tables.last_order))
        return self._state.new_ids[-1]

    def add(self, order: Order, buyer: User) -> None:
        tables = self._tables()
        self._state.add_order(order, buyer, tables.catalogue)
        tables.users.rows[buyer.user_id] = buyer
        tables.orders.rows[order.order_id] = order
        tables.orders_of.rows[buyer.user_id] = (*self.of_user(buyer.user_id), order)

    def cancel(self, order: Order, owner: User) -> None:
        tables = self._tables()
        self._state.cancel_order(order, owner, self.get(order.order_id))
        tables.users.rows[owner.user_id] = owner
        tables.orders.rows[order.order_id] = order
        tables.orders_of.rows[owner.user_id] = tuple(
            order if one.order_id == order.order_id else one for one in self.of_user(owner.user_id)
        )


class _UnitOfWork:
    """What a change reads and writes: a draft over what is kept."""

    def __init__(self, draft: _Draft) -> None:
        self.users = _UserRepository(draft, draft.state)
        self.grants = _GrantRepository(draft, draft.state)
        self.products = _ProductRepository(draft, draft.state)
        self.orders = _OrderRepository(draft, draft.state)


class MemoryStore:
    """Users, grants, products and orders in this process's memory, for as long as it lives.

    :param patience: how long a change waits for others before it begins, in seconds.
    """

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._kept = _Tables(_Table(), _Table(), _Table(), _Table(), {}, {}, 0)
        self._visible = self._kept
        self._lock = ChangeLock()
        self.users = _UserReader(self._tables)
        self.grants = _GrantReader(self._tables)
        self.products = _ProductReader(self._tables)
        self.orders = _OrderReader(self._tables)

    def _tables(self) -> _Tables:
        return self._visible

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """See :class:`~benefits_core.ports.Store`."""
        try:
            return self._lock.run(
                lambda: finally_do(self._apply, lambda: self._run(do)), timeout=self._patience
            )
        except LockTimeoutError:
            raise StorageUnavailableError(f"other changes have been running for {self._patience} s") from None

    def _run(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        draft = _Draft(self._kept.draft())

        def run() -> _Result:
            result = do(_UnitOfWork(draft))
            self._visible = draft()  # from this moment on, the change is kept, and readers see all of it
            return result

        return finally_do(draft.state.end, run)

    def _apply(self) -> None:
        kept, draft = self._kept, self._visible
        if draft is kept:
            return
        kept.take_over(draft)
        self._visible = kept

    def ping(self) -> None:
        """See :class:`~benefits_core.ports.Store`. Memory always answers."""
