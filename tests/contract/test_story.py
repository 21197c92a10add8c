"""One random story, run against a plain model, every store, and the HTTP API over every store; all must agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from threading import Event
from typing import Any, Protocol, cast

import attrs
import pytest
from flask.testing import FlaskClient
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from benefits_core import (
    CancelOrders,
    EraseUser,
    GetUser,
    GrantMoney,
    GrantOutcome,
    GrantRefusedError,
    InsufficientBalanceError,
    InvalidValueError,
    ListProducts,
    NonBlockingStore,
    OfferProducts,
    Order,
    OrderRefusedError,
    PlaceOrder,
    PriceChangedError,
    Product,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    RetireProducts,
    ShowUser,
    Store,
    UseCases,
    UsersNotFoundError,
)
from benefits_http import create_app
from contract.builders import SIGNED
from contract.stores import STORES, StoreKind
from waiting import A_LONG_TIME

CODES: dict[type[OrderRefusedError], str] = {
    ProductsNotFoundError: "products_not_found",
    ProductsAlreadyPurchasedError: "products_already_purchased",
    PriceChangedError: "price_changed",
    InsufficientBalanceError: "insufficient_balance",
}

# Few names and ids, so that stories meet themselves; two spellings of one name; prices around what 500 can buy.
user_ids = st.sampled_from(["jo", "Jo", " José ", "Jose\u0301", "a/b", "\U0001f469\u200d\U0001f680"])
product_ids = st.sampled_from(["a", "b", "c", "d", "E", "é"])
cents = st.sampled_from([0, 1, 1999, 12500, 25000, 49999, 50000, 50001, 999_999_999_999])
catalogues = st.lists(st.tuples(product_ids, cents), max_size=4, unique_by=lambda entry: entry[0])
baskets = st.lists(product_ids | st.sampled_from(["", "unknown"]), max_size=4)


@attrs.define
class Placed:
    """An order in the plain model; money in cents."""

    items: list[str]
    total: int
    cancelled: bool = False


@attrs.define
class Account:
    """A user in the plain model; money in cents."""

    balance: int = 50_000
    owned: list[str] = attrs.field(factory=list)
    orders: list[Placed] = attrs.field(factory=list)
    references: set[str] = attrs.field(factory=set)


Outcome = tuple[list[str], list[str]]
"""Who got a grant, and who had it already."""


class Plain:
    """The rules once more, as plainly as can be: integers and lists, no classes of ours."""

    def __init__(self) -> None:
        self.prices: dict[str, int] = {}
        self.retired: set[str] = set()
        self.accounts: dict[str, Account] = {}

    def retire(self, key: str) -> bool:
        if key not in self.prices and key not in self.retired:
            return False
        self.prices.pop(key, None)
        self.retired.add(key)
        return True

    def offer(self, entries: Sequence[tuple[str, int]]) -> None:
        self.retired -= {key for key, _ in entries}
        rest = {key: price for key, price in self.prices.items() if key not in dict(entries)}
        self.prices = {**dict(entries), **rest}

    def user(self, name: str) -> tuple[int, list[str]]:
        account = self.accounts.setdefault(normal(name), Account())
        return account.balance, account.owned

    def order(self, name: str, items: Sequence[str], expected: int | None) -> str | tuple[list[str], int]:
        account = self.accounts.get(normal(name), Account())
        wanted = list(dict.fromkeys(items))
        if not wanted or not set(wanted) <= self.prices.keys():
            return "products_not_found"
        if set(wanted) & set(account.owned):
            return "products_already_purchased"
        total = sum(self.prices[item] for item in wanted)
        if expected is not None and total != expected:
            return "price_changed"
        if total > account.balance:
            return "insufficient_balance"
        account.balance -= total
        account.owned += wanted
        account.orders.append(Placed(wanted, total))
        self.accounts[normal(name)] = account
        return wanted, total

    def grant(self, reference: str, names: Sequence[str], amount: int, *, create: bool) -> str | Outcome:
        if reference == "opening":
            return "reserved"
        users = [normal(name) for name in names]
        known = {user: self.accounts[user] for user in users if user in self.accounts}
        if len(known) < len(users) and not create:
            return "unknown"
        accounts = {user: known.get(user) or Account() for user in users}
        given = [user for user in users if reference not in accounts[user].references]
        if any(accounts[user].balance + amount < 0 for user in given):
            return "refused"
        self.accounts.update(accounts)
        for user in given:
            accounts[user].balance += amount
            accounts[user].references.add(reference)
        return given, [user for user in users if user not in given]

    def cancel(self, name: str, which: int) -> bool:
        account = self.accounts[normal(name)]
        order = account.orders[which]
        if order.cancelled:
            return False
        order.cancelled = True
        account.balance += order.total
        account.owned = [item for item in account.owned if item not in order.items]
        return True


def normal(name: str) -> str:
    """Return a name of this story in its one spelling."""
    return name.strip().replace("e\u0301", "é")


class Teller(Protocol):
    """One of those that run the story; it speaks of cents and plain lists."""

    def offer(self, entries: Sequence[tuple[str, int]]) -> None: ...

    def products(self) -> list[tuple[str, int]]: ...

    def user(self, name: str) -> tuple[int, list[str]]: ...

    def orders(self, name: str) -> list[Placed]: ...

    def order(self, name: str, items: Sequence[str], expected: int | None) -> str | tuple[list[str], int]: ...


def offer(store: Store, entries: Sequence[tuple[str, int]]) -> None:
    """Put products on offer."""
    OfferProducts(store)([Product(key, key.upper(), Decimal(price).scaleb(-2)) for key, price in entries])


def grant(store: Store, reference: str, amounts: dict[str, Decimal], *, create: bool) -> str | Outcome:
    """Grant money; return what came of it in plain values."""
    create_with = Decimal(500) if create else None
    return granted(lambda: GrantMoney(store)(reference, amounts, SIGNED, create_with=create_with))


def granted(end: Callable[[], GrantOutcome]) -> str | Outcome:
    """Return what came of a grant in plain values."""
    try:
        outcome = end()
    except InvalidValueError:
        return "reserved"
    except UsersNotFoundError:
        return "unknown"
    except GrantRefusedError:
        return "refused"
    return list(outcome.given), list(outcome.had)


def placed(store: Store, end: Callable[[], Order]) -> str | tuple[list[str], int]:
    """Return what came of an order in plain values."""
    try:
        order = end()
    except OrderRefusedError as refusal:
        return CODES[type(refusal)]
    assert store.orders.get(order.order_id) == order
    return list(order.items), in_cents(order.total)


class Submitting:
    """A store that does not wait for a change: a use case returns the future of it."""

    def __init__(self, store: NonBlockingStore) -> None:
        self.change = store.submit


Request = tuple[str, int | list[str]]
"""The name of a user, and a grant to them, or what they order."""


def begin(store: Store, name: str, what: int | list[str]) -> Any:
    """Order, or grant money; return what the use case returns."""
    if isinstance(what, int):
        return GrantMoney(store)("c", {name: Decimal(what)}, SIGNED)
    return PlaceOrder(store)(name, what)


@attrs.frozen
class Direct:
    """A Python program that uses a store through the use cases."""

    store: Store

    def offer(self, entries: Sequence[tuple[str, int]]) -> None:
        offer(self.store, entries)

    def products(self) -> list[tuple[str, int]]:
        return [(product.product_id, in_cents(product.price)) for product in ListProducts(self.store)()]

    def user(self, name: str) -> tuple[int, list[str]]:
        user = GetUser(self.store)(name)
        orders = self.store.orders.of_user(user.user_id)
        granted = self.store.grants.sums([user.user_id])[user.user_id]
        kept = [order for order in orders if order.cancelled is None]
        assert granted == user.balance + sum(order.total for order in kept)
        assert [item for order in kept for item in order.items] == list(user.product_ids)
        assert ShowUser(self.store)(name)[-1].balance == user.balance
        return in_cents(user.balance), list(user.product_ids)

    def orders(self, name: str) -> list[Placed]:
        orders = self.store.orders.of_user(normal(name))
        return [
            Placed(list(order.items), in_cents(order.total), order.cancelled is not None) for order in orders
        ]

    def order(self, name: str, items: Sequence[str], expected: int | None) -> str | tuple[list[str], int]:
        expected_total = None if expected is None else Decimal(expected).scaleb(-2)
        return placed(self.store, lambda: PlaceOrder(self.store)(name, items, expected_total))

    def one_by_one(self, requests: Sequence[Request]) -> list[object]:
        return [self.ended(what, partial(begin, self.store, name, what)) for name, what in requests]

    def at_once(self, requests: Sequence[Request]) -> list[object]:
        """Have the store find all requests waiting, so that it may keep them by one commit."""
        if not isinstance(self.store, NonBlockingStore):
            return self.one_by_one(requests)
        may_begin = Event()
        self.store.submit(lambda _: may_begin.wait(A_LONG_TIME))
        submitting = cast("Store", Submitting(self.store))
        futures: list[Future[Any]] = [begin(submitting, name, what) for name, what in requests]
        may_begin.set()
        return [
            self.ended(what, partial(future.result, A_LONG_TIME))
            for (_, what), future in zip(requests, futures, strict=True)
        ]

    def ended(self, what: int | list[str], end: Callable[[], Any]) -> object:
        return granted(end) if isinstance(what, int) else placed(self.store, end)


class OverHttp:
    """A client of the HTTP API over a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.client: FlaskClient = create_app(UseCases.over(store)).test_client()

    def offer(self, entries: Sequence[tuple[str, int]]) -> None:
        offer(self.store, entries)

    def products(self) -> list[tuple[str, int]]:
        answer = decoded(self.client.get("/products").data)
        return [(product["id"], in_cents(product["price"])) for product in answer["products"]]

    def user(self, name: str) -> tuple[int, list[str]]:
        user = decoded(self.client.get(f"/api/users/{name}").data)["user"]
        assert user["user_id"] == normal(name)
        return in_cents(user["data"]["balance"]), user["data"]["product_ids"]

    def orders(self, name: str) -> list[Placed]:
        answer = decoded(self.client.get("/orders", query_string={"user_id": name}).data)
        return [
            Placed(data["items"], in_cents(data["total"]), data["cancelled_at"] is not None)
            for data in (order["data"] for order in reversed(answer["orders"]))
        ]

    def order(self, name: str, items: Sequence[str], expected: int | None) -> str | tuple[list[str], int]:
        draft: dict[str, object] = {"items": items, "user_id": name}
        if expected is not None:
            draft["expected_total"] = expected / 100
        response = self.client.post("/orders", json={"order": draft})
        answer = decoded(response.data)
        if response.status_code != 200:
            assert response.status_code == (409 if answer["error"] == "price_changed" else 400)
            return str(answer["error"])
        data = answer["order"]["data"]
        return data["items"], in_cents(data["total"])


