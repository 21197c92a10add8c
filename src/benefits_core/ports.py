"""What the core needs from outside: somewhere to keep users, products and orders.

A new store implements these Protocols and is held to every sentence below by ``tests/contract``. Any method may raise
:class:`~benefits_core.errors.StorageUnavailableError` when the store can't serve now; nothing is half-written then.
Values go in and come out immutable and whole; ids of users come normalised (:func:`~benefits_core.values.normal_user_id`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from benefits_core.model import Order, Product, User


class UserReader(Protocol):
    """Users, as far as they can be read."""

    def get(self, user_id: str) -> User | None:
        """Return the user, or None if there is none."""
        ...


class ProductReader(Protocol):
    """The catalogue, as far as it can be read."""

    def list_all(self) -> tuple[Product, ...]:
        """Return all products, in the catalogue's order."""
        ...

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        """Return those of these products that are in the catalogue, by id. The ids may be any strings."""
        ...


class OrderReader(Protocol):
    """The order book, as far as it can be read."""

    def get(self, order_id: str) -> Order | None:
        """Return the order, or None if there is none. The id may be any string."""
        ...

    def of_user(self, user_id: str) -> tuple[Order, ...]:
        """Return a user's orders in the sequence in which they were placed, whatever the clock said then."""
        ...


class UserRepository(UserReader, Protocol):
    """Users within a unit of work."""

    def get_or_add(self, user: User) -> User:
        """Return the stored user of this user's id, storing the given one first if there is none.

        Until this unit of work ends, no other one gets past the same call for the same id: it waits. This makes
        double purchases impossible. A store may make others wait too, up to locking everything.

        :raises StorageUnavailableError: the wait took longer than the store allows.
        """
        ...


class ProductRepository(ProductReader, Protocol):
    """The catalogue within a unit of work."""

    def put(self, products: Iterable[Product]) -> None:
        """Add these products to the catalogue; one whose id is known replaces what was there.

        Afterwards the catalogue begins with these, in this order; what else it held follows as it was.
        Nothing is ever removed, since people own it. The ids are distinct.
        """
        ...


class OrderRepository(OrderReader, Protocol):
    """The order book within a unit of work."""

    def next_id(self) -> str:
        """Return the id that the next order added must have; no order has it."""
        ...

    def add(self, order: Order) -> None:
        """Keep an order, and its user as :meth:`~benefits_core.model.User.after` makes it of them.

        The two are one fact, so they are told in one call: neither can be forgotten.

        :raises InconsistentChangeError: its id is not :meth:`next_id`, a product of it is not in the catalogue, or its
            user was not got by ``get_or_add`` in this unit of work or can't have placed it (it overdraws the balance,
            or buys a thing twice).
        """
        ...


class UnitOfWork(Protocol):
    """Changes that are kept together or not at all. What it did itself, it sees.

    It ends when the body of its block is left; using it later raises RuntimeError. Never share one between threads.
    Once a method of it has raised a BenefitsError, it is lost: leaving the block keeps nothing and raises that error again, if
    the body has caught it.
    """

    @property
    def users(self) -> UserRepository:
        """The users."""
        ...

    @property
    def products(self) -> ProductRepository:
        """The catalogue."""
        ...

    @property
    def orders(self) -> OrderRepository:
        """The order book."""
        ...


class View(Protocol):
    """What has been kept, to be read."""

    @property
    def users(self) -> UserReader:
        """The users."""
        ...

    @property
    def products(self) -> ProductReader:
        """The catalogue."""
        ...

    @property
    def orders(self) -> OrderReader:
        """The order book."""
        ...


class Store(View, Protocol):
    """Where users, products and orders are kept. It may be used from any number of threads.

    What is read here is what has been kept, as it stands now, and reading never waits for a unit of work.
    """

    def unit_of_work(self) -> AbstractContextManager[UnitOfWork]:
        """Open a unit of work: ``with store.unit_of_work() as work: ...``.

        Leaving the block normally keeps everything done in it, leaving it with an exception keeps nothing; there is
        no commit to forget. The ``with`` statement returns only once everything is kept as durably as the store can,
        and so is whatever this unit of work saw of another: a refusal that rests on somebody's order waits for it too.

        :raises StorageUnavailableError: it could not be opened in time, or its changes could not be kept; none is.
        :raises RuntimeError: this thread has a unit of work open already, and would wait for itself.
        """
        ...

    def ping(self) -> None:
        """Return if the store can answer now.

        :raises StorageUnavailableError: it can't.
        """
        ...
