"""The use cases of operators: retiring products, granting money, cancelling orders, and erasing users."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, TypeVar

import attrs
import pytest

from benefits_core import (
    Account,
    BenefitsError,
    CancelOrders,
    EraseUser,
    GetUser,
    Grant,
    GrantMoney,
    GrantOutcome,
    GrantRefusedError,
    InvalidUserIdError,
    InvalidValueError,
    ListOrders,
    ListUsers,
    MemoryStore,
    OfferProducts,
    Order,
    OrdersNotFoundError,
    Product,
    ProductsNotFoundError,
    RetireProducts,
    Signature,
    Store,
    UnitOfWork,
    User,
    UsersNotFoundError,
)
from benefits_core.values import MAX_MONEY
from contract.builders import FREE, GYM, SIGNED, add_user, opening, order, stocked, with_two_orders

_Error = TypeVar("_Error", bound=BenefitsError)

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
LATER = Signature("Bo", NOON + timedelta(days=1))
MANY = [f"user {number:04}" for number in range(1001)]


@attrs.frozen
class Everything:
    """All that a store holds."""

    products: tuple[Product, ...]
    retired: Mapping[str, Signature]
    accounts: list[Account]
    grants: list[tuple[Grant, ...]]
    orders: list[Order]


def everything(store: Store) -> Everything:
    """Read all that a store holds."""
    accounts = list(ListUsers(store)())
    return Everything(
        store.products.list_all(),
        store.products.retired(),
        accounts,
        [store.grants.of_user(account.user.user_id) for account in accounts],
        list(ListOrders(store)()),
    )


class TestRetireProducts:
    def test_products_are_retired_once_and_all_or_none(self) -> None:
        store = stocked(MemoryStore())
        retire = RetireProducts(store)

        assert retire(["gym", "netflix", "gym"], SIGNED) == ("gym", "netflix")
        assert retire(["gym", "spotify"], SIGNED) == ("spotify",)
        with pytest.raises(ProductsNotFoundError) as refusal:
            retire(["nothing", "flu-shot", "gym", "none"], SIGNED)
        assert refusal.value.product_ids == ("nothing", "none")
        assert store.products.list_all() == (FREE,)

    def test_a_lone_string_is_no_collection_of_ids(self) -> None:
        store = MemoryStore()
        OfferProducts(store)([Product("a", "A", Decimal(1)), Product("b", "B", Decimal(1))])
        ids: Any = "ab"
        with pytest.raises(InvalidValueError, match=r"^product_ids must be a collection of str values"):
            RetireProducts(store)(ids, SIGNED)

        assert store.products.retired() == {}

    def test_the_products_that_are_not_offered_again_can_be_retired(self) -> None:
        store = stocked(MemoryStore())

        assert OfferProducts(store)([GYM], retire_others=SIGNED) == ("netflix", "spotify", "flu-shot")
        assert store.products.list_all() == (GYM,)
        assert set(store.products.retired()) == {"netflix", "spotify", "flu-shot"}
        assert OfferProducts(store)([GYM, FREE], retire_others=SIGNED) == ()
        assert store.products.list_all() == (GYM, FREE)


class TestGrantMoney:
    @pytest.fixture
    def store(self) -> MemoryStore:
        """Return a store with two users."""
        store = MemoryStore()
        add_user(store, "jo")
        add_user(store, "al", 100)
        return store

    def refused(self, store: Store, error: type[_Error], *arguments: Any, **options: Any) -> _Error:
        """Grant money that must be refused, and nothing of it kept; return the refusal."""
        before = everything(store)
        with pytest.raises(error) as refusal:
            GrantMoney(store)(*arguments, **options)
        assert everything(store) == before
        return refusal.value

    def test_a_user_gets_a_grant_of_each_reference_once(self, store: MemoryStore) -> None:
        grant = GrantMoney(store)

        assert grant("budget-2027", {" jo ": Decimal(50)}, SIGNED) == GrantOutcome(("jo",), (), ())
        again = {"al": Decimal("0.5"), "jo": Decimal(60)}
        assert grant("budget-2027", again, LATER) == GrantOutcome(("al",), ("jo",), ())
        assert grant("budget-2027", again, LATER) == GrantOutcome((), ("al", "jo"), ())
        assert grant("bonus", {"jo": Decimal(1)}, LATER) == GrantOutcome(("jo",), (), ())
        assert store.users.get("jo") == User("jo", Decimal(551))
        assert store.users.get("al") == User("al", Decimal("100.50"))
        assert store.grants.of_user("jo") == (
            opening("jo"),
            Grant("jo", "budget-2027", Decimal(50), SIGNED),
            Grant("jo", "bonus", Decimal(1), LATER),
        )

    def test_a_grant_leaves_what_was_bought_as_it_is(self) -> None:
        store = with_two_orders(MemoryStore())
        before = store.orders.of_user("jo")
        GrantMoney(store)("budget-2027", {"jo": Decimal(100)}, SIGNED)

        owned = ("netflix", "spotify", "flu-shot")
        assert store.users.get("jo") == User("jo", Decimal("478.02"), owned)
        assert store.orders.of_user("jo") == before

    def test_unknown_users_can_be_created_by_the_grant(self, store: MemoryStore) -> None:
        amounts = {"new": Decimal(50), "jo": Decimal(-50)}
        outcome = GrantMoney(store)("budget-2027", amounts, SIGNED, create_with=Decimal(200))

        assert outcome == GrantOutcome(("new", "jo"), (), ("new",))
        assert store.users.get("new") == User("new", Decimal(250))
        assert store.grants.of_user("new") == (
            Grant("new", "opening", Decimal(200), SIGNED),
            Grant("new", "budget-2027", Decimal(50), SIGNED),
        )
        assert store.users.get("jo") == User("jo", Decimal(450))

    def test_else_all_unknown_users_are_named_and_nobody_gets_anything(self, store: MemoryStore) -> None:
        amounts = dict.fromkeys(["nobody", "jo", " no one", "al"], Decimal(1))
        refusal = self.refused(store, UsersNotFoundError, "bonus", amounts, SIGNED)

        assert refusal.user_ids == ("nobody", "no one")

    def test_all_known_users_can_get_the_same(self, store: MemoryStore) -> None:
        GrantMoney(store)("bonus", {"jo": Decimal(7)}, SIGNED)

        assert GrantMoney(store)("bonus", Decimal(10), LATER) == GrantOutcome(("al",), ("jo",), ())
        assert store.users.get("al") == User("al", Decimal(110))
        assert store.users.get("jo") == User("jo", Decimal(507))
        assert GrantMoney(MemoryStore())("bonus", Decimal(10), SIGNED) == GrantOutcome((), (), ())

    @pytest.mark.parametrize("amounts", [Decimal("0.01"), dict.fromkeys(MANY, Decimal("0.01"))])
    def test_any_number_of_users_get_it_all_or_none(self, amounts: Decimal | Mapping[str, Decimal]) -> None:
        store = MemoryStore()
        for name in MANY:
            add_user(store, name, 1)
        GrantMoney(store)("correction", {MANY[-1]: Decimal(-1)}, SIGNED)

        minus = amounts.copy_negate() if isinstance(amounts, Decimal) else dict.fromkeys(MANY, Decimal(-1))
        refusal = self.refused(store, GrantRefusedError, "bonus", minus, SIGNED)
        assert refusal.user_id == MANY[-1]

        assert GrantMoney(store)("bonus", amounts, SIGNED) == GrantOutcome(tuple(MANY), (), ())
        assert [account.granted for account in ListUsers(store)()] == [
            *[Decimal("1.01")] * 1000,
            Decimal("0.01"),
        ]
        assert GrantMoney(store)("bonus", amounts, SIGNED) == GrantOutcome((), tuple(MANY), ())

    def test_any_number_of_users_can_be_created(self) -> None:
        store = MemoryStore()
        amounts = dict.fromkeys(MANY, Decimal(1))
        outcome = GrantMoney(store)("bonus", amounts, SIGNED, create_with=Decimal(0))

        assert outcome == GrantOutcome(tuple(MANY), (), tuple(MANY))
        assert [account.user.balance for account in ListUsers(store)()] == [1] * 1001

    def test_a_correction_may_take_all_of_the_balance_and_no_more(self, store: MemoryStore) -> None:
        amounts = {"al": Decimal(1), "jo": Decimal("-500.01")}
        refusal = self.refused(store, GrantRefusedError, "correction", amounts, SIGNED)
        assert (refusal.user_id, refusal.balance, refusal.amount) == ("jo", Decimal(500), Decimal("-500.01"))

        GrantMoney(store)("correction", {"jo": Decimal(-500)}, SIGNED)
        assert store.users.get("jo") == User("jo", Decimal(0))

    def test_all_grants_of_a_user_can_be_no_more_than_money_whatever_was_spent(self) -> None:
        store = with_two_orders(MemoryStore())
        add_user(store, "al")
        GrantMoney(store)("bonus", {"jo": MAX_MONEY - 500}, SIGNED)
        assert store.grants.sums(["jo"]) == {"jo": MAX_MONEY}

        amounts = {"al": Decimal(1), "jo": Decimal("0.01")}
        refusal = self.refused(store, GrantRefusedError, "more", amounts, SIGNED)
        assert (refusal.user_id, refusal.amount) == ("jo", Decimal("0.01"))

    @pytest.mark.parametrize("amounts", [Decimal(1), {"jo": Decimal(1)}, {}])
    def test_the_reference_of_the_opening_grant_is_reserved(self, store: MemoryStore, amounts: Any) -> None:
        refusal = self.refused(store, InvalidValueError, "opening", amounts, SIGNED)

        assert str(refusal) == "reference must be another one than the reserved one, not 'opening'"

    def test_a_user_in_two_spellings_is_refused(self, store: MemoryStore) -> None:
        amounts = {"al": Decimal(1), "Jose\u0301": Decimal(1), "José ": Decimal(2)}
        refusal = self.refused(store, InvalidValueError, "bonus", amounts, SIGNED, create_with=Decimal(0))

        assert str(refusal) == "user_id must be in the list once, not 'José'"

    @pytest.mark.parametrize(
        ("reference", "amounts", "field"),
        [
            ("", Decimal(1), "reference"),
            ("x" * 65, {"jo": Decimal(1)}, "reference"),
            ("bonus", Decimal("0.001"), "amount"),
            ("bonus", {"al": Decimal(1), "jo": 1}, "amount"),
            ("bonus", {"al": Decimal(1), " ": Decimal(1)}, "user_id"),
        ],
    )
    def test_an_invalid_value_is_refused_even_if_there_is_no_user(
        self, store: MemoryStore, reference: str, amounts: Any, field: str
    ) -> None:
        for each in (store, MemoryStore()):
            refusal = self.refused(each, InvalidValueError, reference, amounts, SIGNED)
            assert refusal.field == field

    @pytest.mark.parametrize("create_with", [Decimal(-1), Decimal("0.001"), 1])
    def test_an_invalid_opening_balance_is_refused_even_if_no_user_is_created(
        self, store: MemoryStore, create_with: Any
    ) -> None:
        amounts = {"jo": Decimal(1)}
        refusal = self.refused(store, InvalidValueError, "bonus", amounts, SIGNED, create_with=create_with)

        assert (refusal.field, refusal.value) == ("opening_balance", create_with)


class TestCancelOrders:
    @pytest.fixture
    def store(self) -> Store:
        """Return a store in which jo has placed the orders 1 and 2, and al the order 3."""
        store = with_two_orders(MemoryStore())
        order(store, "al", "gym")
        return store

    def test_a_cancelled_order_stays_in_the_book_and_its_total_is_credited(self, store: Store) -> None:
        first, second = store.orders.of_user("jo")
        cancelled = attrs.evolve(first, cancelled=SIGNED)

        assert CancelOrders(store)(["1"], SIGNED) == (cancelled,)
        assert store.orders.get("1") == cancelled
        assert store.orders.of_user("jo") == (cancelled, second)
        assert store.users.get("jo") == User("jo", Decimal(500), ("flu-shot",))

    def test_its_products_can_be_ordered_again_and_stand_last_then(self, store: Store) -> None:
        CancelOrders(store)(["1"], SIGNED)
        again = order(store, "jo", "netflix")

        assert again.order_id == "4"
        assert store.users.get("jo") == User("jo", Decimal("424.01"), ("flu-shot", "netflix"))
        assert CancelOrders(store)(["4"], LATER) == (attrs.evolve(again, cancelled=LATER),)
        assert store.users.get("jo") == User("jo", Decimal(500), ("flu-shot",))

    def test_cancelling_it_again_changes_nothing(self, store: Store) -> None:
        CancelOrders(store)(["1", "1"], SIGNED)
        order(store, "jo", "netflix")
        before = everything(store)

        assert CancelOrders(store)(["1"], LATER) == ()
        assert everything(store) == before

    def test_orders_of_one_user_and_of_others_are_cancelled_together(self, store: Store) -> None:
        cancelled = CancelOrders(store)(["2", "3", "1"], SIGNED)

        assert [(one.order_id, one.cancelled) for one in cancelled] == [
            ("2", SIGNED),
            ("3", SIGNED),
            ("1", SIGNED),
        ]
        assert store.users.page(9) == (User("al", Decimal(500)), User("jo", Decimal(500)))

    def test_only_those_that_were_not_cancelled_before_are_returned(self, store: Store) -> None:
        CancelOrders(store)(["1"], SIGNED)
        cancelled = CancelOrders(store)(["1", "2"], LATER)

        assert [one.order_id for one in cancelled] == ["2"]
        assert [one.cancelled for one in store.orders.of_user("jo")] == [SIGNED, LATER]

    def test_if_some_do_not_exist_they_are_named_and_none_is_cancelled(self, store: Store) -> None:
        before = everything(store)
        with pytest.raises(OrdersNotFoundError) as refusal:
            CancelOrders(store)(["1", "7", "2", "x", "7"], SIGNED)

        assert refusal.value.order_ids == ("7", "x")
        assert everything(store) == before

    def test_an_order_of_a_retired_product_can_be_cancelled(self, store: Store) -> None:
        RetireProducts(store)(["gym"], SIGNED)
        CancelOrders(store)(["3"], SIGNED)

        assert store.users.get("al") == User("al", Decimal(500))
        with pytest.raises(ProductsNotFoundError):
            order(store, "al", "gym")

    def test_a_lone_string_is_no_collection_of_ids(self, store: Store) -> None:
        before = everything(store)
        ids: Any = "12"
        with pytest.raises(InvalidValueError, match=r"^order_ids must be a collection of str values"):
            CancelOrders(store)(ids, SIGNED)

        assert everything(store) == before

    def test_without_ids_nothing_is_cancelled(self, store: Store) -> None:
        assert CancelOrders(store)([], SIGNED) == ()


class TestEraseUser:
    @pytest.fixture
    def store(self) -> Store:
        """Return a store in which jo has placed two orders and has two grants, and al has bought something too."""
        store = with_two_orders(MemoryStore())
        GrantMoney(store)("budget-2027", {"jo": Decimal(100)}, SIGNED)
        order(store, "al", "gym")
        return store

    def test_everything_is_kept_under_an_id_that_says_nothing(self, store: Store) -> None:
        before = everything(store)
        new_id = EraseUser(store)(" jo ")

        assert re.fullmatch(r"erased-[0-9a-f]{16}", new_id)
        assert store.users.get("jo") is None
        assert store.grants.of_user("jo") == ()
        assert store.orders.of_user("jo") == ()
        al, jo = before.accounts
        of_al, of_jo = before.grants
        assert everything(store) == attrs.evolve(
            before,
            accounts=[al, attrs.evolve(jo, user=attrs.evolve(jo.user, user_id=new_id))],
            grants=[of_al, tuple(attrs.evolve(grant, user_id=new_id) for grant in of_jo)],
            orders=[*(attrs.evolve(one, user_id=new_id) for one in before.orders[:2]), before.orders[2]],
        )
        assert [one.order_id for one in store.orders.of_user(new_id)] == ["1", "2"]

    def test_somebody_who_uses_the_id_later_is_a_new_user(self, store: Store) -> None:
        EraseUser(store)("jo")

        assert GetUser(store)("jo") == User("jo", Decimal(500))
        assert order(store, "jo", "netflix").order_id == "4"
        assert [one.order_id for one in store.orders.of_user("jo")] == ["4"]

    def test_no_two_users_get_the_same_id(self, store: Store) -> None:
        erased = {EraseUser(store)(name) for name in ("jo", "al")}

        assert {user.user_id for user in store.users.page(9)} == erased
        assert len(erased) == 2

    def test_orders_of_an_erased_user_can_be_cancelled(self, store: Store) -> None:
        new_id = EraseUser(store)("jo")
        CancelOrders(store)(["1", "2"], SIGNED)

        assert store.users.get(new_id) == User(new_id, Decimal(600))

    def test_an_unknown_user_is_named(self, store: Store) -> None:
        before = everything(store)
        with pytest.raises(UsersNotFoundError) as refusal:
            EraseUser(store)(" nobody ")
        with pytest.raises(InvalidUserIdError):
            EraseUser(store)(" ")

        assert refusal.value.user_ids == ("nobody",)
        assert everything(store) == before


class TestRehearsal:
    @pytest.fixture
    def store(self) -> Store:
        """Return a store with two orders of jo, the second of which is cancelled."""
        store = with_two_orders(MemoryStore())
        CancelOrders(store)(["2"], SIGNED)
        return store

    @pytest.mark.parametrize(
        ("rehearse", "result"),
        [
            (lambda store: RetireProducts(store)(["gym"], SIGNED, dry_run=True), ("gym",)),
            (
                lambda store: OfferProducts(store)([GYM], retire_others=SIGNED, dry_run=True),
                ("netflix", "spotify", "flu-shot"),
            ),
            (lambda store: OfferProducts(store)([Product("new", "New", Decimal(1))], dry_run=True), ()),
            (
                lambda store: GrantMoney(store)("bonus", Decimal(1), SIGNED, dry_run=True),
                GrantOutcome(("jo",), (), ()),
            ),
            (
                lambda store: GrantMoney(store)(
                    "bonus", {"new": Decimal(1)}, SIGNED, create_with=Decimal(1), dry_run=True
                ),
                GrantOutcome(("new",), (), ("new",)),
            ),
            (
                lambda store: [one.order_id for one in CancelOrders(store)(["1", "2"], SIGNED, dry_run=True)],
                ["1"],
            ),
            (lambda store: len(EraseUser(store)("jo", dry_run=True)), len("erased-0123456789abcdef")),
        ],
        ids=["retire", "offer and retire", "offer", "grant to all", "grant and create", "cancel", "erase"],
    )
    def test_it_returns_what_would_be_done_and_keeps_nothing(
        self, store: Store, rehearse: Callable[[Store], object], result: object
    ) -> None:
        before = everything(store)

        assert rehearse(store) == result
        assert everything(store) == before

    @pytest.mark.parametrize(
        ("rehearse", "error"),
        [
            (lambda store: RetireProducts(store)(["no"], SIGNED, dry_run=True), ProductsNotFoundError),
            (lambda store: OfferProducts(store)([GYM, GYM], dry_run=True), InvalidValueError),
            (
                lambda store: GrantMoney(store)("bonus", {"no": Decimal(1)}, SIGNED, dry_run=True),
                UsersNotFoundError,
            ),
            (
                lambda store: GrantMoney(store)("bonus", {"jo": Decimal(-501)}, SIGNED, dry_run=True),
                GrantRefusedError,
            ),
            (lambda store: CancelOrders(store)(["7"], SIGNED, dry_run=True), OrdersNotFoundError),
            (lambda store: EraseUser(store)("nobody", dry_run=True), UsersNotFoundError),
        ],
        ids=["retire", "offer", "grant to an unknown user", "correct", "cancel", "erase"],
    )
    def test_it_is_refused_as_the_change_itself(
        self, store: Store, rehearse: Callable[[Store], object], error: type[BenefitsError]
    ) -> None:
        before = everything(store)

        with pytest.raises(error):
            rehearse(store)
        assert everything(store) == before

    def test_the_next_change_is_kept(self, store: Store) -> None:
        GrantMoney(store)("bonus", Decimal(1), SIGNED, dry_run=True)
        GrantMoney(store)("bonus", Decimal(1), SIGNED)

        assert store.users.get("jo") == User("jo", Decimal("379.02"), ("netflix", "spotify"))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (("", NOON, ""), "by"),
        (("a\nb", NOON, ""), "by"),
        (("x" * 201, NOON, ""), "by"),
        (("Al", datetime(2026, 1, 1), ""), "at"),  # noqa: DTZ001
        (("Al", NOON, "x" * 201), "note"),
        (("Al", NOON, "\x00"), "note"),
        (("Al", NOON, None), "note"),
    ],
)
def test_a_signature_is_valid(values: tuple[Any, Any, Any], field: str) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        Signature(*values)


@attrs.frozen
class Meanwhile:
    """Users of a change; another change does something after the first of them were read, as with locks on rows."""

    users: Any
    do: Callable[[], object]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.users, name)

    def lock(self, user_ids: Iterable[str]) -> Mapping[str, User]:
        """Let the other change happen before the users are locked."""
        self.do()
        return dict(self.users.lock(user_ids))


class RowLocks:
    """A store in which users are erased between the first look of a change and its first lock."""

    def __init__(self, store: MemoryStore, erased: str) -> None:
        self.store, self.erased = store, erased
        self.users, self.grants, self.products, self.orders = (
            store.users,
            store.grants,
            store.products,
            store.orders,
        )
        self.ping = store.ping

    def change(self, do: Callable[[Any], Any]) -> Any:
        """Run a change, with another one in between."""

        def interleaved(work: UnitOfWork) -> Any:
            def erase() -> None:
                if self.erased in work.users.lock([self.erased]):
                    work.users.rename(self.erased, "erased-0123456789abcdef")

            unit = SimpleNamespace(
                users=Meanwhile(work.users, erase),
                grants=work.grants,
                products=work.products,
                orders=work.orders,
            )
            return do(unit)

        return self.store.change(interleaved)


class TestOverLocksOnRows:
    """A store that locks users one by one may keep other changes until then."""

    def test_an_order_whose_user_is_erased_meanwhile_is_cancelled(self) -> None:
        store = with_two_orders(MemoryStore())
        assert isinstance(store, MemoryStore)
        [cancelled] = CancelOrders(RowLocks(store, "jo"))(["1"], SIGNED)

        assert cancelled.user_id == "erased-0123456789abcdef"
        assert store.users.get("erased-0123456789abcdef") == User(
            "erased-0123456789abcdef", Decimal(500), ("flu-shot",)
        )

    def test_a_user_who_is_erased_meanwhile_gets_no_grant_that_all_get(self) -> None:
        store = with_two_orders(MemoryStore())
        assert isinstance(store, MemoryStore)
        add_user(store, "al")
        outcome = GrantMoney(RowLocks(store, "jo"))("bonus", Decimal(5), SIGNED)

        assert (outcome.given, outcome.had) == (("al",), ())
