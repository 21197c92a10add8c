"""What employees do. Each use case fetches, lets the model decide, and stores: the rules are in the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Self

import attrs

from benefits_core.errors import OrdersNotFoundError
from benefits_core.model import OPENING_BALANCE, Grant, Order, Product, User, basket, valid_opening_balance
from benefits_core.ports import Store, UnitOfWork
from benefits_core.values import collection, normal_user_id


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.frozen
class GetUser:
    """Return a user, who is created with the opening balance if need be.

    :param store: where users are kept.
    :param opening_balance: the balance of a new user, in money.
    :param now: the clock; returns a timezone-aware datetime.
    """

    store: Store
    opening_balance: Decimal = attrs.field(default=OPENING_BALANCE, converter=valid_opening_balance)
    now: Callable[[], datetime] = _now

    def __call__(self, user_id: str) -> User:
        """Return the user.

        :param user_id: a user id as a person types it; it is normalised.
        :raises InvalidUserIdError: it is not a valid user id.
        :raises InvalidValueError: the clock's time has no timezone.
        :raises StorageUnavailableError: the store can't serve now.
        """
        normal = normal_user_id(user_id)
        stored = self.store.users.get(normal)
        if stored is not None:
            return stored
        opening = Grant.opening(normal, self.opening_balance, self.now())
        return self.store.change(lambda work: work.users.get_or_add(opening))


@attrs.frozen
class ListProducts:
    """List the catalogue.

    :param store: where the catalogue is kept.
    """

    store: Store

    def __call__(self) -> tuple[Product, ...]:
        """Return all products, in the catalogue's order.

        :raises StorageUnavailableError: the store can't serve now.
        """
        return self.store.products.list_all()


@attrs.frozen
class PlaceOrder:
    """Place an order for a user, who is created in the same change if need be.

    :param store: where everything is kept.
    :param opening_balance: the balance of a new user, in money.
    :param now: the clock; returns a timezone-aware datetime.
    """

    store: Store
    opening_balance: Decimal = attrs.field(default=OPENING_BALANCE, converter=valid_opening_balance)
    now: Callable[[], datetime] = _now

    def __call__(self, user_id: str, items: Iterable[str], expected_total: Decimal | None = None) -> Order:
        """Return the new order. A refused order changes nothing, and creates no user.

        :param user_id: a user id as a person types it; it is normalised.
        :param items: product ids; a repeated id counts once.
        :param expected_total: what the user believes that the order costs, in money; None to order at any price.
        :raises InvalidUserIdError: it is not a valid user id.
        :raises InvalidValueError: the items are not a collection of strings, or the clock's time has no timezone.
        :raises ProductsNotFoundError: an item is not in the catalogue, or there are no items.
        :raises ProductsAlreadyPurchasedError: the user owns some of the products already.
        :raises PriceChangedError: the order does not cost what is expected.
        :raises InsufficientBalanceError: the order costs more than the user's balance.
        :raises StorageUnavailableError: the store can't serve now.
        """
        opening = Grant.opening(user_id, self.opening_balance, self.now())
        wanted = collection(items, "items", str)

        def place(work: UnitOfWork) -> Order:
            user = work.users.get_or_add(opening)
            products = basket(wanted, work.products.find(wanted))
            buyer, order = user.buy(
                products,
                order_id=work.orders.new_id(),
                placed_at=self.now(),
                expected_total=expected_total,
            )
            work.orders.add(order, buyer)
            return order

        return self.store.change(place)


@attrs.frozen
class ListOwnOrders:
    """List the orders of one user, for that user.

    :param store: where orders are kept.
    """

    store: Store

    def __call__(self, user_id: str, limit: int, before: str | None = None) -> tuple[Order, ...]:
        """Return the last orders, the last one first; none for an unknown user, who is not created.

        :param user_id: a user id as a person types it; it is normalised.
        :param limit: how many at most; at least 1.
        :param before: the id of an order of this user, to list those before it; None to begin with the last one.
        :raises InvalidUserIdError: it is not a valid user id.
        :raises OrdersNotFoundError: ``before`` is not the id of an order of this user.
        :raises StorageUnavailableError: the store can't serve now.
        """
        normal = normal_user_id(user_id)
        if before is not None:
            order = self.store.orders.get(before)
            if order is None or order.user_id != normal:
                raise OrdersNotFoundError((before,))
        return self.store.orders.latest(normal, limit, before=before)


@attrs.frozen
class UseCases:
    """The use cases of employees, as functions: an adapter needs nothing else.

    A composition root may wrap each of them, for example to check the caller's identity.
    """

    get_user: Callable[[str], User]
    list_products: Callable[[], Sequence[Product]]
    place_order: Callable[[str, Sequence[str], Decimal | None], Order]
    list_own_orders: Callable[[str, int, str | None], Sequence[Order]]
    ping: Callable[[], None]

    @classmethod
    def over(cls, store: Store, *, opening_balance: Decimal = OPENING_BALANCE) -> Self:
        """Return the use cases over a store.

        :param store: where everything is kept.
        :param opening_balance: the balance of a new user, in money.
        """
        return cls(
            GetUser(store, opening_balance),
            ListProducts(store),
            PlaceOrder(store, opening_balance),
            ListOwnOrders(store),
            store.ping,
        )
