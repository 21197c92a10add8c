"""What every store promises, sentence by sentence of ``benefits_core.ports``, in one thread."""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from benefits_core import (
    BenefitsError,
    Grant,
    InconsistentChangeError,
    ListProducts,
    OfferProducts,
    Order,
    Product,
    ProductsNotFoundError,
    RetireProducts,
    Signature,
    Store,
    UnitOfWork,
    User,
)
from contract.builders import (
    CATALOGUE,
    FREE,
    GYM,
    NETFLIX,
    NOON,
    SIGNED,
    SPOTIFY,
    add_user,
    buy,
    buyer_of,
    drawn_up,
    opening,
    order,
    stocked,
)
from contract.stores import LASTING, StoreKind
from garbage import no_garbage_collection


class DeliberateError(Exception):
    """Something that goes wrong in a change."""


class TestReading:
    def test_an_empty_store_has_nothing(self, store: Store) -> None:
        assert store.users.get("jo") is None
        assert store.products.list_all() == ()
        assert store.products.find(["netflix"]) == {}
        assert store.orders.get("1") is None
        assert store.orders.of_user("jo") == ()

    def test_a_user_is_read_as_it_was_stored(self, store: Store) -> None:
        stored = add_user(store, "José \U0001f469‍\U0001f680 a/b", 120)

        assert store.users.get(stored.user_id) == stored

    def test_user_ids_are_case_sensitive(self, store: Store) -> None:
        add_user(store, "Jo")

        assert store.users.get("jo") is None

    @pytest.mark.parametrize("amount", ["0", "0.01", "9999999999.99"])
    def test_money_is_kept_to_the_cent(self, store: Store, amount: str) -> None:
        product = Product("thing", "Thing", Decimal(amount))
        OfferProducts(store)([product])
        user = store.change(lambda work: work.users.get_or_add(opening("jo", Decimal(amount))))

        assert store.products.list_all() == (product,)
        assert store.users.get("jo") == user

    def test_find_returns_known_products_by_id(self, store: Store) -> None:
        stocked(store)

        assert store.products.find(["gym", "nothing", "netflix", "gym"]) == {"gym": GYM, "netflix": NETFLIX}

    @pytest.mark.parametrize(
        "text", ["", "Netflix", "netflix ", "netflix\x00", "\ud800", "x" * 70_000, "%", "'"]
    )
    def test_find_takes_any_string(self, store: Store, text: str) -> None:
        stocked(store)

        assert store.products.find([text]) == {}
        assert store.change(lambda work: dict(work.products.find([text]))) == {}

    def test_find_takes_any_number_of_strings(self, store: Store) -> None:
        stocked(store)

        assert store.products.find([*map(str, range(70_000)), "netflix"]) == {"netflix": NETFLIX}

    @pytest.mark.parametrize("text", ["", "0", "01", "1 ", "+1", "-1", "1.0", "x", "\ud800", "9" * 30, "٣"])
    def test_an_order_id_may_be_any_string(self, store: Store, text: str) -> None:
        order(stocked(store), "jo", "netflix")

        assert store.orders.get(text) is None

    def test_ping_returns_if_the_store_can_serve(self, store: Store) -> None:
        store.ping()


class TestPages:
    def test_users_come_in_the_sequence_of_their_ids_by_code_points(self, store: Store) -> None:
        names = ["B", "a", "ab", "b", "é", "\ue000", "\U0001f469"]
        users = {name: add_user(store, name) for name in reversed(names)}
        order(stocked(store), "b", "spotify", "netflix")
        order(store, "b", "flu-shot")
        users["b"] = User("b", Decimal("378.02"), ("spotify", "netflix", "flu-shot"))

        assert store.users.page(100) == tuple(users[name] for name in names)
        assert store.users.page(2) == (users["B"], users["a"])
        assert store.users.page(3, after="a") == (users["ab"], users["b"], users["é"])
        assert store.users.page(3, after="aa") == (users["ab"], users["b"], users["é"])
        assert store.users.page(3, after="\U0001f469") == ()

    def test_orders_come_in_the_sequence_of_their_ids_as_numbers(self, store: Store) -> None:
        stocked(store)
        orders = [order(store, f"user-{number}", "spotify", "netflix") for number in range(12)]

        assert store.orders.page(100) == tuple(orders)
        assert store.orders.page(2) == tuple(orders[:2])
        assert store.orders.page(4, after=orders[7].order_id) == tuple(orders[8:])
        assert store.orders.page(2, after=orders[8].order_id) == tuple(orders[9:11])
        assert store.orders.page(1, after=orders[-1].order_id) == ()

    def test_an_empty_store_has_empty_pages(self, store: Store) -> None:
        assert store.users.page(10) == ()
        assert store.orders.page(10, after="7") == ()

    def test_a_change_finds_what_it_has_written_in_its_pages(self, store: Store) -> None:
        order(stocked(store), "jo", "netflix")
        add_user(store, "al")

        def look(work: UnitOfWork) -> tuple[list[str], list[str]]:
            buy(work, "jo", FREE)
            work.users.get_or_add(opening("bo"))
            buy(work, "cy", SPOTIFY)
            assert work.users.page(9, after="bo")[0].product_ids == ("spotify",)
            buy(work, "bo", FREE)  # after it was read, and so stored
            return [user.user_id for user in work.users.page(9)], [
                order.user_id for order in work.orders.page(9)
            ]

        found = store.change(look)
        assert found == (["al", "bo", "cy", "jo"], ["jo", "jo", "cy", "bo"])
        assert found == (
            [user.user_id for user in store.users.page(9)],
            [order.user_id for order in store.orders.page(9)],
        )


