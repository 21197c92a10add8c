"""Everything the core can raise, under one root. Errors carry data; what to say to whom is the adapter's business."""

from __future__ import annotations

from decimal import Decimal


class BenefitsError(Exception):
    """The root of every error of this library."""


class InvalidValueError(BenefitsError, ValueError):
    """A value that breaks a rule of the model, refused before it could be held.

    :param field: the name of the field it was meant for.
    :param value: what was given.
    :param rule: what the field asks for.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(field, value, rule)
        self.field = field
        self.value = value
        self.rule = rule

    def __str__(self) -> str:
        """Name the field, what it asks for, and the value."""
        return f"{self.field} must be {self.rule}, not {self.value!r}"


class InvalidUserIdError(InvalidValueError):
    """A user_id that nobody can have."""


class OrderRefusedError(BenefitsError):
    """An order that may not be placed. A refused order changes nothing at all."""


class ProductsNotFoundError(OrderRefusedError):
    """The order names products that are not in the catalogue, or none at all.

    :param product_ids: the unknown ids, in the order sent; empty for an empty order.
    """

    def __init__(self, product_ids: tuple[str, ...]) -> None:
        super().__init__(product_ids)
        self.product_ids = product_ids


class ProductsAlreadyPurchasedError(OrderRefusedError):
    """The order names products that its user has bought before.

    :param product_ids: those products' ids, in the order sent.
    """

    def __init__(self, product_ids: tuple[str, ...]) -> None:
        super().__init__(product_ids)
        self.product_ids = product_ids


class InsufficientBalanceError(OrderRefusedError):
    """The order costs more than its user has left.

    :param balance: what the user has, in money.
    :param total: what the order would cost; it may exceed the greatest balance.
    """

    def __init__(self, balance: Decimal, total: Decimal) -> None:
        super().__init__(balance, total)
        self.balance = balance
        self.total = total


class InconsistentChangeError(BenefitsError):
    """A store was asked to keep what would contradict what it holds: a mistake in the calling program."""


class StorageUnavailableError(BenefitsError):
    """The store can't serve now: locked for too long, disk full, unreadable. Nothing was half-written."""
