"""The business: products with a price, users with a balance, the money granted to them, and their orders.

Pure, immutable values, valid from the moment they exist. Nothing here reads, stores or knows a wire format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import attrs

from benefits_core.errors import (
    GrantRefusedError,
    InsufficientBalanceError,
    InvalidValueError,
    PriceChangedError,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
)
from benefits_core.values import (
    MAX_ID_LENGTH,
    MAX_MONEY,
    MAX_NAME_LENGTH,
    change_of_money,
    collection,
    difference,
    money,
    normal_reference,
    normal_user_id,
    sum_of,
    text,
    utc,
)

OPENING: Final = "opening"
"""The reference of every user's first grant."""

OPENING_BALANCE: Final = Decimal(500)
"""What a new user may spend, unless the employer decides otherwise."""

# Who signs the opening grant.
_SERVICE: Final = "benefits"


# Converters, one for each field, so that a valid value is in its one canonical form too: two decimals, NFC, a tuple.
def _product_id(value: str) -> str:
    return text(value, "product_id", MAX_ID_LENGTH)


def _order_id(value: str) -> str:
    return text(value, "order_id", MAX_ID_LENGTH)


def _name(value: str) -> str:
    return text(value, "name", MAX_NAME_LENGTH)


def _price(value: Decimal) -> Decimal:
    return money(value, "price")


def valid_opening_balance(value: Decimal) -> Decimal:
    """Return what a new user may spend, in money, if it is valid."""
    return money(value, "opening_balance")


def _balance(value: Decimal) -> Decimal:
    return money(value, "balance")


def _product_ids(values: Iterable[str]) -> tuple[str, ...]:
    product_ids = collection(values, "product_ids", str)
    for product_id in product_ids:
        text(product_id, "product_ids", MAX_ID_LENGTH)
    if len(set(product_ids)) < len(product_ids):
        raise InvalidValueError("product_ids", product_ids, "distinct ids")
    return product_ids


def _amount(value: Decimal) -> Decimal:
    return change_of_money(value, "amount")


def _placed_at(value: datetime) -> datetime:
    return utc(value, "placed_at")


def _lines(values: Iterable[OrderLine]) -> tuple[OrderLine, ...]:
    lines = collection(values, "lines", OrderLine)
    if not lines or len({line.product_id for line in lines}) < len(lines):
        raise InvalidValueError("lines", lines, "one line or more, each of another product")
    return lines


def _at(value: datetime) -> datetime:
    return utc(value, "at")


def _by(value: str) -> str:
    return text(value, "by", MAX_NAME_LENGTH)


def _note(value: str) -> str:
    return value if value == "" else text(value, "note", MAX_NAME_LENGTH)


@attrs.frozen
class Signature:
    """Who did something for the employer, when, and why.

    :param by: the operator's name; 1 to 200 code points.
    :param at: when; timezone-aware, kept in UTC.
    :param note: why, in at most 200 code points; empty if there is nothing to say.
    :raises InvalidValueError: a value breaks its field's rule.
    """

    by: str = attrs.field(converter=_by)
    at: datetime = attrs.field(converter=_at)
    note: str = attrs.field(default="", converter=_note)


def _is_signature(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Signature):
        raise InvalidValueError(field.name, value, "a Signature")


@attrs.frozen
class Grant:
    """Money that the employer gives to a user. A user gets at most one grant of each reference.

    :param user_id: who gets it.
    :param reference: what it is for, such as ``budget-2027``; normalised, like a user id.
    :param amount: in money; a negative amount is a correction.
    :param signature: who gave it, when, and why.
    :raises InvalidValueError: a value breaks its field's rule.
    """

    user_id: str = attrs.field(converter=normal_user_id)
    reference: str = attrs.field(converter=normal_reference)
    amount: Decimal = attrs.field(converter=_amount)
    signature: Signature = attrs.field(validator=_is_signature)

    @classmethod
    def opening(cls, user_id: str, amount: Decimal, at: datetime) -> Grant:
        """Return the first grant of a user: what they may spend at first.

        :param amount: in money; not negative.
        :param at: when; timezone-aware.
        """
        return cls(user_id, OPENING, valid_opening_balance(amount), Signature(_SERVICE, at))


@attrs.frozen
class Product:
    """Something an employer offers.

    :param product_id: unique in the catalogue, compared exactly; 1 to 64 code points.
    :param name: what people call it; 1 to 200 code points.
    :param price: in money; 0 is a free benefit.
    :raises InvalidValueError: a value breaks its field's rule.
    """

    product_id: str = attrs.field(converter=_product_id)
    name: str = attrs.field(converter=_name)
    price: Decimal = attrs.field(converter=_price)


@attrs.frozen
class OrderLine:
    """One product of an order, with the name and the price that it had when it was bought."""

    product_id: str = attrs.field(converter=_product_id)
    name: str = attrs.field(converter=_name)
    price: Decimal = attrs.field(converter=_price)


