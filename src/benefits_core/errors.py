"""The errors of the core, with one root. They carry data; adapters choose the words for their users."""

from __future__ import annotations

from decimal import Decimal


class BenefitsError(Exception):
    """The root of every error of this library."""


class InvalidValueError(BenefitsError, ValueError):
    """A value that breaks a rule of the model.

    :param field: the name of the field.
    :param value: the refused value.
    :param rule: which values the field accepts.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(field, value, rule)
        self.field = field
        self.value = value
        self.rule = rule

    def __str__(self) -> str:
        """Return the field, its rule and the value."""
        return f"{self.field} must be {self.rule}, not {self.value!r}"


class InvalidUserIdError(InvalidValueError):
    """A text that can't be a user id."""


class OrderRefusedError(BenefitsError):
    """A refused order. It changes nothing."""


class ProductsNotFoundError(OrderRefusedError):
    """The order contains products that are not in the catalogue, or no product.

    :param product_ids: the unknown ids, in the order sent; empty for an empty order.
    """

    def __init__(self, product_ids: tuple[str, ...]) -> None:
        super().__init__(product_ids)
        self.product_ids = product_ids


class ProductsAlreadyPurchasedError(OrderRefusedError):
    """The order contains products that the user owns already.

    :param product_ids: the ids of these products, in the order sent.
    """

    def __init__(self, product_ids: tuple[str, ...]) -> None:
        super().__init__(product_ids)
        self.product_ids = product_ids


class InsufficientBalanceError(OrderRefusedError):
    """The order costs more than the user's balance.

    :param balance: the user's balance, in money.
    :param total: the cost of the order, in money; it may be above the greatest possible balance.
    """

    def __init__(self, balance: Decimal, total: Decimal) -> None:
        super().__init__(balance, total)
        self.balance = balance
        self.total = total


class InconsistentChangeError(BenefitsError):
    """A change that contradicts the stored data: a bug of the calling program."""


class StorageUnavailableError(BenefitsError):
    """The store can't serve now: it is locked, unreadable, or the disk is full. Nothing was half-written."""
