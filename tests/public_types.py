"""The types of the public names, as mypy shows them to a program that uses the packages."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_type

from flask import Blueprint, Flask

from benefits_core import (
    GetUser,
    Grant,
    ListProducts,
    MemoryStore,
    Order,
    PlaceOrder,
    Product,
    Store,
    UseCases,
    User,
)
from benefits_http import benefits_blueprint, create_app
from benefits_sqlite import SqliteStore

memory: Store = MemoryStore()
sqlite: Store = SqliteStore("benefits.db")

assert_type(GetUser(memory)("johndoe"), User)
assert_type(ListProducts(memory)(), tuple[Product, ...])
assert_type(PlaceOrder(memory)("johndoe", ["netflix"]), Order)
assert_type(memory.users.get("johndoe"), User | None)
assert_type(memory.grants.of_user("johndoe"), tuple[Grant, ...])

use_cases = assert_type(UseCases.over(memory, opening_balance=Decimal(500)), UseCases)
assert_type(use_cases.get_user("johndoe").balance, Decimal)
assert_type(use_cases.list_products(), Sequence[Product])
assert_type(use_cases.list_own_orders("johndoe", 10, None), Sequence[Order])

assert_type(create_app(use_cases, cors_origins=["*"]), Flask)
assert_type(benefits_blueprint(use_cases), Blueprint)
