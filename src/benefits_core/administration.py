"""The use cases of operators: offer and retire products, list users and orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, Protocol, TypeVar

import attrs

from benefits_core.errors import InvalidValueError, ProductsNotFoundError
from benefits_core.model import Order, Product, Signature, User
from benefits_core.ports import Store, UnitOfWork, View
from benefits_core.values import normal_user_id, utc

# How many users or orders are in memory at a time.
_PAGE: Final = 500

_Row = TypeVar("_Row")
_Row_co = TypeVar("_Row_co", covariant=True)


@attrs.frozen
class OfferProducts:
    """Add products to the catalogue, or change their names and prices.

    :param store: where the catalogue is kept.
    """

    store: Store

    def __call__(
        self,
        products: Iterable[Product],
        *,
        retire_others: Signature | None = None,
        dry_run: bool = False,
    ) -> tuple[str, ...]:
        """Add or update products. The catalogue then begins with them, in this order.

        :param retire_others: the operator's signature, if all other products are to be retired.
        :param dry_run: change nothing.
        :returns: the ids of the products that are retired.
        :raises InvalidValueError: an id occurs twice.
        :raises StorageUnavailableError: the store can't serve now.
        """
        offered = tuple(products)
        seen: set[str] = set()
        for product in offered:
            if product.product_id in seen:
                raise InvalidValueError("product_id", product.product_id, "in the list once")
            seen.add(product.product_id)

        def offer(work: UnitOfWork) -> tuple[str, ...]:
            leaving: tuple[str, ...] = ()
            if retire_others is not None:
                others = (product.product_id for product in work.products.list_all())
                leaving = tuple(product_id for product_id in others if product_id not in seen)
            if not dry_run:
                work.products.put(offered)
                if retire_others is not None:
                    work.products.retire(leaving, retire_others)
            return leaving

        return self.store.change(offer)


@attrs.frozen
class RetireProducts:
    """Take products out of the catalogue: not listed any more, and not ordered, but still owned.

    :param store: where the catalogue is kept.
    """

    store: Store

    def __call__(
        self, product_ids: Iterable[str], signature: Signature, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """Retire all of these products, or none. Those that are retired already stay as they are.

        :param signature: the operator's.
        :param dry_run: change nothing.
        :returns: the ids of the products that were in the catalogue until now.
        :raises ProductsNotFoundError: some were never in the catalogue.
        :raises StorageUnavailableError: the store can't serve now.
        """
        leaving = tuple(dict.fromkeys(product_ids))

        def retire(work: UnitOfWork) -> tuple[str, ...]:
            offered, retired = work.products.find(leaving), work.products.retired()
            unknown = tuple(key for key in leaving if key not in offered and key not in retired)
            if unknown:
                raise ProductsNotFoundError(unknown)
            if not dry_run:
                work.products.retire(leaving, signature)
            return tuple(key for key in leaving if key in offered)

        return self.store.change(retire)


@attrs.frozen
class ListUsers:
    """List all users.

    :param view: where users are kept.
    """

    view: View

    def __call__(self) -> Iterator[User]:
        """Return the users one by one, in the sequence of their ids.

        They are read page by page, so that any number of them needs little memory. A user that is added in the meantime may
        be there or not.

        :raises StorageUnavailableError: the store can't serve now.
        """
        return _all(self.view.users.page, lambda user: user.user_id)


@attrs.frozen
class ListOrders:
    """List orders.

    :param view: where orders are kept.
    """

    view: View

    def __call__(
        self,
        *,
        user_id: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> Iterator[Order]:
        """Return orders one by one, in the sequence of their ids, page by page as :class:`ListUsers` does.

        :param user_id: only those of this user.
        :param since: only those placed at this moment or later; timezone-aware.
        :param before: only those placed earlier than this moment; timezone-aware.
        :raises InvalidUserIdError: it is not a valid user id.
        :raises InvalidValueError: a moment has no timezone.
        :raises StorageUnavailableError: the store can't serve now.
        """
        first = None if since is None else utc(since, "since")
        end = None if before is None else utc(before, "before")
        orders: Iterable[Order]
        if user_id is None:
            orders = _all(self.view.orders.page, lambda order: order.order_id)
        else:
            orders = self.view.orders.of_user(normal_user_id(user_id))
        return (
            order
            for order in orders
            if (first is None or first <= order.placed_at) and (end is None or order.placed_at < end)
        )


class _Page(Protocol[_Row_co]):
    def __call__(self, limit: int, *, after: str | None) -> Sequence[_Row_co]: ...


def _all(read: _Page[_Row], id_of: Callable[[_Row], str]) -> Iterator[_Row]:
    last = None
    while page := read(_PAGE, after=last):
        yield from page
        last = id_of(page[-1])
