"""For authors of stores: the state of one change, with the checks that every store makes, and a lock for changes."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from threading import RLock, get_ident
from typing import Final, TypeVar

import attrs

from benefits_core.errors import BenefitsError, InconsistentChangeError
from benefits_core.model import OPENING, Grant, Order, Signature, User
from benefits_core.values import sum_of

_Error = TypeVar("_Error", bound=BaseException)
_Result = TypeVar("_Result")

_NOT_LOCKED: Final = "this change has not locked this user"


@attrs.define
class ChangeState:
    """What a unit of work remembers: its users, the order ids it gave out, and whether it can still be used.

    :ivar users: the users that this change has locked, as they are now, by id.
    :ivar new_ids: the order ids that ``new_id`` has returned and that an order may still have.
    """

    users: dict[str, User] = attrs.field(factory=dict)
    new_ids: list[str] = attrs.field(factory=list)
    _ended: bool = False
    _error: BaseException | None = None

    def require_usable(self) -> None:
        """Raise an error unless the change goes on.

        :raises RuntimeError: it has ended.
        :raises BenefitsError: it is lost, for this reason.
        """
        if self._ended:
            raise RuntimeError("the change of this unit of work has ended")
        if self._error is not None:
            raise self._error

    def lose(self, error: _Error) -> _Error:
        """Mark the change as lost: from now on, ``require_usable`` raises this error. Return it."""
        self._error = error
        return error

    def end(self) -> None:
        """Mark the change as ended."""
        self._ended, self._error = True, None  # an error refers to every frame that it passed through

    def require_opening(self, grant: Grant) -> None:
        """Raise an error, and lose the change, unless a grant can be the first one of a user.

        :raises InconsistentChangeError: see :meth:`benefits_core.ports.UserRepository.get_or_add`.
        """
        self.require_usable()
        if grant.reference != OPENING or grant.amount < 0:
            raise self._inconsistent(grant, f"{grant.amount} can't be an opening balance")

    def require_known(self, product_ids: Iterable[str], known: Container[str]) -> None:
        """Raise an error, and lose the change, unless all these products have ever been in the catalogue.

        :param known: ids of products in the catalogue and of retired ones.
        :raises InconsistentChangeError: see :meth:`benefits_core.ports.ProductRepository.retire`.
        """
        unknown = [product_id for product_id in product_ids if product_id not in known]
        if unknown:
            raise self.lose(InconsistentChangeError(f"some of {unknown!r} was never in the catalogue"))

    def add_order(self, order: Order, buyer: User, catalogue: Container[str]) -> None:
        """Check an order as ``orders.add`` promises, and remember its buyer. If a check fails, the change is lost.

        The balance is not computed again: :meth:`User.buy` did that. Only an impossible one is refused.

        :param catalogue: ids of products in the catalogue; those that were not ordered may be missing.
        :raises InconsistentChangeError: see :class:`~benefits_core.ports.OrderRepository`.
        """
        if (contradiction := self._contradiction_of_order(order, buyer, catalogue)) is not None:
            raise self._inconsistent(order, contradiction)
        del self.new_ids[: self.new_ids.index(order.order_id) + 1]  # later orders have larger ids
        self.users[buyer.user_id] = buyer

    def cancel_order(self, order: Order, owner: User, stored: Order | None) -> Signature:
        """Check a cancelled order as ``orders.cancel`` promises, and remember its owner. If a check fails, the change is lost.

        :param stored: the order of this id as it is in the book; None if there is none.
        :returns: who has cancelled it.
        :raises InconsistentChangeError: see :class:`~benefits_core.ports.OrderRepository`.
        """
        if order.cancelled is None or stored != attrs.evolve(order, cancelled=None):
            raise self._inconsistent(order, "there is no such order that is not cancelled")
        if (contradiction := self._contradiction_of_cancelling(order, owner)) is not None:
            raise self._inconsistent(order, contradiction)
        self.users[owner.user_id] = owner
        return order.cancelled

    def add_grant(self, grant: Grant, receiver: User) -> None:
        """Check a grant as ``grants.add`` promises, and remember its receiver. If a check fails, the change is lost.

        Not checked: whether the user has a grant of this reference already.

        :raises InconsistentChangeError: see :class:`~benefits_core.ports.GrantRepository`.
        """
        if (contradiction := self._contradiction_of_grant(grant, receiver)) is not None:
            raise self._inconsistent(grant, contradiction)
        self.users[receiver.user_id] = receiver

    def rename(self, user_id: str, new_id: str, *, taken: bool) -> None:
        """Check a new id as ``users.rename`` promises, and remember the user by it. If a check fails, the change is lost.

        :param taken: whether there is a user of the new id.
        :raises InconsistentChangeError: see :class:`~benefits_core.ports.UserRepository`.
        """
        if user_id not in self.users or taken:
            reason = "there is a user of this id" if taken else _NOT_LOCKED
            raise self.lose(InconsistentChangeError(f"user {user_id!r} can't become {new_id!r}: {reason}"))
        self.users[new_id] = attrs.evolve(self.users.pop(user_id), user_id=new_id)

    def _inconsistent(self, fact: Order | Grant, contradiction: str) -> BenefitsError:
        name = f"order {fact.order_id!r}" if isinstance(fact, Order) else f"grant {fact.reference!r}"
        return self.lose(InconsistentChangeError(f"{name} of {fact.user_id!r}: {contradiction}"))

    def _contradiction_of_order(  # noqa: PLR0911 - a rule a line
        self, order: Order, buyer: User, catalogue: Container[str]
    ) -> str | None:
        before, items = self.users.get(order.user_id), order.items
        if before is None:
            return _NOT_LOCKED
        if buyer.user_id != order.user_id:
            return f"{buyer.user_id!r} can't be its buyer"
        if not 0 <= buyer.balance <= before.balance:
            return f"it leaves a balance of {buyer.balance}"
        if not all(product_id in catalogue for product_id in items):
            return f"some of {items!r} is not in the catalogue"
        if not set(items).isdisjoint(before.product_ids):
            return f"some of {items!r} is owned already"
        if buyer.product_ids != before.product_ids + items:
            return f"it adds {items!r} to {before.product_ids!r}, which does not make {buyer.product_ids!r}"
        if order.order_id not in self.new_ids:
            return "new_id did not return this id in this change, after that of the order before"
        return None

    def _contradiction_of_cancelling(self, order: Order, owner: User) -> str | None:
        before, items = self.users.get(order.user_id), order.items
        if before is None:
            return _NOT_LOCKED
        if owner.user_id != order.user_id:
            return f"{owner.user_id!r} can't be its owner"
        if owner.balance < before.balance:
            return f"it leaves a balance of {owner.balance}"
        if owner.product_ids != tuple(key for key in before.product_ids if key not in items):
            return (
                f"it takes {items!r} from {before.product_ids!r}, which does not make {owner.product_ids!r}"
            )
        return None

    def _contradiction_of_grant(self, grant: Grant, receiver: User) -> str | None:
        before = self.users.get(grant.user_id)
        if before is None:
            return _NOT_LOCKED
        if receiver.user_id != grant.user_id:
            return f"{receiver.user_id!r} can't be its receiver"
        if receiver.balance < 0 or receiver.balance != sum_of((before.balance, grant.amount)):
            return f"it leaves a balance of {receiver.balance}, after {before.balance}"
        if receiver.product_ids != before.product_ids:
            return f"it can't change {before.product_ids!r} to {receiver.product_ids!r}"
        return None


class LockTimeoutError(Exception):
    """Another thread held the lock for too long."""


def finally_do(clean_up: Callable[[], None], function: Callable[[], _Result]) -> _Result:
    """Call a function, and then the clean-up, whatever happens: return or raise what the function does.

    Ctrl-C can interrupt a ``finally``. Then the clean-up runs again, to its end; a second Ctrl-C is not handled.

    :param clean_up: may be called twice, and does nothing the second time.
    """
    try:
        try:
            return function()
        finally:
            clean_up()
    except BaseException:
        clean_up()
        raise


class ChangeLock:
    """Lets one change run at a time, and refuses a change inside a change."""

    def __init__(self) -> None:
        # An RLock, since its release raises an error in a thread that does not hold it. So the clean-up may always try:
        # Ctrl-C may arrive after the acquisition, before any variable says that the lock is held.
        self._lock = RLock()
        self._owner: int | None = None

    def run(self, change: Callable[[], _Result], *, timeout: float) -> _Result:
        """Return what the change returns.

        :param timeout: how long to wait for the changes of other threads, in seconds; 0 is not to wait.
        :raises LockTimeoutError: it took them longer.
        :raises RuntimeError: this thread is in a change already.
        """
        self.require_outside()
        return finally_do(self._release, lambda: self._acquire_and_run(change, timeout))

    def require_outside(self) -> None:
        """Raise an error if this thread is in a change.

        :raises RuntimeError: it is.
        """
        if self._owner == get_ident():
            raise RuntimeError("a change inside a change would wait for itself")

    def _acquire_and_run(self, change: Callable[[], _Result], timeout: float) -> _Result:
        if not self._lock.acquire(timeout=timeout):
            raise LockTimeoutError
        self._owner = get_ident()
        return change()

    def _release(self) -> None:
        if self._owner == get_ident():
            self._owner = None
        with suppress(RuntimeError):  # this thread does not hold it
            self._lock.release()
