"""What operators do: offer and retire products, grant money, cancel orders, erase users. ``reporting`` has their reports.

With ``dry_run``, a change runs and is then rolled back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from itertools import chain, islice
from os import urandom
from typing import Final, TypeVar

import attrs

from benefits_core.errors import (
    InvalidValueError,
    OrdersNotFoundError,
    ProductsNotFoundError,
    UsersNotFoundError,
)
from benefits_core.model import OPENING, Grant, Order, Product, Signature, User, valid_opening_balance
from benefits_core.ports import Store, UnitOfWork
from benefits_core.reporting import pages
from benefits_core.values import change_of_money, collection, normal_reference, normal_user_id

# How many users are locked by one call.
_BATCH: Final = 500

# The id of a user who was erased.
_ERASED: Final = re.compile("erased-[0-9a-f]{16}")

_Result = TypeVar("_Result")
_Row = TypeVar("_Row")


class _DryRunError(Exception):
    """Ends a change that is not to be kept."""


def _change(store: Store, do: Callable[[UnitOfWork], _Result], *, dry_run: bool) -> _Result:
    if not dry_run:
        return store.change(do)
    results: list[_Result] = []

    def try_out(work: UnitOfWork) -> None:
        results.append(do(work))
        raise _DryRunError

    with suppress(_DryRunError):
        store.change(try_out)
    return results[-1]


def _distinct(field: str, ids: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise InvalidValueError(field, one, "in the list once")
        seen.add(one)
    return seen


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
        :param dry_run: roll it back.
        :returns: the ids of the products that are retired.
        :raises InvalidValueError: an id occurs twice.
        :raises StorageUnavailableError: the store can't serve now.
        """
        offered = tuple(products)
        ids = _distinct("product_id", (product.product_id for product in offered))

        def offer(work: UnitOfWork) -> tuple[str, ...]:
            leaving: tuple[str, ...] = ()
            if retire_others is not None:
                others = (product.product_id for product in work.products.list_all())
                leaving = tuple(product_id for product_id in others if product_id not in ids)
                work.products.retire(leaving, retire_others)
            work.products.put(offered)
            return leaving

        return _change(self.store, offer, dry_run=dry_run)


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
        :param dry_run: roll it back.
        :returns: the ids of the products that were in the catalogue until now.
        :raises InvalidValueError: the ids are not a collection of strings.
        :raises ProductsNotFoundError: some were never in the catalogue.
        :raises StorageUnavailableError: the store can't serve now.
        """
        leaving = tuple(dict.fromkeys(collection(product_ids, "product_ids", str)))

        def retire(work: UnitOfWork) -> tuple[str, ...]:
            offered, retired = work.products.find(leaving), work.products.retired()
            unknown = tuple(key for key in leaving if key not in offered and key not in retired)
            if unknown:
                raise ProductsNotFoundError(unknown)
            work.products.retire(leaving, signature)
            return tuple(key for key in leaving if key in offered)

        return _change(self.store, retire, dry_run=dry_run)


@attrs.frozen
class GrantOutcome:
    """What a grant to many users has done.

    :param given: the ids of the users who got it.
    :param had: the ids of those who had a grant of this reference already, and got nothing.
    :param created: the ids of those who were created first, and got it.
    """

    given: tuple[str, ...]
    had: tuple[str, ...]
    created: tuple[str, ...]


@attrs.frozen
class GrantMoney:
    """Give money to users, each at most once for each reference. So it can be repeated after a crash.

    :param store: where users and grants are kept.
    """

    store: Store

    def __call__(
        self,
        reference: str,
        amounts: Mapping[str, Decimal] | Decimal,
        signature: Signature,
        *,
        create_with: Decimal | None = None,
        dry_run: bool = False,
    ) -> GrantOutcome:
        """Grant to all of these users, or to none. Users who have a grant of this reference keep it as it is.

        :param reference: what it is for. ``opening`` is reserved.
        :param amounts: what each user gets, by user id, in money; or what all users get that are known at that moment, but
            for those who were erased. A negative amount is a correction.
        :param signature: the operator's.
        :param create_with: the opening balance with which unknown users are created; None to refuse them.
        :param dry_run: roll it back.
        :raises InvalidValueError: a value is invalid, the reference is reserved, or an id occurs in two spellings.
        :raises UsersNotFoundError: some users are unknown.
        :raises GrantRefusedError: a balance would be negative, or the grants of a user more than money can be.
        :raises StorageUnavailableError: the store can't serve now.
        """
        wanted = normal_reference(reference)
        if wanted == OPENING:
            raise InvalidValueError("reference", reference, "another one than the reserved one")
        opening_balance = None if create_with is None else valid_opening_balance(create_with)
        if isinstance(amounts, Mapping):
            grants = [Grant(user_id, wanted, amount, signature) for user_id, amount in amounts.items()]
            _distinct("user_id", (grant.user_id for grant in grants))
            return _change(self.store, lambda work: _grant(work, grants, opening_balance), dry_run=dry_run)
        amount = change_of_money(amounts, "amount")

        def grant_to_all(work: UnitOfWork) -> GrantOutcome:
            users = chain.from_iterable(pages(work.users.page, lambda user: user.user_id))
            known = (user.user_id for user in users if not _ERASED.fullmatch(user.user_id))
            grants = [Grant(user_id, wanted, amount, signature) for user_id in known]
            return _grant(work, grants, None, known_only=True)

        return _change(self.store, grant_to_all, dry_run=dry_run)


def _grant(
    work: UnitOfWork,
    grants: Iterable[Grant],
    opening_balance: Decimal | None,
    *,
    known_only: bool = False,
) -> GrantOutcome:
    """Grant money within a change.

    :param opening_balance: with which unknown users are created; None to refuse them.
    :param known_only: leave unknown users out: until they were locked, another change may have erased them.
    """
    given: list[str] = []
    had: list[str] = []
    created: list[str] = []
    unknown: list[str] = []
    for some in _batches(grants):
        users = dict(work.users.lock(grant.user_id for grant in some))
        missing = [] if known_only else [grant for grant in some if grant.user_id not in users]
        if opening_balance is None:
            unknown += [grant.user_id for grant in missing]
        else:
            openings = [attrs.evolve(grant, reference=OPENING, amount=opening_balance) for grant in missing]
            users.update((opening.user_id, work.users.get_or_add(opening)) for opening in openings)
            # Until it was locked, another change may have added one of them.
            found = work.grants.find(OPENING, (opening.user_id for opening in openings)) if openings else {}
            created += [opening.user_id for opening in openings if found[opening.user_id] == opening]
        if unknown:
            continue  # only to name all of them
        earlier, sums = work.grants.find(some[0].reference, users), work.grants.sums(users)
        for grant in some:
            if grant.user_id in earlier:
                had.append(grant.user_id)
            elif grant.user_id in users:
                receiver = users[grant.user_id].receive(grant, sums[grant.user_id])
                work.grants.add(grant, receiver)
                given.append(grant.user_id)
    if unknown:
        raise UsersNotFoundError(tuple(unknown))
    return GrantOutcome(tuple(given), tuple(had), tuple(created))


@attrs.frozen
class CancelOrders:
    """Undo orders: their totals are credited, and their products can be ordered again. They stay in the book.

    :param store: where orders are kept.
    """

    store: Store

    def __call__(
        self, order_ids: Iterable[str], signature: Signature, *, dry_run: bool = False
    ) -> tuple[Order, ...]:
        """Cancel all of these orders, or none. Those that are cancelled already stay as they are.

        :param signature: the operator's.
        :param dry_run: roll it back.
        :returns: the orders that were not cancelled until now, as they are afterwards.
        :raises InvalidValueError: the ids are not a collection of strings.
        :raises OrdersNotFoundError: some do not exist.
        :raises StorageUnavailableError: the store can't serve now.
        """
        ids = tuple(dict.fromkeys(collection(order_ids, "order_ids", str)))

        def cancel(work: UnitOfWork) -> tuple[Order, ...]:
            users: dict[str, User] = {}
            # Until its user is locked, another change may cancel an order, or erase the user. So read it again afterwards.
            while unlocked := {order.user_id for order in _orders(work, ids)} - users.keys():
                users.update(work.users.lock(unlocked))
            cancelled = []
            for order in _orders(work, ids):
                if order.cancelled is None:
                    owner, after = users[order.user_id].cancel(order, signature)
                    work.orders.cancel(after, owner)
                    users[owner.user_id] = owner
                    cancelled.append(after)
            return tuple(cancelled)

        return _change(self.store, cancel, dry_run=dry_run)


def _orders(work: UnitOfWork, order_ids: Iterable[str]) -> list[Order]:
    found = {order_id: work.orders.get(order_id) for order_id in order_ids}
    unknown = tuple(order_id for order_id, order in found.items() if order is None)
    if unknown:
        raise OrdersNotFoundError(unknown)
    return [order for order in found.values() if order is not None]


@attrs.frozen
class EraseUser:
    """Forget who a user was. The orders and grants stay, for the books, under an id that says nothing.

    :param store: where the user is kept.
    """

    store: Store

    def __call__(self, user_id: str, *, dry_run: bool = False) -> str:
        """Replace the id of a user everywhere. Somebody who uses it later is a new user.

        :param dry_run: roll it back.
        :returns: the new id.
        :raises InvalidUserIdError: it is not a valid user id.
        :raises UsersNotFoundError: there is no such user.
        :raises StorageUnavailableError: the store can't serve now.
        """
        normal, new_id = normal_user_id(user_id), f"erased-{urandom(8).hex()}"

        def erase(work: UnitOfWork) -> str:
            if normal not in work.users.lock([normal]):
                raise UsersNotFoundError((normal,))
            work.users.rename(normal, new_id)
            return new_id

        return _change(self.store, erase, dry_run=dry_run)


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