class TestCatalogue:
    def test_products_are_listed_in_the_order_in_which_they_were_put(self, store: Store) -> None:
        stocked(store)

        assert store.products.list_all() == CATALOGUE

    def test_putting_the_same_products_again_changes_nothing(self, store: Store) -> None:
        stocked(stocked(store))

        assert store.products.list_all() == CATALOGUE

    def test_the_products_put_come_first_and_the_others_keep_their_order(self, store: Store) -> None:
        new = Product("bike", "Bike", Decimal(1))
        OfferProducts(stocked(store))([GYM, new])

        assert store.products.list_all() == (GYM, new, NETFLIX, SPOTIFY, FREE)

    def test_a_known_product_gets_the_new_name_and_price(self, store: Store) -> None:
        dearer = attrs.evolve(NETFLIX, name="Netflix 4K", price=Decimal(99))
        OfferProducts(stocked(store))([dearer])

        assert store.products.find(["netflix"]) == {"netflix": dearer}

    def test_putting_no_products_changes_nothing(self, store: Store) -> None:
        OfferProducts(stocked(store))([])

        assert store.products.list_all() == CATALOGUE


class TestRetiring:
    def test_a_retired_product_is_in_the_catalogue_no_longer_and_still_owned(self, store: Store) -> None:
        bought = order(stocked(store), "jo", "netflix")
        RetireProducts(store)(["netflix", "gym"], SIGNED)

        assert store.products.list_all() == (SPOTIFY, FREE)
        assert store.products.find(["netflix", "spotify"]) == {"spotify": SPOTIFY}
        assert store.products.retired() == {"netflix": SIGNED, "gym": SIGNED}
        assert store.users.get("jo") == User("jo", Decimal("424.01"), ("netflix",))
        assert store.orders.of_user("jo") == (bought,)

    @pytest.mark.parametrize("user_id", ["jo", "al"])
    def test_it_can_not_be_ordered_by_those_who_own_it_nor_by_others(
        self, store: Store, user_id: str
    ) -> None:
        order(stocked(store), "jo", "netflix")
        RetireProducts(store)(["netflix"], SIGNED)

        with pytest.raises(ProductsNotFoundError):
            order(store, user_id, "netflix")
        with pytest.raises(InconsistentChangeError, match="not in the catalogue"):
            store.change(lambda work: buy(work, "bo", NETFLIX))

    def test_seeding_it_again_brings_it_back_at_its_place_and_price(self, store: Store) -> None:
        RetireProducts(stocked(store))(["netflix", "gym"], SIGNED)
        dearer = attrs.evolve(GYM, price=Decimal(401))
        OfferProducts(store)([dearer])

        assert store.products.list_all() == (dearer, SPOTIFY, FREE)
        assert store.products.retired() == {"netflix": SIGNED}
        assert order(store, "jo", "gym").total == 401

    def test_the_next_products_put_come_first_although_places_are_vacant(self, store: Store) -> None:
        RetireProducts(stocked(store))(["netflix", "spotify"], SIGNED)
        new = Product("bike", "Bike", Decimal(1))
        OfferProducts(store)([new, FREE])

        assert store.products.list_all() == (new, FREE, GYM)

    def test_retiring_it_again_keeps_the_first_signature(self, store: Store) -> None:
        RetireProducts(stocked(store))(["netflix"], SIGNED)
        later = Signature("Bo", NOON + timedelta(days=1))
        RetireProducts(store)(["netflix", "gym"], later)

        assert store.products.retired() == {"netflix": SIGNED, "gym": later}

    def test_if_one_of_them_was_never_in_the_catalogue_none_is_retired(self, store: Store) -> None:
        stocked(store)
        with pytest.raises(InconsistentChangeError, match=r"\['nothing'\] was never in the catalogue"):
            store.change(lambda work: work.products.retire(["netflix", "nothing"], SIGNED))

        assert store.products.list_all() == CATALOGUE
        assert store.products.retired() == {}

    def test_a_change_sees_what_it_has_retired(self, store: Store) -> None:
        def look(work: UnitOfWork) -> None:
            assert work.products.find(["gym"]) == {"gym": GYM}
            work.products.retire(["gym"], SIGNED)
            assert work.products.find(["gym"]) == {}
            assert work.products.list_all() == (NETFLIX, SPOTIFY, FREE)
            assert work.products.retired() == {"gym": SIGNED}
            assert store.products.list_all() == CATALOGUE
            work.products.put([GYM])
            assert work.products.find(["gym"]) == {"gym": GYM}
            assert work.products.retired() == {}

        stocked(store).change(look)


