"""What the core needs from outside: somewhere to keep users, their grants, products and orders.

A new store implements these Protocols, and ``tests/contract`` holds it to every sentence below. Any method may raise
:class:`~benefits_core.errors.StorageUnavailableError` when the store can't serve now; nothing is half-written then.
Values go in and come out immutable and whole. User ids come normalised (:func:`~benefits_core.values.normal_user_id`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from decimal import Decimal
from typing import Protocol, TypeVar, runtime_checkable

from benefits_core.model import Grant, Order, Product, Signature, User

_Result = TypeVar("_Result")


class UserReader(Protocol):
    """Reads users."""

    def get(self, user_id: str) -> User | None:
        """Return the user, or None if there is none."""

    def page(self, limit: int, *, after: str | None = None) -> tuple[User, ...]:
        """Return the next users in the sequence of their ids, compared by code points.

        :param limit: how many at most; at least 1. Fewer are returned only if there are no more.
        :param after: the user id after which the page begins; None to begin with the first.
        """


class GrantReader(Protocol):
    """Reads grants. User ids and references may be any strings."""

    def of_user(self, user_id: str) -> tuple[Grant, ...]:
        """Return a user's grants in the sequence in which they were given, the opening grant first."""

    def find(self, reference: str, user_ids: Iterable[str]) -> Mapping[str, Grant]:
        """Return the grant of this reference of each of these users, by user id. Those who have none are left out."""

    def sums(self, user_ids: Iterable[str]) -> Mapping[str, Decimal]:
        """Return the sum of all grants of each of these users, by user id. Unknown users are left out."""


class ProductReader(Protocol):
    """Reads the catalogue. A product that was retired is not in it."""

    def list_all(self) -> tuple[Product, ...]:
        """Return all products, in the catalogue's order."""

    def find(self, product_ids: Iterable[str]) -> Mapping[str, Product]:
        """Return those of these products that are in the catalogue, by id. The ids may be any strings."""

    def retired(self) -> Mapping[str, Signature]:
        """Return the signature of each product that was retired, by product id."""


class OrderReader(Protocol):
    """Reads the order book. User ids may be any strings."""

    def get(self, order_id: str) -> Order | None:
        """Return the order, or None if there is none. The id may be any string."""

    def of_user(self, user_id: str) -> tuple[Order, ...]:
        """Return a user's orders in the sequence in which they were placed, whatever the clock said then."""

    def latest(self, user_id: str, limit: int, *, before: str | None = None) -> tuple[Order, ...]:
        """Return a user's last orders, the last one first.

        :param limit: how many at most; at least 1. Fewer are returned only if there are no more.
        :param before: the order id before which they were placed; None to begin with the last one.
        """

    def page(self, limit: int, *, after: str | None = None) -> tuple[Order, ...]:
        """Return the next orders in the sequence of their ids, compared as whole numbers.

        :param limit: how many at most; at least 1. Fewer are returned only if there are no more.
        :param after: the order id after which the page begins; None to begin with the first.
        """


class UserRepository(UserReader, Protocol):
    """Users within a change."""

    def get_or_add(self, opening: Grant) -> User:
        """Return the stored user of a grant's user id; if there is none, keep the grant as their first, and return them.

        Until this change ends, another change waits at the same call for the same id. This sentence makes double
        purchases impossible. A store may lock more than one user, up to everything.

        :param opening: what a new user may spend at first, as :meth:`~benefits_core.model.Grant.opening` gives it.
        :raises InconsistentChangeError: the grant has another reference, or is negative.
        """

    def lock(self, user_ids: Iterable[str]) -> Mapping[str, User]:
        """Return those of these users that are stored, by id. The ids may be any strings.

        Until this change ends, another change that locks one of them waits, as at :meth:`get_or_add`.
        """

    def rename(self, user_id: str, new_id: str) -> None:
        """Give a user another id. Their grants and orders are those of the new id.

        :raises InconsistentChangeError: this change has not locked the user, or there is a user of the new id.
        """


class GrantRepository(GrantReader, Protocol):
    """Grants within a change."""

    def add(self, grant: Grant, receiver: User) -> None:
        """Keep a grant, and its receiver as the grant leaves them; :meth:`~benefits_core.model.User.receive` returns them.

        :raises InconsistentChangeError: this change has not locked the user; the receiver is another user, owns
            something else, or has not the balance of before and the amount; or the user has a grant of this reference.
        """


class ProductRepository(ProductReader, Protocol):
    """The catalogue within a change."""

    def put(self, products: Iterable[Product]) -> None:
        """Add these products to the catalogue; a known id gets the new name and price.

        Afterwards the catalogue begins with these products, in this order; all others follow in the order they had.
        A retired product is in the catalogue again. The ids are distinct.
        """

    def retire(self, product_ids: Iterable[str], signature: Signature) -> None:
        """Take products out of the catalogue. Users go on owning them, and orders keep them.

        A product that is retired already keeps the signature that it has.

        :raises InconsistentChangeError: a product was never in the catalogue.
        """


