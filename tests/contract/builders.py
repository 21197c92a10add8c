"""Values for tests, and the small moves that tests of a store are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from benefits_core import OfferProducts, Order, OrderLine, PlaceOrder, Product, Store, User

NETFLIX = Product("netflix", "Netflix", Decimal("75.99"))
SPOTIFY = Product("spotify", "Spotify", Decimal("45.99"))
GYM = Product("gym", "Gym", Decimal(400))
FREE = Product("flu-shot", "Flu vaccination", Decimal(0))
CATALOGUE = (NETFLIX, SPOTIFY, GYM, FREE)

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def stocked(store: Store) -> Store:
    """Return the store with the catalogue in it."""
    OfferProducts(store)(CATALOGUE)
    return store


def order(store: Store, user_id: str, *items: str) -> Order:
    """Place an order."""
    return PlaceOrder(store)(user_id, items)


def drawn_up(order_id: str, user_id: str, *products: Product) -> Order:
    """Return an order that nobody has checked."""
    return Order(
        order_id, user_id, [OrderLine(product.product_id, product.price) for product in products], NOON
    )


def add_user(store: Store, user_id: str, opening_balance: int = 500) -> User:
    """Store a user, and return it."""
    with store.unit_of_work() as work:
        return work.users.get_or_add(User.newcomer(user_id, Decimal(opening_balance)))
