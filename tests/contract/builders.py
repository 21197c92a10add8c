"""Values for tests, and the small steps that tests of a store consist of."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from benefits_core import (
    Grant,
    OfferProducts,
    Order,
    OrderLine,
    PlaceOrder,
    Product,
    Signature,
    Store,
    UnitOfWork,
    User,
)

NETFLIX = Product("netflix", "Netflix", Decimal("75.99"))
SPOTIFY = Product("spotify", "Spotify", Decimal("45.99"))
GYM = Product("gym", "Gym", Decimal(400))
FREE = Product("flu-shot", "Flu vaccination", Decimal(0))
CATALOGUE = (NETFLIX, SPOTIFY, GYM, FREE)

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SIGNED = Signature("Al", NOON, "contract ended")


def stocked(store: Store) -> Store:
    """Return the store with the catalogue in it."""
    OfferProducts(store)(CATALOGUE)
    return store


def order(store: Store, user_id: str, *items: str) -> Order:
    """Place an order."""
    return PlaceOrder(store)(user_id, items)


def with_two_orders(store: Store) -> Store:
    """Return the store with the catalogue, of which jo has bought three products in two orders."""
    order(stocked(store), "jo", "netflix", "spotify")
    order(store, "jo", "flu-shot")
    return store


def opening(user_id: str, amount: Decimal | int = 500) -> Grant:
    """Return the opening grant of a user."""
    return Grant.opening(user_id, Decimal(amount), NOON)


def add_user(store: Store, user_id: str, opening_balance: int = 500) -> User:
    """Store a user, and return it."""
    return store.change(lambda work: work.users.get_or_add(opening(user_id, opening_balance)))


def drawn_up(order_id: str, user_id: str, *products: Product) -> Order:
    """Return an order that nothing has checked."""
    lines = [OrderLine(product.product_id, product.name, product.price) for product in products]
    return Order(order_id, user_id, lines, NOON)


def buyer_of(user: User, placed: Order) -> User:
    """Return a user as an order leaves them that nothing has checked."""
    return User(user.user_id, user.balance - placed.total, user.product_ids + placed.items)


def buy(work: UnitOfWork, user_id: str, *products: Product) -> Order:
    """Buy products for a user within a change, at prices that need not be the catalogue's."""
    user = work.users.get_or_add(opening(user_id))
    buyer, bought = user.buy(products, order_id=work.orders.new_id(), placed_at=NOON)
    work.orders.add(bought, buyer)
    return bought