class TestOrders:
    def test_an_order_is_read_by_its_id_as_it_was_placed(self, store: Store) -> None:
        placed = order(stocked(store), "jo", "spotify", "netflix")

        assert store.orders.get(placed.order_id) == placed
        assert placed.items == ("spotify", "netflix")

    def test_an_order_is_kept_together_with_its_buyer(self, store: Store) -> None:
        order(stocked(store), "jo", "spotify", "netflix")
        order(store, "jo", "flu-shot")

        assert store.users.get("jo") == User("jo", Decimal("378.02"), ("spotify", "netflix", "flu-shot"))

    def test_a_users_orders_are_listed_in_the_sequence_in_which_they_were_placed(self, store: Store) -> None:
        stocked(store)
        first, second = order(store, "jo", "spotify"), order(store, "jo", "flu-shot")
        order(store, "al", "netflix")
        third = order(store, "jo", "netflix")

        assert store.orders.of_user("jo") == (first, second, third)

    def test_the_sequence_does_not_follow_the_clock(self, store: Store) -> None:
        def buy_twice(work: UnitOfWork) -> tuple[Order, Order]:
            first = buy(work, "jo", NETFLIX)
            user = work.users.get_or_add(opening("jo"))
            buyer, second = user.buy(
                [SPOTIFY], order_id=work.orders.new_id(), placed_at=NOON.replace(year=1999)
            )
            work.orders.add(second, buyer)
            return first, second

        assert store.orders.of_user("jo") == ()
        placed = stocked(store).change(buy_twice)

        assert store.orders.of_user("jo") == placed

    def test_a_later_name_or_price_changes_no_order(self, store: Store) -> None:
        placed = order(stocked(store), "jo", "netflix")
        OfferProducts(store)([attrs.evolve(NETFLIX, name="Netflix 4K", price=Decimal(1))])

        assert store.orders.get(placed.order_id) == placed

    def test_an_order_keeps_the_name_and_the_price_that_it_was_given(self, store: Store) -> None:
        cheap = attrs.evolve(NETFLIX, name="Netflix, a trial", price=Decimal("0.01"))
        placed = stocked(store).change(lambda work: buy(work, "jo", cheap))

        assert store.orders.get(placed.order_id) == placed
        assert placed.total == Decimal("0.01")

    def test_no_two_orders_have_the_same_id(self, store: Store) -> None:
        stocked(store)
        ids = [order(store, name, "flu-shot").order_id for name in "abcdefghijkl"]

        assert len(set(ids)) == len(ids)

    def test_ids_of_one_users_orders_grow_as_numbers(self, store: Store) -> None:
        """Beyond nine and beyond ninety-nine, where they don't grow as strings; over changes that fail, too."""
        OfferProducts(store)([Product(f"p{number}", "P", Decimal(0)) for number in range(120)])

        def fail(work: UnitOfWork) -> None:
            work.orders.new_id()
            raise DeliberateError

        placed = []
        for number in range(120):
            placed.append(order(store, "jo", f"p{number}"))
            with suppress(DeliberateError):
                store.change(fail)
        numbers = [int(one.order_id) for one in placed]

        assert numbers == sorted(set(numbers))
        assert store.orders.of_user("jo") == tuple(placed)

    def test_new_id_returns_a_larger_id_each_time(self, store: Store) -> None:
        def three_ids(work: UnitOfWork) -> list[int]:
            return [int(work.orders.new_id()) for _ in range(3)]

        first, second, third = store.change(three_ids)

        assert first < second < third

    def test_the_id_of_an_order_is_not_given_again_after_a_failed_change(self, store: Store) -> None:
        placed = order(stocked(store), "jo", "netflix")

        def fail(work: UnitOfWork) -> None:
            buy(work, "al", NETFLIX)
            raise DeliberateError

        with pytest.raises(DeliberateError):
            store.change(fail)

        assert int(store.change(lambda work: work.orders.new_id())) > int(placed.order_id)

    def test_an_order_of_a_hundred_products_is_kept(self, store: Store) -> None:
        catalogue = [Product(f"p{number}", "P", Decimal("0.01")) for number in range(100)]
        OfferProducts(store)(catalogue)
        placed = order(store, "jo", *(product.product_id for product in reversed(catalogue)))

        assert store.orders.get(placed.order_id) == placed
        assert placed.total == Decimal(1)