class OrderRepository(OrderReader, Protocol):
    """The order book within a change."""

    def new_id(self) -> str:
        """Return an id that no other order has or will have.

        Of two orders of one user the later one has the larger id, compared as whole numbers. Gaps are fine.
        """

    def add(self, order: Order, buyer: User) -> None:
        """Keep an order, and its buyer as the order leaves them; :meth:`~benefits_core.model.User.buy` returns both.

        The two are one fact, so they are kept by one call: neither can be forgotten. No store computes a balance: it
        keeps the buyer's, and an audit of the books finds a wrong one.

        :raises InconsistentChangeError: this change has not locked the order's user; the buyer is another user; the
            balance is negative, or more than before; a product is owned already, or not in the catalogue; the buyer does
            not own what they owned before and then what was ordered; or :meth:`new_id` did not return the order's id in
            this change, after that of the order before.
        """

    def cancel(self, order: Order, owner: User) -> None:
        """Keep that an order is cancelled, and its owner as that leaves them.

        :meth:`~benefits_core.model.User.cancel` returns both.

        :raises InconsistentChangeError: this change has not locked the order's user; the owner is another user; the
            balance is less than before; the owner does not own what they owned before without what was ordered; or
            there is no such order that is not cancelled.
        """


class View(Protocol):
    """What has been kept, for reading."""

    @property
    def users(self) -> UserReader: ...  # noqa: D102 - its type says it
    @property
    def grants(self) -> GrantReader: ...  # noqa: D102
    @property
    def products(self) -> ProductReader: ...  # noqa: D102
    @property
    def orders(self) -> OrderReader: ...  # noqa: D102


class UnitOfWork(Protocol):
    """What a change reads and writes. It sees its own writes.

    It ends with its change; using it later raises RuntimeError.
    """

    @property
    def users(self) -> UserRepository: ...  # noqa: D102
    @property
    def grants(self) -> GrantRepository: ...  # noqa: D102
    @property
    def products(self) -> ProductRepository: ...  # noqa: D102
    @property
    def orders(self) -> OrderRepository: ...  # noqa: D102


class Store(View, Protocol):
    """Where users, grants, products and orders are kept. Any number of threads may use it.

    Reading returns what has been kept, as it stands now, and never waits for a change.
    """

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """Run a change, the one way to write: call ``do`` with a unit of work, keep what it did, return its result.

        All or nothing: nobody else sees any of it before all of it is kept, as durably as the store can, and only then
        does this method return. If ``do`` raises, nothing is kept, and the caller gets its error with its traceback.
        Once a method of the unit of work has raised a BenefitsError, the change is lost: nothing is kept, and the
        caller gets that error even if ``do`` has caught it. A refusal that rests on another change's result is
        raised after that change is kept.

        A change that finds another one in its way waits for it; then it sees its result. It waits as long as the
        store's patience *to begin*; once begun, it is never abandoned. If it is interrupted (Ctrl-C), it is kept whole
        or not at all; which of the two is unknown.

        :param do: uses its unit of work and nothing else of the store, does no I/O, waits for nothing, and has no
            other side effect. So the store may run it again from the start, and in another thread; there it sees
            the caller's ``contextvars``.
        :raises StorageUnavailableError: it could not begin in time, or the store could not keep it. Nothing of it is kept, with
            one exception: the store lost its connection to the database during the commit, and could not find out whether
            the database has kept it. Then the message says so.
        :raises RuntimeError: it was called inside a change of this store, and would wait for itself.
        """

    def ping(self) -> None:
        """Raise an error unless the store can serve now.

        :raises StorageUnavailableError: it can't.
        """


@runtime_checkable
class NonBlockingStore(Store, Protocol):
    """A store that an event loop can use: the two methods return at once. A store need not offer them.

    :ivar reads_inline: whether its readers and ``ping`` take microseconds, so that an event loop may call them itself.

    A future that is cancelled before its function begins is never run; once it has begun, it can't be cancelled.
    """

    reads_inline: bool

    def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
        """Begin a change; its future ends as :meth:`Store.change` would.

        Of two changes that one thread submits, the first one runs first, unless it has to wait for another process.

        :raises RuntimeError: as :meth:`Store.change`, or the store is closed.
        """

    def submit_read(self, query: Callable[[View], _Result]) -> Future[_Result]:
        """Begin to read: the future returns what ``query`` returns. It may have ended already.

        :param query: reads the view, and does nothing else; it may run in another thread, without the caller's
            ``contextvars``.
        """
