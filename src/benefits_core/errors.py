"""The errors of the core, with one root. They carry data; adapters choose the words for their users."""

from __future__ import annotations

from decimal import Decimal

import attrs


class BenefitsError(Exception):
    """The root of every error of this library."""


@attrs.define
class InvalidValueError(BenefitsError, ValueError):
    """A value that breaks a rule of the model.

    :param field: the name of the field.
    :param value: the refused value.
    :param rule: which values the field accepts.
    """

    field: str
    value: object
    rule: str

    def __str__(self) -> str:
        """Return the field, its rule and the value."""
        return f"{self.field} must be {self.rule}, not {self.value!r}"


class InvalidUserIdError(InvalidValueError):
    """A text that can't be a user id."""


class OrderRefusedError(BenefitsError):
    """A refused order. It changes nothing."""


@attrs.define
class ProductsNotFoundError(OrderRefusedError):
    """The order contains products that are not in the catalogue, or no product.

    :param product_ids: the unknown ids, in the order sent; empty for an empty order.
    """

    product_ids: tuple[str, ...]


@attrs.define
class ProductsAlreadyPurchasedError(OrderRefusedError):
    """The order contains products that the user owns already.

    :param product_ids: the ids of these products, in the order sent.
    """

    product_ids: tuple[str, ...]


@attrs.define
class PriceChangedError(OrderRefusedError):
    """The order does not cost what the client expects: a price has changed since.

    :param expected: what the client expects, in money or any other number.
    :param total: the cost of the order, in money; it may be above the greatest possible balance.
    """

    expected: Decimal
    total: Decimal


@attrs.define
class InsufficientBalanceError(OrderRefusedError):
    """The order costs more than the user's balance.

    :param balance: the user's balance, in money.
    :param total: the cost of the order, in money; it may be above the greatest possible balance.
    """

    balance: Decimal
    total: Decimal


@attrs.define
class GrantRefusedError(BenefitsError):
    """A grant that would make the balance of a user negative, or all their grants more than money can be.

    :param user_id: the user.
    :param balance: the balance without the grant, in money.
    :param amount: the amount of the grant, in money; it may be negative.
    """

    user_id: str
    balance: Decimal
    amount: Decimal


@attrs.define
class UsersNotFoundError(BenefitsError):
    """There are no such users.

    :param user_ids: the unknown ids, in the sequence in which they were named.
    """

    user_ids: tuple[str, ...]


@attrs.define
class OrdersNotFoundError(BenefitsError):
    """There are no such orders.

    :param order_ids: the unknown ids, in the sequence in which they were named.
    """

    order_ids: tuple[str, ...]


class InconsistentChangeError(BenefitsError):
    """A change that contradicts the stored data: a bug of the calling program."""


class StorageUnavailableError(BenefitsError):
    """The store can't serve now: it is locked, unreadable, or the disk is full. Nothing was half-written."""