@attrs.frozen
class Order:
    """What a user bought, kept for ever as it was: later names and prices never change it.

    :param order_id: unique among all orders.
    :param user_id: who ordered.
    :param lines: the products in the order sent, each once.
    :param placed_at: when; timezone-aware, kept in UTC.
    :param cancelled: who cancelled it, when, and why; None if nobody has.
    :raises InvalidValueError: a value breaks its field's rule.
    """

    order_id: str = attrs.field(converter=_order_id)
    user_id: str = attrs.field(converter=normal_user_id)
    lines: tuple[OrderLine, ...] = attrs.field(converter=_lines)
    placed_at: datetime = attrs.field(converter=_placed_at)
    cancelled: Signature | None = attrs.field(
        default=None, validator=attrs.validators.optional(_is_signature)
    )
    total: Decimal = attrs.field(init=False)
    """What it cost, in money: the sum of its lines."""

    @total.default
    def _sum_of_lines(self) -> Decimal:
        return money(sum_of([line.price for line in self.lines]), "total")

    @property
    def items(self) -> tuple[str, ...]:
        """The ids of the products bought, in the order sent."""
        return tuple([line.product_id for line in self.lines])


@attrs.frozen
class User:
    """Someone with a balance to spend, and what they own.

    For every user, the sum of their grants is the balance and the totals of their orders that are not cancelled.

    :param user_id: the user name, normalised.
    :param balance: what is left to spend, in money.
    :param product_ids: the products of orders that are not cancelled, in the order bought.
    :raises InvalidValueError: a value breaks its field's rule.
    """

    user_id: str = attrs.field(converter=normal_user_id)
    balance: Decimal = attrs.field(converter=_balance)
    product_ids: tuple[str, ...] = attrs.field(default=(), converter=_product_ids)

    def receive(self, grant: Grant, granted: Decimal) -> User:
        """Return the user as a grant leaves them.

        :param granted: the sum of the grants that they have already, in money.
        :raises GrantRefusedError: the balance would be negative, or all grants together more than money can be.
        :raises InvalidValueError: it is another user's grant.
        """
        if grant.user_id != self.user_id:
            raise InvalidValueError("grant", grant, f"a grant to {self.user_id!r}")
        balance = sum_of((self.balance, grant.amount))
        if balance < 0 or sum_of((granted, grant.amount)) > MAX_MONEY:
            raise GrantRefusedError(self.user_id, self.balance, grant.amount)
        return User(self.user_id, balance, self.product_ids)

    def buy(
        self,
        products: Sequence[Product],
        *,
        order_id: str,
        placed_at: datetime,
        expected_total: Decimal | None = None,
    ) -> tuple[User, Order]:
        """Buy products: nothing twice, and nothing beyond the balance; costing exactly the balance is fine.

        :param products: at least one, each once, as :func:`basket` gives them.
        :param expected_total: what the user believes that they cost, in money; None if they buy at any price.
        :returns: the user as it is afterwards, and the order.
        :raises ProductsAlreadyPurchasedError: the user owns some of them.
        :raises PriceChangedError: they cost something else.
        :raises InsufficientBalanceError: they cost more than the balance.
        """
        owned = tuple(product.product_id for product in products if product.product_id in self.product_ids)
        if owned:
            raise ProductsAlreadyPurchasedError(owned)
        total = sum_of(product.price for product in products)
        if expected_total is not None and total != expected_total:
            raise PriceChangedError(expected_total, total)
        if total > self.balance:
            raise InsufficientBalanceError(self.balance, total)
        lines = tuple(OrderLine(product.product_id, product.name, product.price) for product in products)
        order = Order(order_id, self.user_id, lines, placed_at)
        balance = difference(self.balance, order.total)
        return User(self.user_id, balance, self.product_ids + order.items), order

    def cancel(self, order: Order, signature: Signature) -> tuple[User, Order]:
        """Undo an order of theirs: its total is credited, and its products can be ordered again.

        :param order: an order of this user that is not cancelled.
        :param signature: who cancels it, when, and why.
        :returns: the user and the order as they are afterwards.
        :raises InvalidValueError: it is not such an order.
        """
        if (
            order.user_id != self.user_id
            or order.cancelled is not None
            or not set(order.items).issubset(self.product_ids)
        ):
            raise InvalidValueError("order", order, f"an order of {self.user_id!r} that is not cancelled")
        balance = sum_of((self.balance, order.total))
        kept = tuple(product_id for product_id in self.product_ids if product_id not in order.items)
        return User(self.user_id, balance, kept), attrs.evolve(order, cancelled=signature)


def basket(items: Iterable[str], on_offer: Mapping[str, Product]) -> tuple[Product, ...]:
    """Return the products that an order's items name: each once, in the order sent.

    An order is a set of products, so an id repeated counts once; and it is whole or not at all.

    :param items: product ids; any strings.
    :param on_offer: the products that can be had, by id.
    :raises ProductsNotFoundError: some can't be had, or no item was named.
    """
    wanted = tuple(dict.fromkeys(items))
    unknown = tuple(product_id for product_id in wanted if product_id not in on_offer)
    if unknown or not wanted:
        raise ProductsNotFoundError(unknown)
    return tuple(on_offer[product_id] for product_id in wanted)
