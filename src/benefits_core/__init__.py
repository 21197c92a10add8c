"""Employee benefits without a framework: the public names of the core, all that a Python program imports."""

from benefits_core.administration import ListOrders, ListUsers, OfferProducts, RetireProducts
from benefits_core.errors import (
    BenefitsError,
    InconsistentChangeError,
    InsufficientBalanceError,
    InvalidUserIdError,
    InvalidValueError,
    OrderRefusedError,
    PriceChangedError,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    StorageUnavailableError,
)
from benefits_core.memory import MemoryStore
from benefits_core.model import OPENING_BALANCE, Order, OrderLine, Product, Signature, User
from benefits_core.ports import NonBlockingStore, Store, UnitOfWork
from benefits_core.use_cases import GetUser, ListProducts, PlaceOrder, UseCases

__all__ = [
    "OPENING_BALANCE",
    "BenefitsError",
    "GetUser",
    "InconsistentChangeError",
    "InsufficientBalanceError",
    "InvalidUserIdError",
    "InvalidValueError",
    "ListOrders",
    "ListProducts",
    "ListUsers",
    "MemoryStore",
    "NonBlockingStore",
    "OfferProducts",
    "Order",
    "OrderLine",
    "OrderRefusedError",
    "PlaceOrder",
    "PriceChangedError",
    "Product",
    "ProductsAlreadyPurchasedError",
    "ProductsNotFoundError",
    "RetireProducts",
    "Signature",
    "StorageUnavailableError",
    "Store",
    "UnitOfWork",
    "UseCases",
    "User",
]