def change_everything(work: UnitOfWork) -> None:
    """Add two users, two orders and a product, and change a price."""
    buy(work, "new", NETFLIX)
    buy(work, "old", NETFLIX)
    work.products.put([attrs.evolve(NETFLIX, price=Decimal(1)), Product("n", "N", Decimal(1))])


@attrs.frozen
class Everything:
    """All that a store of these tests holds."""

    products: tuple[Product, ...]
    retired: Mapping[str, Signature]
    users: tuple[User | None, ...]
    orders: tuple[tuple[Order, ...], ...]
    orders_by_id: tuple[Order | None, ...]


def everything(store: Store) -> Everything:
    """Read all that ``change_everything`` can change."""
    names = ("new", "old")
    return Everything(
        store.products.list_all(),
        store.products.retired(),
        tuple(store.users.get(name) for name in names),
        tuple(store.orders.of_user(name) for name in names),
        tuple(store.orders.get(order_id) for order_id in "123456789"),
    )


class TestChange:
    def test_it_returns_what_the_function_returns(self, store: Store) -> None:
        returned = object()

        assert store.change(lambda _: returned) is returned

    def test_it_sees_its_own_writes(self, store: Store) -> None:
        cheap = attrs.evolve(NETFLIX, price=Decimal(1))

        def look(work: UnitOfWork) -> None:
            assert work.products.find(["netflix"])["netflix"] == NETFLIX
            user = work.users.get_or_add(opening("jo"))
            assert work.users.get("jo") == user
            first, second = buy(work, "jo", NETFLIX), buy(work, "jo", SPOTIFY)
            work.products.put([cheap])

            buyer = buyer_of(buyer_of(user, first), second)
            assert work.users.get("jo") == work.users.get_or_add(opening("jo")) == buyer
            assert work.orders.get(first.order_id) == first
            assert work.orders.of_user("jo") == (first, second)
            assert work.products.find(["netflix"]) == {"netflix": cheap}
            assert work.products.list_all() == (cheap, SPOTIFY, GYM, FREE)

        stocked(store).change(look)

    def test_readers_see_nothing_of_it_before_it_is_kept(self, store: Store) -> None:
        stocked(store)
        before = everything(store)

        def look(work: UnitOfWork) -> None:
            change_everything(work)
            assert everything(store) == before
            store.ping()

        store.change(look)
        assert everything(store) != before

    def test_nothing_is_kept_if_the_function_raises(self, store: Store) -> None:
        add_user(stocked(store), "old")
        before = everything(store)

        def fail(work: UnitOfWork) -> None:
            change_everything(work)
            raise DeliberateError

        with pytest.raises(DeliberateError):
            store.change(fail)
        assert everything(store) == before

    def test_the_error_of_the_function_is_raised_with_its_traceback(self, store: Store) -> None:
        error = DeliberateError()

        def fail(_: UnitOfWork) -> None:
            raise error

        with pytest.raises(DeliberateError) as raised:
            store.change(fail)

        assert raised.value is error
        assert traceback.extract_tb(error.__traceback__)[-1].name == "fail"

    @pytest.mark.parametrize(
        "error", [TimeoutError("of its own"), KeyboardInterrupt(), SystemExit(3), StopIteration()]
    )
    def test_an_error_of_any_type_is_raised_as_it_is(self, store: Store, error: BaseException) -> None:
        def fail(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo"))
            raise error

        with pytest.raises(type(error)) as raised:
            store.change(fail)

        assert raised.value is error
        assert store.users.get("jo") is None

    def test_the_next_change_finds_nothing_of_a_failed_one(self, store: Store) -> None:
        def fail(work: UnitOfWork) -> None:
            work.products.put([attrs.evolve(NETFLIX, price=Decimal(1))])
            assert work.products.find(["netflix"])["netflix"].price == 1
            buy(work, "jo", NETFLIX)
            raise DeliberateError

        with pytest.raises(DeliberateError):
            stocked(store).change(fail)

        assert order(store, "jo", "netflix").total == NETFLIX.price

    def test_the_next_change_finds_the_price_that_the_one_before_has_set(self, store: Store) -> None:
        def set_price(work: UnitOfWork) -> None:
            assert work.products.find(["netflix"])["netflix"] == NETFLIX
            work.products.put([attrs.evolve(NETFLIX, price=Decimal(1))])

        stocked(store).change(set_price)

        assert order(store, "jo", "netflix").total == 1

    def test_get_or_add_returns_the_user_that_it_has_added_before(self, store: Store) -> None:
        def add_twice(work: UnitOfWork) -> list[User]:
            return [work.users.get_or_add(opening("jo", amount)) for amount in (100, 200)]

        assert store.change(add_twice) == [store.users.get("jo")] * 2 == [User("jo", Decimal(100))] * 2

    def test_a_new_user_can_place_two_orders_in_one_change(self, store: Store) -> None:
        def order_twice(work: UnitOfWork) -> list[Order]:
            user, placed = work.users.get_or_add(opening("jo")), []
            for product in (NETFLIX, SPOTIFY):
                user, one = user.buy([product], order_id=work.orders.new_id(), placed_at=NOON)
                work.orders.add(one, user)
                placed.append(one)
            return placed

        placed = stocked(store).change(order_twice)

        assert list(store.orders.of_user("jo")) == placed
        assert store.users.get("jo") == User("jo", Decimal("378.02"), ("netflix", "spotify"))

    def test_get_or_add_returns_the_stored_user(self, store: Store) -> None:
        order(stocked(store), "jo", "netflix")
        stored = store.users.get("jo")

        assert add_user(store, "jo", 9000) == stored
        assert store.users.get("jo") == stored

    def test_a_refused_order_creates_no_user(self, store: Store) -> None:
        with pytest.raises(ProductsNotFoundError):
            order(stocked(store), "jo", "nothing")

        assert store.users.get("jo") is None

    def test_it_runs_in_the_callers_context(self, store: Store) -> None:
        language = ContextVar("language", default="none")
        language.set("Welsh")

        assert store.change(lambda _: language.get()) == "Welsh"

    def test_a_change_inside_a_change_raises_at_once(self, store: Store) -> None:
        def nest(work: UnitOfWork) -> User:
            with pytest.raises(RuntimeError, match="inside a change"):
                store.change(lambda _: pytest.fail("it ran"))
            return work.users.get_or_add(opening("jo"))

        added = store.change(nest)

        assert store.users.get("jo") == added
        assert add_user(store, "al") == store.users.get("al")


USES: list[Callable[[UnitOfWork], object]] = [
    lambda work: work.users.get("jo"),
    lambda work: work.users.get_or_add(opening("new")),
    lambda work: work.products.put([NETFLIX]),
    lambda work: work.products.put([]),
    lambda work: work.products.list_all(),
    lambda work: work.products.find(["netflix"]),
    lambda work: work.products.find([]),
    lambda work: work.products.retired(),
    lambda work: work.products.retire(["netflix"], SIGNED),
    lambda work: work.users.page(1),
    lambda work: work.users.lock(["jo"]),
    lambda work: work.users.rename("jo", "bo"),
    lambda work: work.grants.of_user("jo"),
    lambda work: work.grants.find("opening", ["jo"]),
    lambda work: work.grants.sums(["jo"]),
    lambda work: work.grants.add(Grant("jo", "more", Decimal(1), SIGNED), User("jo", Decimal(501))),
    lambda work: work.orders.page(1),
    lambda work: work.orders.get("1"),
    lambda work: work.orders.get("no order has this id"),
    lambda work: work.orders.of_user("jo"),
    lambda work: work.orders.latest("jo", 1),
    lambda work: work.orders.new_id(),
    lambda work: work.orders.add(drawn_up("1", "jo", NETFLIX), User("jo", Decimal(500))),
    lambda work: work.orders.cancel(
        attrs.evolve(drawn_up("1", "jo", NETFLIX), cancelled=SIGNED), User("jo", Decimal(500))
    ),
]


class TestEnd:
    """A unit of work ends with its change."""

    @pytest.mark.parametrize("ends", ["kept", "failed", "lost"])
    def test_using_it_later_raises(self, store: Store, ends: str) -> None:
        units = []

        def change(work: UnitOfWork) -> None:
            units.append(work)
            work.users.get_or_add(opening("jo"))
            if ends == "failed":
                raise DeliberateError
            if ends == "lost":
                work.orders.add(drawn_up("x", "jo", NETFLIX), User("jo", Decimal(500)))

        with suppress(DeliberateError, InconsistentChangeError):
            store.change(change)
        before = store.users.get("jo")

        for use in USES:
            with pytest.raises(RuntimeError, match="has ended"):
                use(units[0])
        assert store.users.get("jo") == before
        assert store.users.get("new") is None
        assert store.products.list_all() == ()

    @pytest.mark.parametrize(
        "use",
        [
            lambda work: work.users.lock([]),
            lambda work: work.grants.find("opening", []),
            lambda work: work.grants.sums([]),
        ],
        ids=["lock", "find", "sums"],
    )
    def test_so_does_using_it_without_any_id(self, store: Store, use: Callable[[UnitOfWork], object]) -> None:
        work = store.change(lambda work: work)

        with pytest.raises(RuntimeError, match="has ended"):
            use(work)

    def test_so_does_using_a_part_of_it_while_a_later_change_runs(self, store: Store) -> None:
        users = store.change(lambda work: work.users)

        def use(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo"))
            with pytest.raises(RuntimeError, match="has ended"):
                users.get_or_add(opening("al"))

        store.change(use)
        assert store.users.get("jo") is not None
        assert store.users.get("al") is None


class TestGarbage:
    """Nothing waits for the garbage collector, which stops every thread, for longer the more there is."""

    @pytest.mark.parametrize("ends", ["kept", "failed", "lost"])
    def test_a_unit_of_work_is_freed_with_its_change(self, store: Store, ends: str) -> None:
        stocked(store)
        references: list[weakref.ref[Any]] = []

        def change(work: UnitOfWork) -> None:
            references.append(weakref.ref(work))
            if ends == "failed":
                error = DeliberateError()
                references.append(weakref.ref(error))
                try:
                    raise error
                finally:
                    del error  # it refers to this frame
            if ends == "lost":
                try:
                    work.orders.add(drawn_up("x", "jo", NETFLIX), User("jo", Decimal(500)))
                except InconsistentChangeError as lost:
                    references.append(weakref.ref(lost))
                    raise

        with no_garbage_collection():
            with suppress(DeliberateError, InconsistentChangeError):
                store.change(change)

            assert [reference() for reference in references] == [None] * len(references)


def forced(user: User, balance: Decimal) -> User:
    """Return the user with a balance that the model would refuse."""
    copy = attrs.evolve(user)
    object.__setattr__(copy, "balance", balance)
    return copy


class TestRefusedAdd:
    """``orders.add`` refuses what would contradict the books; the change is lost then, whatever the function does."""

    def refused(self, store: Store, add: Callable[[UnitOfWork, User, User], None]) -> str:
        """Add an order that must be refused, after jo and al have bought something; return why it was."""
        stocked(store)
        order(store, "jo", "spotify")
        order(store, "al", "flu-shot")
        before = everything(store), store.users.get("jo"), store.users.get("al")
        first = []

        def change(work: UnitOfWork) -> str:
            work.users.get_or_add(opening("new"))
            jo, al = work.users.get_or_add(opening("jo")), work.users.get_or_add(opening("al"))
            with pytest.raises(InconsistentChangeError) as refusal:
                add(work, jo, al)
            first.append(refusal.value)
            for use in USES:
                with pytest.raises(InconsistentChangeError) as again:
                    use(work)
                assert again.value is refusal.value
            return "this is not returned"

        with pytest.raises(InconsistentChangeError) as raised:
            store.change(change)

        assert raised.value is first[0]
        assert (everything(store), store.users.get("jo"), store.users.get("al")) == before
        order(store, "jo", "netflix")
        return str(raised.value)

    def test_an_order_for_a_buyer_of_another_id(self, store: Store) -> None:
        def add(work: UnitOfWork, jo: User, al: User) -> None:
            placed = drawn_up(work.orders.new_id(), "jo", NETFLIX)
            work.orders.add(placed, attrs.evolve(buyer_of(jo, placed), user_id=al.user_id))

        assert "'al' can't be its buyer" in self.refused(store, add)

    def test_an_order_of_a_user_that_the_change_has_not_got(self, store: Store) -> None:
        def add(work: UnitOfWork, *_: User) -> None:
            placed = drawn_up(work.orders.new_id(), "bo", NETFLIX)
            work.orders.add(placed, buyer_of(User("bo", Decimal(500)), placed))

        add_user(store, "bo")
        assert "this change has not locked this user" in self.refused(store, add)

    def test_an_order_of_a_user_that_the_change_has_only_read(self, store: Store) -> None:
        def add(work: UnitOfWork, *_: User) -> None:
            placed = drawn_up(work.orders.new_id(), "bo", NETFLIX)
            bo = work.users.get("bo")
            assert bo is not None
            work.orders.add(placed, buyer_of(bo, placed))

        add_user(store, "bo")
        assert "this change has not locked this user" in self.refused(store, add)

    @pytest.mark.parametrize(
        "balance", [Decimal("-0.01"), Decimal("454.02"), Decimal("500.01"), Decimal(-1000)]
    )
    def test_an_order_that_leaves_an_impossible_balance(self, store: Store, balance: Decimal) -> None:
        def add(work: UnitOfWork, jo: User, _: User) -> None:
            placed = drawn_up(work.orders.new_id(), "jo", NETFLIX)
            work.orders.add(placed, forced(buyer_of(jo, placed), balance))

        assert f"it leaves a balance of {balance}" in self.refused(store, add)

    @pytest.mark.parametrize("products", [[SPOTIFY], [NETFLIX, SPOTIFY]])
    def test_an_order_of_a_product_that_the_user_owns(self, store: Store, products: list[Product]) -> None:
        def add(work: UnitOfWork, jo: User, _: User) -> None:
            placed = drawn_up(work.orders.new_id(), "jo", *products)
            work.orders.add(placed, attrs.evolve(jo, balance=Decimal(1), product_ids=("spotify", "netflix")))

        assert "owned already" in self.refused(store, add)

    def test_an_order_of_a_product_that_this_change_has_bought(self, store: Store) -> None:
        def add(work: UnitOfWork, jo: User, _: User) -> None:
            first = drawn_up(work.orders.new_id(), "jo", NETFLIX)
            work.orders.add(first, buyer_of(jo, first))
            second = drawn_up(work.orders.new_id(), "jo", NETFLIX)
            work.orders.add(second, buyer_of(jo, second))

        assert "owned already" in self.refused(store, add)

    def test_an_order_of_a_product_that_is_not_in_the_catalogue(self, store: Store) -> None:
        def add(work: UnitOfWork, jo: User, _: User) -> None:
            placed = drawn_up(work.orders.new_id(), "jo", NETFLIX, Product("x", "X", Decimal(1)))
            work.orders.add(placed, buyer_of(jo, placed))

        assert "is not in the catalogue" in self.refused(store, add)

    @pytest.mark.parametrize(
        "owned",
        [
            (),
            ("spotify",),
            ("netflix",),
            ("netflix", "spotify"),
            ("spotify", "netflix", "gym"),
            ("spotify", "gym"),
        ],
    )
    def test_an_order_whose_buyer_owns_something_else_afterwards(
        self, store: Store, owned: tuple[str, ...]
    ) -> None:
        def add(work: UnitOfWork, jo: User, _: User) -> None:
            placed = drawn_up(work.orders.new_id(), "jo", NETFLIX)
            work.orders.add(placed, attrs.evolve(buyer_of(jo, placed), product_ids=owned))

        assert "does not make" in self.refused(store, add)

    @pytest.mark.parametrize("order_id", ["1", "7", "x", "03"])
    def test_an_order_whose_id_new_id_did_not_return(self, store: Store, order_id: str) -> None:
        def add(work: UnitOfWork, jo: User, _: User) -> None:
            placed = drawn_up(order_id, "jo", NETFLIX)
            work.orders.add(placed, buyer_of(jo, placed))

        assert "new_id did not return this id" in self.refused(store, add)

    def test_an_order_whose_id_another_change_got(self, store: Store) -> None:
        given = store.change(lambda work: work.orders.new_id())

        def add(work: UnitOfWork, jo: User, _: User) -> None:
            placed = drawn_up(given, "jo", NETFLIX)
            work.orders.add(placed, buyer_of(jo, placed))

        assert "new_id did not return this id" in self.refused(store, add)

    @pytest.mark.parametrize("user_id", ["jo", "al"])
    def test_a_second_order_of_the_same_id(self, store: Store, user_id: str) -> None:
        def add(work: UnitOfWork, jo: User, al: User) -> None:
            first = drawn_up(work.orders.new_id(), "jo", NETFLIX)
            work.orders.add(first, buyer_of(jo, first))
            user, product = {"jo": (buyer_of(jo, first), FREE), "al": (al, SPOTIFY)}[user_id]
            second = drawn_up(first.order_id, user_id, product)
            work.orders.add(second, buyer_of(user, second))

        assert "new_id did not return this id" in self.refused(store, add)

    @pytest.mark.parametrize("user_id", ["jo", "al"])
    def test_an_order_whose_id_is_older_than_that_of_the_order_before(
        self, store: Store, user_id: str
    ) -> None:
        def add(work: UnitOfWork, jo: User, al: User) -> None:
            older, newer = work.orders.new_id(), work.orders.new_id()
            first = drawn_up(newer, "jo", NETFLIX)
            work.orders.add(first, buyer_of(jo, first))
            user, product = {"jo": (buyer_of(jo, first), FREE), "al": (al, SPOTIFY)}[user_id]
            second = drawn_up(older, user_id, product)
            work.orders.add(second, buyer_of(user, second))

        assert "new_id did not return this id" in self.refused(store, add)

    def test_ids_may_be_left_out(self, store: Store) -> None:
        def add(work: UnitOfWork) -> tuple[Order, Order]:
            work.orders.new_id()
            first = buy(work, "jo", NETFLIX)
            work.orders.new_id()
            return first, buy(work, "jo", SPOTIFY)

        placed = stocked(store).change(add)

        assert store.orders.of_user("jo") == placed

    def test_a_wrong_balance_that_is_possible_is_kept(self, store: Store) -> None:
        """The store computes no balance; the audit of the books is what finds it."""

        def add(work: UnitOfWork) -> None:
            placed = drawn_up(work.orders.new_id(), "jo", NETFLIX)
            buyer = buyer_of(work.users.get_or_add(opening("jo")), placed)
            work.orders.add(placed, attrs.evolve(buyer, balance=Decimal(499)))

        stocked(store).change(add)

        assert store.users.get("jo") == User("jo", Decimal(499), ("netflix",))


class TestLostChange:
    @pytest.mark.parametrize("order_id", ["1", "x"])
    def test_a_change_that_catches_the_error_is_lost_too(self, store: Store, order_id: str) -> None:
        caught: list[BenefitsError] = []

        def add(work: UnitOfWork) -> None:
            jo = work.users.get_or_add(opening("jo"))
            placed = drawn_up(order_id, "jo", NETFLIX)
            try:
                work.orders.add(placed, buyer_of(jo, placed))
            except InconsistentChangeError as error:
                caught.append(error)

        with pytest.raises(InconsistentChangeError, match="new_id did not return this id") as raised:
            stocked(store).change(add)

        assert raised.value is caught[0]
        assert store.users.get("jo") is None
        assert store.orders.of_user("jo") == ()

    def test_the_function_may_raise_another_error_instead(self, store: Store) -> None:
        def add(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo"))
            try:
                work.orders.add(drawn_up("x", "jo", NETFLIX), User("jo", Decimal(500)))
            except InconsistentChangeError as error:
                raise DeliberateError from error

        with pytest.raises(DeliberateError):
            stocked(store).change(add)
        assert store.users.get("jo") is None

    def test_the_next_change_is_not_lost(self, store: Store) -> None:
        with pytest.raises(InconsistentChangeError):
            store.change(lambda work: work.orders.add(drawn_up("1", "jo", NETFLIX), User("jo", Decimal(500))))

        assert order(stocked(store), "jo", "netflix").order_id == "1"


@pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.name)
def test_a_store_that_is_opened_again_holds_what_was_kept(kind: StoreKind, tmp_path: Path) -> None:
    with kind.open(tmp_path) as store:
        placed = order(stocked(store), "jo", "netflix")
        user = store.users.get("jo")

    with kind.open(tmp_path) as store:
        assert store.users.get("jo") == user
        assert store.orders.get(placed.order_id) == placed
        assert store.orders.of_user("jo") == (placed,)
        assert ListProducts(store)() == CATALOGUE
        assert order(store, "jo", "spotify").order_id != placed.order_id
