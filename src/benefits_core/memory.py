"""The in-memory store: a full implementation of the ports, for tests and for programs that need no file.

One lock makes units of work take turns. A unit's changes are collected beside what is kept, and applied when it succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Generic, TypeVar

import attrs

from benefits_core.errors import BenefitsError, InconsistentChangeError
from benefits_core.model import Order, Product, User

_Row = TypeVar("_Row", User, Order, tuple[Order, ...])


class _Table(Generic[_Row]):
    """Rows by their ids, and below them those that they lie over. A ChainMap is that too, and takes far longer."""

    __slots__ = ("_below", "rows")

    def __init__(self, below: dict[str, _Row] | None = None) -> None:
        self.rows: dict[str, _Row] = {}
        self._below: dict[str, _Row] = {} if below is None else below

    def get(self, key: str) -> _Row | None:
        return self.rows.get(key) or self._below.get(key)


@attrs.define
class _Tables:
    users: _Table[User]
    orders: _Table[Order]
    orders_of: _Table[tuple[Order, ...]]
    catalogue: Mapping[
        str, Product
    ]  # replaced whole, never changed in place: readers may be half-way through it
    order_count: int


@attrs.frozen
class MemoryUserReader:
    """Users, read from memory."""

    _tables: Callable[[], _Tables]

    def get(self, user_id: str) -> User | None:
        """See :class:`~benefits_core.ports.UserReader`."""
        return self._tables().users.get(user_id)


@attrs.frozen
class MemoryProductReader:
    """The catalogue, read from memory."""

    _tables: Callable[[], _Tables]

    def list_all(self) -> tuple[Product, ...]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        return tuple(self._tables().catalogue.values())

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        """See :class:`~benefits_core.ports.ProductReader`."""
        catalogue = self._tables().catalogue
        return {product_id: catalogue[product_id] for product_id in product_ids if product_id in catalogue}


@attrs.frozen
class MemoryOrderReader:
    """The order book, read from memory."""

    _tables: Callable[[], _Tables]

    def get(self, order_id: str) -> Order | None:
        """See :class:`~benefits_core.ports.OrderReader`."""
        return self._tables().orders.get(order_id)

    def of_user(self, user_id: str) -> tuple[Order, ...]:
        """See :class:`~benefits_core.ports.OrderReader`."""
        return self._tables().orders_of.get(user_id) or ()


@attrs.frozen
class MemoryUserRepository(MemoryUserReader):
    """Users within a unit of work."""

    _locked: dict[str, User]

    def get_or_add(self, user: User) -> User:
        """See :class:`~benefits_core.ports.UserRepository`. The unit's lock has done the waiting."""
        users = self._tables().users
        stored = users.get(user.user_id)
        if stored is None:
            stored = users.rows[user.user_id] = user
        self._locked[user.user_id] = stored
        return stored


@attrs.frozen
class MemoryProductRepository(MemoryProductReader):
    """The catalogue within a unit of work."""

    def put(self, products: Iterable[Product]) -> None:
        """See :class:`~benefits_core.ports.ProductRepository`."""
        tables = self._tables()
        given = {product.product_id: product for product in products}
        rest = {key: product for key, product in tables.catalogue.items() if key not in given}
        tables.catalogue = given | rest


@attrs.frozen
class MemoryOrderRepository(MemoryOrderReader):
    """The order book within a unit of work."""

    _locked: dict[str, User]
    _lose: Callable[[BenefitsError], None]

    def next_id(self) -> str:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        return str(self._tables().order_count + 1)

    def add(self, order: Order) -> None:
        """See :class:`~benefits_core.ports.OrderRepository`."""
        try:
            self._add(order)
        except InconsistentChangeError as error:
            self._lose(error)
            raise

    def _add(self, order: Order) -> None:
        tables = self._tables()
        user = self._locked.get(order.user_id)
        if user is None:
            raise InconsistentChangeError(f"{order.user_id!r} was not got in this unit of work")
        if order.order_id != self.next_id():
            raise InconsistentChangeError(f"order id {order.order_id!r} is not the next one")
        if not all(product_id in tables.catalogue for product_id in order.items):
            raise InconsistentChangeError(f"some of {order.items!r} is not in the catalogue")
        tables.users.rows[order.user_id] = self._locked[order.user_id] = user.after(order)
        tables.orders.rows[order.order_id] = order
        tables.orders_of.rows[order.user_id] = (*self.of_user(order.user_id), order)
        tables.order_count += 1


class MemoryUnitOfWork:
    """Changes collected beside what is kept."""

    def __init__(self, kept: _Tables) -> None:
        self._kept = kept
        self._draft = _Tables(
            _Table(kept.users.rows),
            _Table(kept.orders.rows),
            _Table(kept.orders_of.rows),
            kept.catalogue,
            kept.order_count,
        )
        self._ended = False
        self._lost: BenefitsError | None = None
        self._locked: dict[str, User] = {}

    # Made when asked for: a unit of work that held them, who hold it, could be freed by the garbage collector alone.
    @property
    def users(self) -> MemoryUserRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return MemoryUserRepository(self._tables, self._locked)

    @property
    def products(self) -> MemoryProductRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return MemoryProductRepository(self._tables)

    @property
    def orders(self) -> MemoryOrderRepository:
        """See :class:`~benefits_core.ports.UnitOfWork`."""
        return MemoryOrderRepository(self._tables, self._locked, self._lose)

    def _tables(self) -> _Tables:
        if self._ended:
            raise RuntimeError("this unit of work has ended")
        if self._lost is not None:
            raise self._lost
        return self._draft

    def _lose(self, error: BenefitsError) -> None:
        self._lost = error

    def apply(self) -> None:
        """Keep what was collected."""
        draft = self._tables()
        # Orders before their users: whoever sees that a user owns something also finds the order of it.
        self._kept.orders.rows.update(draft.orders.rows)
        self._kept.orders_of.rows.update(draft.orders_of.rows)
        self._kept.users.rows.update(draft.users.rows)
        self._kept.catalogue = draft.catalogue
        self._kept.order_count = draft.order_count

    def end(self) -> None:
        """Refuse to be used from now on."""
        self._ended = True
        self._lost = None  # an error holds all that it went through


class MemoryStore:
    """Users, products and orders in this process's memory, for as long as it lives."""

    def __init__(self) -> None:
        self._kept = _Tables(_Table(), _Table(), _Table(), {}, 0)
        self._lock = Lock()
        self._holder: int | None = None  # the thread whose unit of work is open
        self.users = MemoryUserReader(self._tables)
        self.products = MemoryProductReader(self._tables)
        self.orders = MemoryOrderReader(self._tables)

    def _tables(self) -> _Tables:
        return self._kept

    @contextmanager
    def unit_of_work(self) -> Iterator[MemoryUnitOfWork]:
        """See :class:`~benefits_core.ports.Store`. It waits for as long as it takes."""
        if self._holder == get_ident():
            raise RuntimeError("this thread has a unit of work open already")
        with self._lock:
            self._holder = get_ident()
            work = MemoryUnitOfWork(self._kept)
            try:
                yield work
                work.apply()
            finally:
                work.end()
                self._holder = None

    def ping(self) -> None:
        """See :class:`~benefits_core.ports.Store`. Memory always answers."""