def decoded(body: bytes) -> Any:
    """Decode JSON, its numbers exactly."""
    return json.loads(body, parse_float=Decimal, parse_int=Decimal)


def in_cents(amount: Decimal) -> int:
    """Return money in cents."""
    return int(amount.scaleb(2))


class Story(RuleBasedStateMachine):
    """The story. A user is compared after each request for it, and all users after each restart."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = Plain()
        self.folder = Path(mkdtemp())
        self.opened = ExitStack()
        self.stores: dict[tuple[StoreKind, str], Store] = {}
        self.tellers: list[Teller] = []

    @initialize()
    def open(self) -> None:
        self.open_stores(STORES)

    def open_stores(self, kinds: Sequence[StoreKind]) -> None:
        for kind in kinds:
            for way in ("direct", "http"):
                folder = self.folder / kind.name / way
                folder.mkdir(parents=True, exist_ok=True)
                self.stores[kind, way] = self.opened.enter_context(kind.open(folder))
        self.tellers = [
            Direct(store) if way == "direct" else OverHttp(store) for (_, way), store in self.stores.items()
        ]

    @rule()
    def restart(self) -> None:
        self.opened.close()
        self.open_stores([kind for kind in STORES if kind.lasting])
        for name in self.plain.accounts:
            self.look(name)

    @rule(entries=catalogues)
    def offer(self, entries: list[tuple[str, int]]) -> None:
        self.plain.offer(entries)
        for teller in self.tellers:
            teller.offer(entries)

    @rule(key=product_ids)
    def retire(self, key: str) -> None:
        known = self.plain.retire(key)
        for store in self.stores.values():
            with nullcontext() if known else pytest.raises(ProductsNotFoundError):
                RetireProducts(store)([key], SIGNED)
            assert store.products.retired().keys() == self.plain.retired

    @rule(
        reference=st.sampled_from(["a", "b", "opening"]),
        names=st.lists(user_ids, max_size=3, unique_by=normal),
        amount=st.sampled_from([0, 1, 50_000, -1, -25_000, -50_001]),
        create=st.booleans(),
    )
    def grant(self, reference: str, names: list[str], amount: int, create: bool) -> None:  # noqa: FBT001 - a rule's argument
        outcome = self.plain.grant(reference, names, amount, create=create)
        given = dict.fromkeys(names, Decimal(amount).scaleb(-2))
        for store in self.stores.values():
            assert grant(store, reference, given, create=create) == outcome
        for name in names:
            if normal(name) in self.plain.accounts:
                self.look(name)

    @rule(name=user_ids, which=st.integers(0, 9), times=st.sampled_from([1, 2]))
    def cancel(self, name: str, which: int, times: int) -> None:
        orders = self.plain.accounts.get(normal(name), Account()).orders
        if which < len(orders):
            for _ in range(times):
                cancelled = self.plain.cancel(name, which)
                for store in self.stores.values():
                    order = store.orders.of_user(normal(name))[which]
                    assert len(CancelOrders(store)([order.order_id], SIGNED)) == cancelled
            self.look(name)

    @rule(name=user_ids)
    def erase(self, name: str) -> None:
        account = self.plain.accounts.pop(normal(name), None)
        for store in self.stores.values():
            if account is None:
                with pytest.raises(UsersNotFoundError):
                    EraseUser(store)(name)
            else:
                erased = Direct(store).user(EraseUser(store)(name))
                assert erased == (account.balance, account.owned)
                assert Direct(store).orders(name) == []

    @rule(name=user_ids)
    def look(self, name: str) -> None:
        expected = self.plain.user(name), self.plain.accounts[normal(name)].orders
        for teller in self.tellers:
            assert (teller.user(name), teller.orders(name)) == expected

    @rule(name=user_ids, items=baskets, by_how_much_wrong=st.sampled_from([None, 0, 1, -50_000]))
    def order(self, name: str, items: list[str], by_how_much_wrong: int | None) -> None:
        total = sum(self.plain.prices.get(item, 0) for item in set(items))
        expected = None if by_how_much_wrong is None else total + by_how_much_wrong
        result = self.plain.order(name, items, expected)
        assert [teller.order(name, items, expected) for teller in self.tellers] == [result] * len(
            self.tellers
        )
        if normal(name) in self.plain.accounts:
            self.look(name)

    @rule(requests=st.lists(st.tuples(user_ids, baskets | st.sampled_from([1, 250, -250])), max_size=6))
    def request_at_once(self, requests: list[Request]) -> None:
        """One thread submits them, so that they run in this sequence, and each sees what those before it have done."""
        results: list[object] = [
            self.plain.grant("c", [name], what * 100, create=False)
            if isinstance(what, int)
            else self.plain.order(name, what, None)
            for name, what in requests
        ]
        for (_, way), store in self.stores.items():
            teller = Direct(store)
            assert (teller.at_once(requests) if way == "direct" else teller.one_by_one(requests)) == results
        for name, _ in requests:
            if normal(name) in self.plain.accounts:
                self.look(name)

    @invariant()
    def no_other_user_is_created(self) -> None:
        known = {name: name in self.plain.accounts for name in ("jo", "Jo", "José", "a/b")}
        for store in self.stores.values():
            assert {name: store.users.get(name) is not None for name in known} == known

    @invariant()
    def the_catalogue_is_the_same(self) -> None:
        for teller in self.tellers:
            assert teller.products() == list(self.plain.prices.items())

    def teardown(self) -> None:
        self.opened.close()
        shutil.rmtree(self.folder)


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=60, stateful_step_count=25)
