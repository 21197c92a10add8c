"""What every store promises, sentence by sentence of ``benefits_core.ports``, in one thread."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from benefits_core import (
    InconsistentChangeError,
    OfferProducts,
    Order,
    OrderLine,
    Product,
    ProductsNotFoundError,
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
    SPOTIFY,
    add_user,
    drawn_up,
    order,
    stocked,
)
from contract.stores import LASTING, StoreKind


class DeliberateError(Exception):
    """Something that goes wrong in the body of a unit of work."""


class TestReading:
    def test_an_empty_store_has_nothing(self, store: Store) -> None:
        assert store.users.get("jo") is None
        assert store.products.list_all() == ()
        assert store.products.find(["netflix"]) == {}
        assert store.orders.get("1") is None
        assert store.orders.of_user("jo") == ()

    def test_a_user_comes_back_as_it_was_stored(self, store: Store) -> None:
        stored = add_user(store, "José \U0001f469‍\U0001f680 a/b", 120)

        assert store.users.get(stored.user_id) == stored

    def test_user_ids_are_case_sensitive(self, store: Store) -> None:
        add_user(store, "Jo")

        assert store.users.get("jo") is None

    @pytest.mark.parametrize("amount", ["0", "0.01", "9999999999.99"])
    def test_money_comes_back_to_the_cent(self, store: Store, amount: str) -> None:
        product = Product("thing", "Thing", Decimal(amount))
        OfferProducts(store)([product])
        with store.unit_of_work() as work:
            user = work.users.get_or_add(User.newcomer("jo", Decimal(amount)))

        assert store.products.list_all() == (product,)
        assert store.users.get("jo") == user

    def test_find_returns_what_there_is_by_id(self, store: Store) -> None:
        stocked(store)

        assert store.products.find(["gym", "nothing", "netflix", "gym"]) == {"gym": GYM, "netflix": NETFLIX}

    @pytest.mark.parametrize(
        "text", ["", "Netflix", "netflix ", "netflix\x00", "\ud800", "x" * 70_000, "%", "'"]
    )
    def test_find_takes_any_string(self, store: Store, text: str) -> None:
        stocked(store)

        assert store.products.find([text]) == {}

    def test_find_takes_any_number_of_strings(self, store: Store) -> None:
        stocked(store)

        assert store.products.find([*map(str, range(70_000)), "netflix"]) == {"netflix": NETFLIX}

    @pytest.mark.parametrize("text", ["", "0", "01", "1 ", "+1", "-1", "1.0", "x", "\ud800", "9" * 30, "٣"])
    def test_an_order_id_is_any_string(self, store: Store, text: str) -> None:
        order(stocked(store), "jo", "netflix")

        assert store.orders.get(text) is None

    def test_a_store_that_answers_says_so(self, store: Store) -> None:
        store.ping()


class TestCatalogue:
    def test_products_are_listed_in_the_order_in_which_they_were_put(self, store: Store) -> None:
        stocked(store)

        assert store.products.list_all() == CATALOGUE

    def test_putting_again_changes_nothing(self, store: Store) -> None:
        stocked(stocked(store))

        assert store.products.list_all() == CATALOGUE

    def test_what_is_put_comes_first_and_the_rest_follows_as_it_was(self, store: Store) -> None:
        new = Product("bike", "Bike", Decimal(1))
        OfferProducts(stocked(store))([GYM, new])

        assert store.products.list_all() == (GYM, new, NETFLIX, SPOTIFY, FREE)

    def test_a_known_product_is_replaced(self, store: Store) -> None:
        dearer = attrs.evolve(NETFLIX, name="Netflix 4K", price=Decimal(99))
        OfferProducts(stocked(store))([dearer])

        assert store.products.find(["netflix"]) == {"netflix": dearer}

    def test_an_empty_list_is_valid(self, store: Store) -> None:
        OfferProducts(stocked(store))([])

        assert store.products.list_all() == CATALOGUE


class TestOrders:
    def test_an_order_comes_back_by_its_id_whole(self, store: Store) -> None:
        placed = order(stocked(store), "jo", "spotify", "netflix")

        assert store.orders.get(placed.order_id) == placed
        assert placed.items == ("spotify", "netflix")

    def test_an_order_debits_its_user_and_gives_what_was_bought(self, store: Store) -> None:
        order(stocked(store), "jo", "spotify", "netflix")
        order(store, "jo", "flu-shot")

        assert store.users.get("jo") == User(
            "jo", Decimal(500), Decimal("378.02"), ("spotify", "netflix", "flu-shot")
        )

    def test_the_orders_of_a_user_come_in_the_sequence_in_which_they_were_placed(self, store: Store) -> None:
        stocked(store)
        mine = [order(store, "jo", item) for item in ("spotify", "flu-shot", "netflix")]
        order(store, "somebody else", "netflix")

        assert store.orders.of_user("jo") == tuple(mine)

    def test_the_sequence_does_not_follow_the_clock(self, store: Store) -> None:
        stocked(store)
        with store.unit_of_work() as work:
            work.users.get_or_add(User.newcomer("jo"))
            first = drawn_up(work.orders.next_id(), "jo", NETFLIX)
            work.orders.add(first)
            earlier = attrs.evolve(
                drawn_up(work.orders.next_id(), "jo", SPOTIFY), placed_at=NOON.replace(year=1999)
            )
            work.orders.add(earlier)

        assert store.orders.of_user("jo") == (first, earlier)

    def test_a_later_price_changes_no_order(self, store: Store) -> None:
        placed = order(stocked(store), "jo", "netflix")
        OfferProducts(store)([attrs.evolve(NETFLIX, price=Decimal(1))])

        assert store.orders.get(placed.order_id) == placed

    def test_ids_are_never_given_twice(self, store: Store) -> None:
        stocked(store)
        ids = [order(store, name, "flu-shot").order_id for name in "abcdefghijkl"]

        assert len(set(ids)) == len(ids)

    def test_a_hundred_products_in_one_order(self, store: Store) -> None:
        catalogue = [Product(f"p{number}", "P", Decimal("0.01")) for number in range(100)]
        OfferProducts(store)(catalogue)
        placed = order(store, "jo", *(product.product_id for product in reversed(catalogue)))

        assert store.orders.get(placed.order_id) == placed
        assert placed.total == Decimal(1)


class TestUnitOfWork:
    def test_it_sees_what_it_did_itself(self, store: Store) -> None:
        stocked(store)
        with store.unit_of_work() as work:
            user = work.users.get_or_add(User.newcomer("jo"))
            first = drawn_up(work.orders.next_id(), "jo", NETFLIX)
            work.orders.add(first)
            second = drawn_up(work.orders.next_id(), "jo", SPOTIFY)
            work.orders.add(second)
            cheap = attrs.evolve(NETFLIX, price=Decimal(1))
            work.products.put([cheap])

            assert work.users.get("jo") == user.after(first).after(second)
            assert work.users.get_or_add(User.newcomer("jo")) == user.after(first).after(second)
            assert work.orders.get(first.order_id) == first
            assert work.orders.of_user("jo") == (first, second)
            assert work.products.find(["netflix"]) == {"netflix": cheap}
            assert work.products.list_all()[0] == cheap

    def test_nobody_else_sees_it_before_it_is_kept(self, store: Store) -> None:
        stocked(store)
        with store.unit_of_work() as work:
            work.users.get_or_add(User.newcomer("jo"))
            work.orders.add(drawn_up(work.orders.next_id(), "jo", NETFLIX))
            work.products.put([attrs.evolve(NETFLIX, price=Decimal(1))])

            assert store.users.get("jo") is None
            assert store.orders.of_user("jo") == ()
            assert store.products.list_all() == CATALOGUE

    def test_an_exception_keeps_nothing_of_it(self, store: Store) -> None:
        stocked(store)
        before = add_user(store, "old")
        with pytest.raises(DeliberateError), store.unit_of_work() as work:
            work.users.get_or_add(User.newcomer("new"))
            work.users.get_or_add(User.newcomer("old"))
            work.orders.add(drawn_up(work.orders.next_id(), "new", NETFLIX))
            work.orders.add(drawn_up(work.orders.next_id(), "old", NETFLIX))
            work.products.put([attrs.evolve(NETFLIX, price=Decimal(1)), Product("n", "N", Decimal(1))])
            raise DeliberateError

        assert store.users.get("new") is None
        assert store.users.get("old") == before
        assert store.orders.get("1") is None
        assert store.orders.of_user("new") == ()
        assert store.products.list_all() == CATALOGUE

    def test_after_a_failed_one_the_next_begins_afresh(self, store: Store) -> None:
        stocked(store)
        with pytest.raises(DeliberateError), store.unit_of_work() as work:
            work.users.get_or_add(User.newcomer("jo"))
            raise DeliberateError

        assert order(store, "jo", "netflix").items == ("netflix",)

    def test_prices_that_were_given_up_are_not_those_of_the_next_one(self, store: Store) -> None:
        stocked(store)
        with pytest.raises(DeliberateError), store.unit_of_work() as work:
            work.products.put([attrs.evolve(NETFLIX, price=Decimal(1))])
            assert work.products.find(["netflix"])["netflix"].price == 1
            raise DeliberateError

        assert order(store, "jo", "netflix").total == NETFLIX.price

    def test_it_sees_the_price_that_it_has_changed_itself(self, store: Store) -> None:
        stocked(store)
        with store.unit_of_work() as work:
            assert work.products.find(["netflix"])["netflix"] == NETFLIX
            work.products.put([attrs.evolve(NETFLIX, price=Decimal(1))])
            assert work.products.find(["netflix"])["netflix"].price == 1

        assert order(store, "jo", "netflix").total == 1

    def test_get_or_add_keeps_the_user_that_is_stored(self, store: Store) -> None:
        order(stocked(store), "jo", "netflix")
        stored = store.users.get("jo")

        assert add_user(store, "jo", 9000) == stored
        assert store.users.get("jo") == stored

    def test_a_refused_order_creates_nobody(self, store: Store) -> None:
        with pytest.raises(ProductsNotFoundError):
            order(stocked(store), "jo", "nothing")

        assert store.users.get("jo") is None

    def test_a_thread_opens_one_at_a_time(self, store: Store) -> None:
        with store.unit_of_work(), pytest.raises(RuntimeError), store.unit_of_work():
            pytest.fail("a unit of work would wait for itself")
        with store.unit_of_work() as work:
            assert work.orders.next_id() == "1"

    def test_it_can_be_opened_again_after_the_body_has_left_by_return(self, store: Store) -> None:
        assert add_user(store, "a") != add_user(store, "b")

    def test_it_can_not_be_used_after_its_end(self, store: Store) -> None:
        with store.unit_of_work() as work:
            users, products, orders = work.users, work.products, work.orders
            work.users.get_or_add(User.newcomer("jo"))

        for use in (
            lambda: users.get("jo"),
            lambda: users.get_or_add(User.newcomer("new")),
            lambda: products.put([NETFLIX]),
            products.list_all,
            orders.next_id,
            lambda: orders.add(drawn_up("1", "jo", NETFLIX)),
        ):
            with pytest.raises(RuntimeError):
                use()
        assert store.users.get("new") is None
        assert store.products.list_all() == ()

    def test_leaving_its_block_by_break_keeps_it(self, store: Store) -> None:
        for _ in range(1):
            with store.unit_of_work() as work:
                work.users.get_or_add(User.newcomer("jo"))
                break

        assert store.users.get("jo") is not None

    def test_none_has_to_wait_for_the_garbage_collector(self, store: Store) -> None:
        """Which stops everybody, for longer the more there is."""
        stocked(store)

        def kept() -> weakref.ref[UnitOfWork]:
            with store.unit_of_work() as work:
                work.users.get_or_add(User.newcomer("jo"))
                return weakref.ref(work)

        def given_up() -> weakref.ref[UnitOfWork]:
            with suppress(DeliberateError), store.unit_of_work() as work:
                work.users.get_or_add(User.newcomer("al"))
                raise DeliberateError
            return weakref.ref(work)

        def lost() -> weakref.ref[UnitOfWork]:
            with suppress(InconsistentChangeError), store.unit_of_work() as work:
                work.orders.add(drawn_up("1", "jo", NETFLIX))
            return weakref.ref(work)

        gc.disable()
        try:
            assert [body()() for body in (kept, given_up, lost)] == [None, None, None]
        finally:
            gc.enable()


class TestSecondWall:
    """An order that no use case would add is refused by the store itself, and then nothing is kept."""

    def test_an_order_whose_user_was_not_got(self, store: Store) -> None:
        add_user(stocked(store), "jo")

        with pytest.raises(InconsistentChangeError), store.unit_of_work() as work:
            work.orders.add(drawn_up(work.orders.next_id(), "jo", NETFLIX))

    def test_an_order_that_overdraws_the_balance(self, store: Store) -> None:
        self.assert_refused(store, GYM, attrs.evolve(NETFLIX, price=Decimal("100.01")))

    def test_an_order_of_a_product_that_its_user_owns(self, store: Store) -> None:
        self.assert_refused(store, SPOTIFY, NETFLIX, owned="spotify")

    def test_an_order_of_a_product_that_is_not_in_the_catalogue(self, store: Store) -> None:
        self.assert_refused(store, NETFLIX, Product("unknown", "Unknown", Decimal(1)))

    @pytest.mark.parametrize("order_id", ["1", "7", "x", "02"])
    def test_an_order_with_an_id_that_is_not_the_next(self, store: Store, order_id: str) -> None:
        self.assert_refused(store, NETFLIX, owned="spotify", order_id=order_id)

    def assert_refused(
        self, store: Store, *products: Product, owned: str = "flu-shot", order_id: str | None = None
    ) -> None:
        stocked(store)
        order(store, "jo", owned)
        before = store.users.get("jo")

        with pytest.raises(InconsistentChangeError) as caught, store.unit_of_work() as work:
            work.users.get_or_add(User.newcomer("jo"))
            work.users.get_or_add(User.newcomer("new"))
            lines = [OrderLine(product.product_id, product.price) for product in products]
            wrong = Order(order_id or work.orders.next_id(), "jo", lines, NOON)
            with pytest.raises(InconsistentChangeError) as first:
                work.orders.add(wrong)
            # Once lost, it stays lost, even where the body has caught the error.
            with pytest.raises(InconsistentChangeError):
                work.users.get("jo")

        assert caught.value is first.value
        assert store.users.get("jo") == before
        assert store.users.get("new") is None
        assert len(store.orders.of_user("jo")) == 1


@pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.name)
def test_what_was_kept_is_there_when_the_store_is_opened_again(kind: StoreKind, tmp_path: Path) -> None:
    with kind.open(tmp_path) as store:
        placed = order(stocked(store), "jo", "netflix")
        user = store.users.get("jo")

    with kind.open(tmp_path) as store:
        assert store.users.get("jo") == user
        assert store.orders.get(placed.order_id) == placed
        assert store.orders.of_user("jo") == (placed,)
        assert store.products.list_all() == CATALOGUE
        assert order(store, "jo", "spotify").order_id != placed.order_id
