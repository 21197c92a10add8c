"""The reports for operators: lists of users and orders, what happened to a balance, what was spent. They change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, tzinfo
from decimal import Decimal
from itertools import chain
from typing import Final, Protocol, TypeVar

import attrs

from benefits_core.errors import UsersNotFoundError
from benefits_core.model import Grant, Order, User
from benefits_core.ports import View
from benefits_core.values import difference, normal_user_id, sum_of, utc

# How many users or orders are in memory at a time.
_PAGE: Final = 500

_Row = TypeVar("_Row")
_Row_co = TypeVar("_Row_co", covariant=True)


@attrs.frozen
class Account:
    """A user, and the money that they have got.

    :param granted: the sum of all grants, in money.
    """

    user: User
    granted: Decimal

    @property
    def spent(self) -> Decimal:
        """What their orders have cost that are not cancelled, in money."""
        return difference(self.granted, self.user.balance)


@attrs.frozen
class ListUsers:
    """List all users.

    :param view: where users and grants are kept.
    """

    view: View

    def __call__(self) -> Iterator[Account]:
        """Return the users one by one, in the sequence of their ids.

        They are read page by page, so that any number of them needs little memory. A user who is added in the
        meantime may be there or not; a grant that is given in the meantime may be missing in the balance.

        :raises StorageUnavailableError: the store can't serve now.
        """
        for users in pages(self.view.users.page, lambda user: user.user_id):
            sums = self.view.grants.sums(user.user_id for user in users)
            # A user who was erased in between is left out.
            yield from (Account(user, sums[user.user_id]) for user in users if user.user_id in sums)


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
        cancelled: bool | None = None,
    ) -> Iterator[Order]:
        """Return orders one by one, in the sequence of their ids, page by page as :class:`ListUsers` does.

        :param user_id: only those of this user.
        :param since: only those placed at this moment or later; timezone-aware.
        :param before: only those placed earlier than this moment; timezone-aware.
        :param cancelled: only those that are cancelled, or only those that are not; None for both.
        :raises InvalidUserIdError: it is not a valid user id.
        :raises InvalidValueError: a moment has no timezone.
        :raises StorageUnavailableError: the store can't serve now.
        """
        first = None if since is None else utc(since, "since")
        end = None if before is None else utc(before, "before")
        orders: Iterable[Order]
        if user_id is None:
            orders = chain.from_iterable(pages(self.view.orders.page, lambda order: order.order_id))
        else:
            orders = self.view.orders.of_user(normal_user_id(user_id))
        return (
            order
            for order in orders
            if (first is None or first <= order.placed_at)
            and (end is None or order.placed_at < end)
            and (cancelled is None or cancelled == (order.cancelled is not None))
        )


@attrs.frozen
class Entry:
    """Something that changed the balance of a user.

    :param at: when.
    :param kind: ``grant``, ``order``, or ``cancellation``.
    :param subject: the grant, or the order that was placed or cancelled.
    :param amount: what was added to the balance, in money; negative if it was taken.
    :param balance: what was left afterwards, in money.
    """

    at: datetime
    kind: str
    subject: Grant | Order
    amount: Decimal
    balance: Decimal


@attrs.frozen
class ShowUser:
    """Show what happened to the balance of a user.

    :param view: where users, grants and orders are kept.
    """

    view: View

    def __call__(self, user_id: str) -> tuple[Entry, ...]:
        """Return all grants, orders and cancellations of a user, as the clock said that they happened.

        :raises InvalidUserIdError: it is not a valid user id.
        :raises UsersNotFoundError: there is no such user.
        :raises StorageUnavailableError: the store can't serve now.
        """
        normal = normal_user_id(user_id)
        grants, orders = self.view.grants.of_user(normal), self.view.orders.of_user(normal)
        if not grants:  # every user has the opening grant
            raise UsersNotFoundError((normal,))
        events: list[tuple[datetime, str, Grant | Order, Decimal]] = []
        events += [(grant.signature.at, "grant", grant, grant.amount) for grant in grants]
        events += [(order.placed_at, "order", order, difference(Decimal(0), order.total)) for order in orders]
        events += [
            (order.cancelled.at, "cancellation", order, order.total)
            for order in orders
            if order.cancelled is not None
        ]
        entries, balance = [], Decimal(0)
        for at, kind, subject, amount in sorted(events, key=lambda event: event[0]):
            balance = sum_of((balance, amount))
            entries.append(Entry(at, kind, subject, amount, balance))
        return tuple(entries)


@attrs.frozen
class Spending:
    """What was spent on a product in a month.

    :param month: the first day of the month.
    :param product_id: the product.
    :param name: its name when it was bought last in this month.
    :param count: how many were bought.
    :param spent: what they cost together, in money.
    """

    month: date
    product_id: str
    name: str
    count: int
    spent: Decimal


@attrs.frozen
class ReportSpending:
    """Report what was ordered and spent. Cancelled orders do not count.

    :param view: where orders are kept.
    """

    view: View

    def __call__(
        self,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        timezone: tzinfo | None = None,
    ) -> tuple[Spending, ...]:
        """Return what was spent in each month on each product that was bought in it, by month and by product id.

        :param since: count only orders placed at this moment or later; timezone-aware.
        :param before: count only orders placed earlier than this moment; timezone-aware.
        :param timezone: that of the months; None for that of the machine.
        :raises InvalidValueError: a moment has no timezone.
        :raises StorageUnavailableError: the store can't serve now.
        """
        found: dict[tuple[date, str], Spending] = {}
        for order in ListOrders(self.view)(since=since, before=before, cancelled=False):
            month = order.placed_at.astimezone(timezone).date().replace(day=1)
            for line in order.lines:
                key = month, line.product_id
                so_far = found.get(key) or Spending(*key, line.name, 0, Decimal(0))
                spent = sum_of((so_far.spent, line.price))
                found[key] = Spending(*key, line.name, so_far.count + 1, spent)
        return tuple(found[key] for key in sorted(found))


class Page(Protocol[_Row_co]):
    """The method ``page`` of a reader."""

    def __call__(self, limit: int, *, after: str | None) -> Sequence[_Row_co]: ...  # noqa: D102


def pages(read: Page[_Row], id_of: Callable[[_Row], str]) -> Iterator[Sequence[_Row]]:
    """Read everything that a store has, page by page.

    :param read: the method ``page`` of a reader.
    :param id_of: returns the id of a row.
    """
    last = None
    while page := read(_PAGE, after=last):
        yield page
        last = id_of(page[-1])
