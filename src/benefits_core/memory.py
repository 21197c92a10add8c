"""The in-memory store: a full implementation of the ports, for tests and for programs that need no file.

One lock makes units of work take turns. A unit's changes are collected beside what is kept, and applied when it succeeds.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from threading import Lock, get_ident

import attrs

from benefits_core.errors import BenefitsError, InconsistentChangeError
from benefits_core.model import Order, Product, User


@attrs.define
class _Tables:
    users: MutableMapping[str, User]
    orders: MutableMapping[str, Order]
    orders_of: MutableMapping[str, tuple[Order, ...]]
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
        return self._tables().orders_of.get(user_id, ())


@attrs.frozen
class MemoryUserRepository(MemoryUserReader):
    """Users within a unit of work."""

    _locked: set[str]

    def get_or_add(self, user: User) -> User:
        """See :class:`~benefits_core.ports.UserRepository`. The unit's lock has done the waiting."""
        stored = self._tables().users.setdefault(user.user_id, user)
        self._locked.add(user.user_id)
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

    _locked: set[str]
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
        if order.user_id not in self._locked:
            raise InconsistentChangeError(f"{order.user_id!r} was not got in this unit of work")
        if order.order_id != self.next_id():
            raise InconsistentChangeError(f"order id {order.order_id!r} is not the next one")
        if not all(product_id in tables.catalogue for product_id in order.items):
            raise InconsistentChangeError(f"some of {order.items!r} is not in the catalogue")
        tables.users[order.user_id] = tables.users[order.user_id].after(order)
        tables.orders[order.order_id] = order
        tables.orders_of[order.user_id] = (*self.of_user(order.user_id), order)
        tables.order_count += 1


class MemoryUnitOfWork:
    """Changes collected beside what is kept."""

    def __init__(self, kept: _Tables) -> None:
        self._kept = kept
        self._users: dict[str, User] = {}
        self._orders: dict[str, Order] = {}
        self._orders_of: dict[str, tuple[Order, ...]] = {}
        self._draft = _Tables(
            ChainMap(self._users, kept.users),
            ChainMap(self._orders, kept.orders),
            ChainMap(self._orders_of, kept.orders_of),
            kept.catalogue,
            kept.order_count,
        )
        self._ended = False
        self._lost: BenefitsError | None = None
        locked: set[str] = set()
        self.users = MemoryUserRepository(self._tables, locked)
        self.products = MemoryProductRepository(self._tables)
        self.orders = MemoryOrderRepository(self._tables, locked, self._lose)

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
        self._kept.orders.update(self._orders)
        self._kept.orders_of.update(self._orders_of)
        self._kept.users.update(self._users)
        self._kept.catalogue = draft.catalogue
        self._kept.order_count = draft.order_count

    def end(self) -> None:
        """Refuse to be used from now on."""
        self._ended = True


class MemoryStore:
    """Users, products and orders in this process's memory, for as long as it lives."""

    def __init__(self) -> None:
        self._kept = _Tables({}, {}, {}, {}, 0)
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
