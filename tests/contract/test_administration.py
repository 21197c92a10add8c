"""What every store promises of grants, locked and renamed users, and cancelled orders, as ``benefits_core.ports`` says it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import attrs
import pytest

from benefits_core import (
    Grant,
    InconsistentChangeError,
    OfferProducts,
    Order,
    RetireProducts,
    Signature,
    Store,
    UnitOfWork,
    User,
)
from benefits_core.ports import View
from contract.builders import (
    FREE,
    GYM,
    NETFLIX,
    NOON,
    SIGNED,
    SPOTIFY,
    add_user,
    buy,
    drawn_up,
    opening,
    order,
    stocked,
    with_two_orders,
)
from contract.stores import LASTING, StoreKind
from contract.test_concurrency import A_MOMENT
from contract.test_store import USES, forced
from waiting import A_LONG_TIME

ANY_STRINGS = ["", "Jo", "jo ", "jo\x00", "\ud800", "x" * 70_000, "%", "'", "NULL"]
LATER = Signature("Bo", NOON + timedelta(days=1))


class DeliberateError(Exception):
    """Something that goes wrong in a change."""


def bonus(reference: str = "bonus", amount: str = "20.50", user_id: str = "jo") -> Grant:
    """Return a grant."""
    return Grant(user_id, reference, Decimal(amount), SIGNED)


def give(work: UnitOfWork, grant: Grant) -> Grant:
    """Grant money within a change."""
    user = work.users.lock([grant.user_id])[grant.user_id]
    work.grants.add(grant, user.receive(grant, work.grants.sums([grant.user_id])[grant.user_id]))
    return grant


def cancel(work: UnitOfWork, order_id: str, signature: Signature = SIGNED) -> Order:
    """Cancel an order within a change."""
    placed = work.orders.get(order_id)
    assert placed is not None
    owner, cancelled = work.users.lock([placed.user_id])[placed.user_id].cancel(placed, signature)
    work.orders.cancel(cancelled, owner)
    return cancelled


def rename(work: UnitOfWork, user_id: str, new_id: str) -> None:
    """Rename a user within a change."""
    work.users.lock([user_id])
    work.users.rename(user_id, new_id)


def everything(view: View) -> object:
    """Read all that is known of users, grants and orders."""
    users = view.users.page(1000)
    ids = [user.user_id for user in users]
    return (
        users,
        [view.users.get(user_id) for user_id in ids],
        [view.grants.of_user(user_id) for user_id in ids],
        view.grants.find("opening", ids),
        view.grants.find("bonus", ids),
        view.grants.sums(ids),
        view.orders.page(1000),
        [view.orders.latest(user_id, 1000) for user_id in ids],
    )


def change_everything(work: UnitOfWork) -> None:
    """Do all that operators do to users, with a store that ``with_two_orders`` returns."""
    give(work, bonus())
    cancel(work, "1")
    work.users.get_or_add(opening("al"))
    give(work, bonus(user_id="al"))
    rename(work, "jo", "mo")


class TestGetOrAdd:
    def test_the_grant_becomes_the_first_one_of_a_new_user(self, store: Store) -> None:
        first = opening("jo", 120)
        added = store.change(lambda work: work.users.get_or_add(first))

        assert added == store.users.get("jo") == User("jo", Decimal(120))
        assert store.grants.of_user("jo") == (first,)
        assert store.grants.sums(["jo"]) == {"jo": Decimal(120)}

    def test_a_known_user_keeps_the_first_one_and_gets_nothing(self, store: Store) -> None:
        add_user(store, "jo", 120)
        again = store.change(lambda work: work.users.get_or_add(opening("jo", 700)))

        assert again == User("jo", Decimal(120))
        assert store.grants.of_user("jo") == (opening("jo", 120),)

    def test_a_change_finds_the_first_grant_of_a_user_without_an_order(self, store: Store) -> None:
        def look(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo", 120))
            assert work.grants.sums(["jo"]) == {"jo": Decimal(120)}
            work.users.get_or_add(opening("al", 0))
            assert work.grants.find("opening", ["al"]) == {"al": opening("al", 0)}
            work.users.get_or_add(opening("bo"))
            assert work.grants.of_user("bo") == (opening("bo"),)
            work.users.get_or_add(opening("cy"))
            assert work.users.lock(["cy"]) == {"cy": User("cy", Decimal(500))}

        store.change(look)
        assert store.grants.sums(["jo", "al", "bo", "cy"]) == {"jo": 120, "al": 0, "bo": 500, "cy": 500}


def lock_jo(work: UnitOfWork) -> User:
    """Lock jo."""
    return work.users.lock(["jo"])["jo"]


def get_jo(work: UnitOfWork) -> User:
    """Get jo, who exists."""
    return work.users.get_or_add(opening("jo"))


class TestLock:
    def test_it_returns_the_stored_users_as_they_are(self, store: Store) -> None:
        with_two_orders(store)
        add_user(store, "al", 7)
        locked = store.change(lambda work: dict(work.users.lock(iter(["jo", "nobody", "al", "jo"]))))

        jo = User("jo", Decimal("378.02"), ("netflix", "spotify", "flu-shot"))
        assert locked == {"jo": jo, "al": User("al", Decimal(7))}
        assert store.users.get("nobody") is None

    def test_it_returns_a_user_as_this_change_has_left_them(self, store: Store) -> None:
        def look(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo"))
            assert work.users.lock(["jo"]) == {"jo": User("jo", Decimal(500))}
            buy(work, "jo", NETFLIX)
            assert work.users.lock(["jo"]) == {"jo": User("jo", Decimal("424.01"), ("netflix",))}
            give(work, bonus())
            assert work.users.lock(["jo"]) == {"jo": User("jo", Decimal("444.51"), ("netflix",))}

        stocked(store).change(look)

    @pytest.mark.parametrize(("first", "second"), [(lock_jo, lock_jo), (lock_jo, get_jo), (get_jo, lock_jo)])
    def test_another_change_waits_for_the_user_until_this_one_is_kept(
        self, store: Store, first: Callable[[UnitOfWork], User], second: Callable[[UnitOfWork], User]
    ) -> None:
        add_user(store, "jo")
        trying, passed = Event(), Event()

        def look(work: UnitOfWork) -> User:
            user = second(work)
            passed.set()
            return user

        def wait() -> User:
            trying.set()
            return store.change(look)

        with ThreadPoolExecutor() as pool:

            def do(work: UnitOfWork) -> None:
                first(work)
                waiting.append(pool.submit(wait))
                assert trying.wait(A_LONG_TIME)
                assert not passed.wait(A_MOMENT)
                give(work, bonus())
                assert not passed.is_set()

            waiting: list[Future[User]] = []
            store.change(do)
            assert waiting[0].result(A_LONG_TIME) == User("jo", Decimal("520.50"))

    @pytest.mark.parametrize("text", ANY_STRINGS)
    def test_it_takes_any_string(self, store: Store, text: str) -> None:
        add_user(store, "jo")

        assert store.change(lambda work: dict(work.users.lock([text]))) == {}

    def test_it_takes_thousands_of_ids(self, store: Store) -> None:
        jo = add_user(store, "jo")
        ids = [*map(str, range(70_000)), "jo"]

        assert store.change(lambda work: dict(work.users.lock(ids))) == {"jo": jo}

    def test_it_locks_each_of_thousands(self, store: Store) -> None:
        names = [f"user-{number}" for number in range(2_001)]

        def grant_to_all(work: UnitOfWork) -> None:
            for name, user in work.users.lock(names).items():
                grant = bonus(user_id=name)
                work.grants.add(grant, user.receive(grant, Decimal(500)))

        store.change(lambda work: [work.users.get_or_add(opening(name)) for name in names])
        store.change(grant_to_all)

        assert store.grants.sums(names) == dict.fromkeys(names, Decimal("520.50"))


class TestGrants:
    def test_grants_are_read_in_the_sequence_in_which_they_were_given(self, store: Store) -> None:
        """The sequence follows neither the clock nor the alphabet."""
        add_user(store, "jo")
        second = Grant("jo", "z", Decimal("-0.01"), Signature("Zoë", NOON - timedelta(days=9)))
        third = Grant("jo", "a", Decimal("9999999499.99"), attrs.evolve(SIGNED, note="x" * 200))
        fourth = Grant("jo", "0", Decimal(0), SIGNED)
        for grant in second, third, fourth:
            store.change(partial(give, grant=grant))

        assert store.grants.of_user("jo") == (opening("jo"), second, third, fourth)
        assert store.grants.sums(["jo"]) == {"jo": Decimal("9999999999.98")}
        assert store.users.get("jo") == User("jo", Decimal("9999999999.98"))

    def test_a_grant_is_kept_together_with_its_receiver(self, store: Store) -> None:
        with_two_orders(store)
        store.change(lambda work: give(work, bonus()))

        assert store.users.get("jo") == User("jo", Decimal("398.52"), ("netflix", "spotify", "flu-shot"))

    def test_find_returns_the_grants_of_one_reference(self, store: Store) -> None:
        def prepare(work: UnitOfWork) -> None:
            for name in "jo", "al", "bo":
                work.users.get_or_add(opening(name))
            for grant in bonus(), bonus("more"), bonus(user_id="al"), bonus("more", user_id="bo"):
                give(work, grant)

        store.change(prepare)

        wanted = ["al", "nobody", "jo", "bo", "al"]
        assert store.grants.find("bonus", iter(wanted)) == {"jo": bonus(), "al": bonus(user_id="al")}
        assert store.grants.find("more", ["jo", "al"]) == {"jo": bonus("more")}
        assert store.grants.find("opening", ["bo"]) == {"bo": opening("bo")}
        assert store.grants.find("bonus", []) == {}

    def test_sums_returns_the_sum_of_each_known_user(self, store: Store) -> None:
        with_two_orders(store)
        add_user(store, "al", 0)
        store.change(lambda work: (give(work, bonus()), give(work, bonus("less", "-100"))))

        assert store.grants.sums(iter(["al", "nobody", "jo", "al"])) == {"jo": Decimal("420.50"), "al": 0}
        assert store.grants.sums([]) == {}

    def test_an_unknown_user_has_none(self, store: Store) -> None:
        add_user(store, "al")

        assert store.grants.of_user("jo") == ()

    @pytest.mark.parametrize("text", ANY_STRINGS)
    def test_user_ids_and_references_may_be_any_string(self, store: Store, text: str) -> None:
        order(stocked(store), "jo", "netflix")

        def look(view: View) -> None:
            assert view.grants.of_user(text) == ()
            assert view.grants.find(text, ["jo"]) == {}
            assert view.grants.find("opening", [text]) == {}
            assert view.grants.sums([text]) == {}
            assert view.orders.of_user(text) == ()
            assert view.orders.latest(text, 1) == ()

        look(store)
        store.change(look)

    def test_they_take_thousands_of_ids(self, store: Store) -> None:
        add_user(store, "jo")
        ids = [*map(str, range(70_000)), "jo"]

        def look(view: View) -> None:
            assert view.grants.find("opening", ids) == {"jo": opening("jo")}
            assert view.grants.sums(ids) == {"jo": Decimal(500)}

        look(store)
        store.change(look)

    def test_a_change_finds_what_it_has_granted(self, store: Store) -> None:
        def look(work: UnitOfWork) -> None:
            give(work, bonus())
            assert work.users.get("jo") == User("jo", Decimal("520.50"))
            give(work, bonus("less", "-500"))
            assert work.users.get_or_add(opening("jo")) == User("jo", Decimal("20.50"))
            assert work.grants.of_user("jo") == (opening("jo"), bonus(), bonus("less", "-500"))
            assert work.grants.find("bonus", ["jo"]) == {"jo": bonus()}
            assert work.grants.sums(["jo"]) == {"jo": Decimal("20.50")}
            assert store.grants.of_user("jo") == (opening("jo"),)

        add_user(store, "jo")
        store.change(look)
        assert store.grants.of_user("jo") == (opening("jo"), bonus(), bonus("less", "-500"))


class TestCancelling:
    def test_a_cancelled_order_stays_with_its_lines(self, store: Store) -> None:
        with_two_orders(store)
        [before] = store.orders.page(1)
        cancelled = store.change(lambda work: cancel(work, "1"))

        assert cancelled == attrs.evolve(before, cancelled=SIGNED)
        assert store.orders.get("1") == cancelled
        assert store.orders.of_user("jo")[0] == cancelled
        assert store.orders.page(1) == (cancelled,)
        assert cancelled.items == ("netflix", "spotify")

    def test_its_owner_has_the_money_again_and_the_products_no_longer(self, store: Store) -> None:
        with_two_orders(store)
        store.change(lambda work: cancel(work, "1"))

        assert store.users.get("jo") == User("jo", Decimal(500), ("flu-shot",))
        assert store.users.page(1) == (User("jo", Decimal(500), ("flu-shot",)),)
        assert store.grants.sums(["jo"]) == {"jo": 500}

    def test_a_product_that_is_bought_again_is_the_last_one(self, store: Store) -> None:
        with_two_orders(store)
        store.change(lambda work: cancel(work, "1"))
        order(store, "jo", "netflix")

        assert store.users.get("jo") == User("jo", Decimal("424.01"), ("flu-shot", "netflix"))

    def test_a_product_can_be_cancelled_again_and_again(self, store: Store) -> None:
        stocked(store)
        ids = [order(store, "jo", "netflix").order_id]
        for signature in SIGNED, LATER:
            store.change(partial(cancel, order_id=ids[-1], signature=signature))
            ids.append(order(store, "jo", "netflix").order_id)

        assert [one.cancelled for one in store.orders.of_user("jo")] == [SIGNED, LATER, None]
        assert store.users.get("jo") == User("jo", Decimal("424.01"), ("netflix",))

    def test_a_later_name_or_price_changes_no_line(self, store: Store) -> None:
        with_two_orders(store)
        before = store.orders.of_user("jo")
        OfferProducts(store)(
            [attrs.evolve(product, name="Other", price=Decimal(9)) for product in (NETFLIX, FREE)]
        )
        RetireProducts(store)(["spotify"], SIGNED)
        store.change(lambda work: cancel(work, "1", LATER))

        assert store.orders.of_user("jo") == (attrs.evolve(before[0], cancelled=LATER), before[1])
        assert [line.name for line in before[0].lines] == ["Netflix", "Spotify"]
        assert store.users.get("jo") == User("jo", Decimal(500), ("flu-shot",))

    def test_a_change_finds_what_it_has_cancelled(self, store: Store) -> None:
        def look(work: UnitOfWork) -> None:
            second, cancelled = work.orders.get("2"), cancel(work, "1")
            assert second is not None
            assert work.orders.get("1") == cancelled
            assert work.orders.of_user("jo") == (cancelled, second)
            assert work.orders.latest("jo", 9) == (second, cancelled)
            assert work.orders.page(9) == (cancelled, second)
            assert work.users.get("jo") == User("jo", Decimal(500), ("flu-shot",))
            again = buy(work, "jo", SPOTIFY)
            assert work.users.get("jo") == User("jo", Decimal("454.01"), ("flu-shot", "spotify"))
            assert work.orders.latest("jo", 1) == (again,)

        with_two_orders(store).change(look)


class TestLatest:
    @pytest.fixture
    def orders(self, store: Store) -> list[Order]:
        """Return 12 orders of jo, so that ids do not grow as strings; the clock goes back, and two are cancelled."""
        stocked(store)

        def fill(work: UnitOfWork) -> list[Order]:
            placed = []
            work.products.put([attrs.evolve(FREE, product_id=f"p{number}") for number in range(12)])
            for number in range(12):
                user, one = work.users.get_or_add(opening("jo")), work.orders.new_id()
                product = work.products.find([f"p{number}"]).values()
                buyer, bought = user.buy(
                    tuple(product), order_id=one, placed_at=NOON - timedelta(days=number)
                )
                work.orders.add(bought, buyer)
                placed.append(bought)
                buy(work, f"other-{number}", FREE)
            return placed

        found = store.change(fill)
        for number in 3, 11:
            found[number] = store.change(partial(cancel, order_id=found[number].order_id))
        return found

    def test_the_last_order_is_the_first_one(self, store: Store, orders: list[Order]) -> None:
        assert store.orders.latest("jo", 100) == tuple(orders[::-1])
        assert store.orders.of_user("jo") == tuple(orders)

    def test_there_are_so_many_as_the_limit_says(self, store: Store, orders: list[Order]) -> None:
        assert store.orders.latest("jo", 1) == (orders[11],)
        assert store.orders.latest("jo", 9) == tuple(orders[:2:-1])

    def test_it_begins_before_an_order(self, store: Store, orders: list[Order]) -> None:
        assert store.orders.latest("jo", 3, before=orders[5].order_id) == (orders[4], orders[3], orders[2])
        assert store.orders.latest("jo", 9, before=orders[2].order_id) == (orders[1], orders[0])
        assert store.orders.latest("jo", 9, before=orders[0].order_id) == ()

    def test_the_order_before_which_it_begins_may_be_cancelled(
        self, store: Store, orders: list[Order]
    ) -> None:
        assert store.orders.latest("jo", 1, before=orders[11].order_id) == (orders[10],)
        assert store.orders.latest("jo", 1, before=orders[3].order_id) == (orders[2],)

    def test_there_are_only_those_of_the_user(self, store: Store, orders: list[Order]) -> None:
        [of_another] = store.orders.latest("other-3", 9)

        assert of_another.user_id == "other-3"
        assert store.orders.latest("other-3", 9, before=orders[0].order_id) == ()
        assert store.orders.latest("nobody", 9) == ()

    def test_an_order_of_several_lines_counts_once(self, store: Store) -> None:
        with_two_orders(store)

        assert [one.order_id for one in store.orders.latest("jo", 2)] == ["2", "1"]
        assert store.orders.latest("jo", 1, before="2")[0].items == ("netflix", "spotify")


class TestRenaming:
    @pytest.fixture
    def renamed(self, store: Store) -> Store:
        """Return a store of which jo, with a grant and a cancelled order, has become mo; al is as ever."""
        add_user(store, "jo")
        order(with_two_orders(store), "al", "gym")
        store.change(lambda work: (give(work, bonus()), cancel(work, first_order(work))))
        store.change(lambda work: rename(work, "jo", "mo"))
        return store

    def test_the_user_is_known_by_the_new_id_only(self, renamed: Store) -> None:
        mo = User("mo", Decimal("520.50"), ("flu-shot",))
        al = User("al", Decimal(100), ("gym",))

        assert renamed.users.get("mo") == mo
        assert renamed.users.get("jo") is None
        assert renamed.users.page(9) == (al, mo)
        assert renamed.users.page(9, after="jo") == (mo,)
        assert renamed.change(lambda work: dict(work.users.lock(["jo", "mo"]))) == {"mo": mo}

    def test_grants_are_those_of_the_new_id_only(self, renamed: Store) -> None:
        both = ["jo", "mo"]

        assert renamed.grants.of_user("mo") == (opening("mo"), bonus(user_id="mo"))
        assert renamed.grants.of_user("jo") == ()
        assert renamed.grants.find("bonus", both) == {"mo": bonus(user_id="mo")}
        assert renamed.grants.sums(both) == {"mo": Decimal("520.50")}

    def test_orders_are_those_of_the_new_id_only(self, renamed: Store) -> None:
        first, second = renamed.orders.of_user("mo")

        assert (first.user_id, first.items, first.cancelled) == ("mo", ("netflix", "spotify"), SIGNED)
        assert (second.user_id, second.items, second.cancelled) == ("mo", ("flu-shot",), None)
        assert renamed.orders.latest("mo", 9) == (second, first)
        assert [renamed.orders.get(one.order_id) for one in (first, second)] == [first, second]
        assert renamed.orders.page(2) == (first, second)
        assert renamed.orders.page(9)[2].user_id == "al"
        assert renamed.orders.of_user("jo") == renamed.orders.latest("jo", 9) == ()

    def test_a_new_user_may_take_the_old_id(self, renamed: Store) -> None:
        add_user(renamed, "jo", 80)
        placed = order(renamed, "jo", "spotify")

        assert renamed.users.get("jo") == User("jo", Decimal("34.01"), ("spotify",))
        assert renamed.grants.of_user("jo") == (opening("jo", 80),)
        assert renamed.orders.of_user("jo") == (placed,)
        assert renamed.users.get("mo") == User("mo", Decimal("520.50"), ("flu-shot",))
        assert len(renamed.orders.of_user("mo")) == 2

    def test_the_renamed_user_goes_on(self, renamed: Store) -> None:
        order(renamed, "mo", "netflix")
        second = renamed.orders.of_user("mo")[1].order_id
        renamed.change(lambda work: (give(work, bonus("more", user_id="mo")), cancel(work, second)))

        assert renamed.users.get("mo") == User("mo", Decimal("465.01"), ("netflix",))
        assert renamed.grants.sums(["mo"]) == {"mo": Decimal(541)}

    def test_the_old_id_may_come_back(self, renamed: Store) -> None:
        renamed.change(lambda work: rename(work, "mo", "jo"))

        assert renamed.users.get("jo") == User("jo", Decimal("520.50"), ("flu-shot",))
        assert renamed.users.get("mo") is None

    def test_two_users_may_swap_their_ids_in_one_change(self, renamed: Store) -> None:
        def swap(work: UnitOfWork) -> None:
            for old, new in ("al", "third"), ("mo", "al"), ("third", "mo"):
                rename(work, old, new)

        renamed.change(swap)

        assert renamed.users.page(9) == (
            User("al", Decimal("520.50"), ("flu-shot",)),
            User("mo", Decimal(100), ("gym",)),
        )
        assert [one.user_id for one in renamed.orders.page(9)] == ["al", "al", "mo"]

    def test_a_change_finds_the_user_by_the_new_id_and_can_add_one_of_the_old_id(self, store: Store) -> None:
        def look(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo", 80))
            work.users.rename("jo", "mo")
            assert work.users.get("jo") is None
            assert work.users.page(9) == (User("mo", Decimal(80)),)
            assert work.grants.of_user("mo") == (opening("mo", 80),)
            assert work.grants.of_user("jo") == ()
            first = buy(work, "mo", SPOTIFY)
            assert work.users.get_or_add(opening("jo", 90)) == User("jo", Decimal(90))
            second = buy(work, "jo", NETFLIX)
            assert work.orders.page(9) == (first, second)
            assert work.orders.of_user("jo") == (second,)
            assert work.users.lock(["jo", "mo"]) == {
                "jo": User("jo", Decimal("14.01"), ("netflix",)),
                "mo": User("mo", Decimal("34.01"), ("spotify",)),
            }

        stocked(store).change(look)
        assert [user.user_id for user in store.users.page(9)] == ["jo", "mo"]


class TestChange:
    """All or nothing."""

    def test_nothing_is_kept_if_the_function_raises(self, store: Store) -> None:
        before = everything(with_two_orders(store))

        def fail(work: UnitOfWork) -> None:
            change_everything(work)
            raise DeliberateError

        with pytest.raises(DeliberateError):
            store.change(fail)
        assert everything(store) == before

    def test_readers_see_nothing_of_it_before_it_is_kept(self, store: Store) -> None:
        before = everything(with_two_orders(store))

        def look(work: UnitOfWork) -> object:
            change_everything(work)
            assert everything(store) == before
            return everything(work)

        assert store.change(look) == everything(store) != before

    def test_the_next_change_finds_nothing_of_a_failed_one(self, store: Store) -> None:
        with_two_orders(store)

        def fail(work: UnitOfWork) -> None:
            change_everything(work)
            raise DeliberateError

        with pytest.raises(DeliberateError):
            store.change(fail)
        store.change(change_everything)

        assert [user.user_id for user in store.users.page(9)] == ["al", "mo"]
        assert store.grants.sums(["al", "mo"]) == {"al": Decimal("520.50"), "mo": Decimal("520.50")}

    def test_the_same_user_is_granted_to_twice(self, store: Store) -> None:
        add_user(store, "jo")
        grants = store.change(lambda work: (give(work, bonus()), give(work, bonus("more", "1"))))

        assert store.grants.of_user("jo") == (opening("jo"), *grants)
        assert store.users.get("jo") == User("jo", Decimal("521.50"))
        assert store.grants.sums(["jo"]) == {"jo": Decimal("521.50")}

    def test_a_user_is_created_granted_to_orders_and_the_order_is_cancelled(self, store: Store) -> None:
        def do(work: UnitOfWork) -> tuple[Order, Order]:
            work.users.get_or_add(opening("jo", 0))
            give(work, bonus(amount="400"))
            first = buy(work, "jo", GYM)
            assert work.users.get("jo") == User("jo", Decimal(0), ("gym",))
            cancelled = cancel(work, first.order_id)
            give(work, bonus("less", "-1"))
            return cancelled, buy(work, "jo", FREE)

        placed = stocked(store).change(do)

        assert store.users.get("jo") == User("jo", Decimal(399), ("flu-shot",))
        assert store.grants.of_user("jo") == (opening("jo", 0), bonus(amount="400"), bonus("less", "-1"))
        assert store.orders.of_user("jo") == placed
        assert placed[0].cancelled == SIGNED

    def test_a_user_is_locked_once_for_all_that_is_done_to_them(self, store: Store) -> None:
        def do(work: UnitOfWork) -> User:
            user = work.users.lock(["jo"])["jo"]
            for number in range(2):
                user, cancelled = user.cancel(work.orders.page(9)[number], SIGNED)
                work.orders.cancel(cancelled, user)
                grant = bonus(f"bonus-{number}")
                user = user.receive(grant, work.grants.sums(["jo"])["jo"])
                work.grants.add(grant, user)
                user, bought = user.buy(
                    [GYM, FREE][number:][:1], order_id=work.orders.new_id(), placed_at=NOON
                )
                work.orders.add(bought, user)
            return user

        left = with_two_orders(store).change(do)

        assert left == store.users.get("jo") == User("jo", Decimal(141), ("gym", "flu-shot"))

    def test_a_user_is_created_and_orders_before_the_first_grant(self, store: Store) -> None:
        def do(work: UnitOfWork) -> None:
            buy(work, "jo", GYM)
            give(work, bonus(amount="-100"))

        stocked(store).change(do)

        assert store.users.get("jo") == User("jo", Decimal(0), ("gym",))
        assert store.grants.sums(["jo"]) == {"jo": Decimal(400)}

    @pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.name)
    def test_a_store_that_is_opened_again_has_it_all(self, kind: StoreKind, tmp_path: Path) -> None:
        with kind.open(tmp_path) as store:
            with_two_orders(store).change(change_everything)
            before = everything(store)

        with kind.open(tmp_path) as store:
            assert everything(store) == before
            assert order(store, "mo", "netflix").order_id == "3"


def first_order(view: View) -> str:
    """Return the id of jo's first order."""
    return view.orders.of_user("jo")[0].order_id


def go_on(work: UnitOfWork) -> None:
    """Do what a change can do after another one was lost."""
    give(work, bonus())
    cancel(work, first_order(work))
    rename(work, "jo", "mo")


def refused(store: Store, change: Callable[[UnitOfWork], object]) -> str:
    """Do what must be refused, after jo has placed two orders and al one; return why it was.

    The change is lost then, whatever the function does.
    """
    with_two_orders(store)
    order(store, "al", "gym")
    before = everything(store)
    first = []

    def lose(work: UnitOfWork) -> str:
        work.users.get_or_add(opening("new"))
        with pytest.raises(InconsistentChangeError) as refusal:
            change(work)
        first.append(refusal.value)
        for use in USES:
            with pytest.raises(InconsistentChangeError) as again:
                use(work)
            assert again.value is refusal.value
        return "this is not returned"

    with pytest.raises(InconsistentChangeError) as raised:
        store.change(lose)

    assert raised.value is first[0]
    assert everything(store) == before
    store.change(go_on)
    return str(raised.value)


class TestRefusedGrant:
    """``grants.add`` refuses what would contradict the books."""

    def test_a_grant_to_a_user_whom_the_change_has_only_read(self, store: Store) -> None:
        def add(work: UnitOfWork) -> None:
            assert work.users.get("jo") == work.users.page(9)[1]
            work.grants.add(bonus(), User("jo", Decimal(1), ("netflix", "spotify", "flu-shot")))

        assert "this change has not locked this user" in refused(store, add)

    def test_a_grant_to_an_unknown_user(self, store: Store) -> None:
        def add(work: UnitOfWork) -> None:
            assert work.users.lock(["bo"]) == {}
            work.grants.add(bonus(user_id="bo"), User("bo", Decimal(1)))

        assert "this change has not locked this user" in refused(store, add)

    def test_a_grant_that_another_user_receives(self, store: Store) -> None:
        def add(work: UnitOfWork) -> None:
            users = work.users.lock(["jo", "al"])
            work.grants.add(bonus(), users["al"].receive(bonus(user_id="al"), Decimal(500)))

        assert "'al' can't be its receiver" in refused(store, add)

    @pytest.mark.parametrize("balance", [Decimal("-0.01"), Decimal(-1000)])
    def test_a_grant_that_leaves_a_negative_balance(self, store: Store, balance: Decimal) -> None:
        def add(work: UnitOfWork) -> None:
            work.grants.add(bonus(amount="-400"), forced(work.users.lock(["jo"])["jo"], balance))

        assert f"it leaves a balance of {balance}" in refused(store, add)

    @pytest.mark.parametrize(
        "owned",
        [
            (),
            ("netflix", "spotify"),
            ("spotify", "netflix", "flu-shot"),
            ("netflix", "spotify", "flu-shot", "gym"),
        ],
    )
    def test_a_grant_whose_receiver_owns_something_else_afterwards(
        self, store: Store, owned: tuple[str, ...]
    ) -> None:
        def add(work: UnitOfWork) -> None:
            receiver = work.users.lock(["jo"])["jo"].receive(bonus(), Decimal(500))
            work.grants.add(bonus(), attrs.evolve(receiver, product_ids=owned))

        assert "it can't change" in refused(store, add)

    def test_a_second_opening_grant(self, store: Store) -> None:
        refused(store, lambda work: give(work, opening("jo")))

    def test_a_second_grant_of_a_reference_in_one_change(self, store: Store) -> None:
        def add(work: UnitOfWork) -> None:
            give(work, bonus())
            give(work, attrs.evolve(bonus(), amount=Decimal(-1), signature=LATER))

        refused(store, add)

    def test_a_second_grant_of_a_reference_in_a_later_change(self, store: Store) -> None:
        add_user(store, "jo")
        store.change(lambda work: give(work, bonus("first")))

        refused(store, lambda work: give(work, bonus("first")))

    def test_a_second_opening_grant_of_a_user_whom_the_change_has_added(self, store: Store) -> None:
        refused(store, lambda work: give(work, opening("new")))


class TestRefusedCancellation:
    """``orders.cancel`` refuses what would contradict the books."""

    def change(
        self,
        alter_order: Callable[[Order], Order] = lambda one: one,
        alter_owner: Callable[[User], User] = lambda user: user,
    ) -> Callable[[UnitOfWork], None]:
        """Return a change that cancels jo's first order, except for an alteration."""

        def do(work: UnitOfWork) -> None:
            users, placed = work.users.lock(["jo", "al"]), work.orders.get("1")
            assert placed is not None
            owner, cancelled = users["jo"].cancel(placed, SIGNED)
            work.orders.cancel(alter_order(cancelled), alter_owner(owner))

        return do

    def test_an_order_of_a_user_whom_the_change_has_only_read(self, store: Store) -> None:
        def do(work: UnitOfWork) -> None:
            assert work.users.get("jo") == work.users.page(9)[1]
            cancelled = attrs.evolve(work.orders.page(1)[0], cancelled=SIGNED)
            work.orders.cancel(cancelled, User("jo", Decimal(500), ("flu-shot",)))

        assert "this change has not locked this user" in refused(store, do)

    def test_an_order_whose_owner_is_another_user(self, store: Store) -> None:
        change = self.change(alter_owner=lambda user: attrs.evolve(user, user_id="al"))

        assert "'al' can't be its owner" in refused(store, change)

    @pytest.mark.parametrize("balance", [Decimal("378.01"), Decimal(0), Decimal(-1)])
    def test_an_order_that_leaves_less_money(self, store: Store, balance: Decimal) -> None:
        change = self.change(alter_owner=lambda user: forced(user, balance))

        assert f"it leaves a balance of {balance}" in refused(store, change)

    @pytest.mark.parametrize(
        "owned", [(), ("netflix", "spotify", "flu-shot"), ("netflix", "flu-shot"), ("flu-shot", "gym")]
    )
    def test_an_order_whose_owner_owns_something_else_afterwards(
        self, store: Store, owned: tuple[str, ...]
    ) -> None:
        change = self.change(alter_owner=lambda user: attrs.evolve(user, product_ids=owned))

        assert "does not make" in refused(store, change)

    def test_products_of_other_orders_that_change_their_sequence(self, store: Store) -> None:
        def do(work: UnitOfWork) -> None:
            buy(work, "jo", GYM)
            owner, cancelled = work.users.lock(["jo"])["jo"].cancel(work.orders.page(1)[0], SIGNED)
            work.orders.cancel(cancelled, attrs.evolve(owner, product_ids=owner.product_ids[::-1]))

        def rich(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo", 900))

        store.change(rich)
        assert "does not make" in refused(store, do)

    @pytest.mark.parametrize("order_id", ["4", "01", "x", "9" * 30])
    def test_an_order_that_does_not_exist(self, store: Store, order_id: str) -> None:
        change = self.change(lambda one: attrs.evolve(one, order_id=order_id))

        assert "there is no such order" in refused(store, change)

    @pytest.mark.parametrize(
        "different",
        [
            {"user_id": "al"},
            {"lines": drawn_up("1", "jo", NETFLIX).lines},
            {"lines": drawn_up("1", "jo", SPOTIFY, NETFLIX).lines},
            {"lines": drawn_up("1", "jo", NETFLIX, attrs.evolve(SPOTIFY, name="Other")).lines},
            {"lines": drawn_up("1", "jo", NETFLIX, attrs.evolve(SPOTIFY, price=Decimal(1))).lines},
            {"placed_at": NOON - timedelta(microseconds=1)},
        ],
    )
    def test_an_order_that_differs_from_the_one_in_the_book(
        self, store: Store, different: dict[str, Any]
    ) -> None:
        change = self.change(lambda one: attrs.evolve(one, **different))

        assert "there is no such order" in refused(store, change)

    def test_an_order_that_is_not_cancelled(self, store: Store) -> None:
        change = self.change(lambda one: attrs.evolve(one, cancelled=None))

        assert "there is no such order" in refused(store, change)

    @pytest.mark.parametrize("signature", [SIGNED, LATER])
    def test_an_order_that_this_change_has_cancelled(self, store: Store, signature: Signature) -> None:
        def do(work: UnitOfWork) -> None:
            cancelled = cancel(work, "1")
            owner = work.users.lock(["jo"])["jo"]
            work.orders.cancel(attrs.evolve(cancelled, cancelled=signature), owner)

        assert "there is no such order" in refused(store, do)

    def test_an_order_that_an_earlier_change_has_cancelled(self, store: Store) -> None:
        def do(work: UnitOfWork) -> None:
            [first] = work.orders.page(1)
            assert first.cancelled == SIGNED
            owner = User("jo", Decimal(500), ("netflix", "spotify", "flu-shot"))
            work.users.lock(["jo"])
            work.orders.cancel(first, owner)

        order(stocked(store), "jo", "gym")
        store.change(lambda work: cancel(work, "1"))
        with pytest.raises(InconsistentChangeError, match="there is no such order that is not cancelled"):
            store.change(do)
        assert store.users.get("jo") == User("jo", Decimal(500))


class TestRefusedName:
    """``users.rename`` refuses what would contradict the books."""

    @pytest.mark.parametrize("user_id", ["jo", "nobody", ""])
    def test_a_user_whom_the_change_has_not_locked(self, store: Store, user_id: str) -> None:
        def do(work: UnitOfWork) -> None:
            work.users.get(user_id)
            work.users.rename(user_id, "mo")

        assert refused(store, do) == (
            f"user {user_id!r} can't become 'mo': this change has not locked this user"
        )

    @pytest.mark.parametrize("new_id", ["al", "new", "jo"])
    def test_an_id_that_a_user_has(self, store: Store, new_id: str) -> None:
        """One that is stored, one that the change has added, and the user itself."""
        assert refused(store, lambda work: rename(work, "jo", new_id)) == (
            f"user 'jo' can't become {new_id!r}: there is a user of this id"
        )

    def test_a_user_who_has_another_id_by_now(self, store: Store) -> None:
        def do(work: UnitOfWork) -> None:
            rename(work, "jo", "mo")
            work.users.rename("jo", "bo")

        assert "this change has not locked this user" in refused(store, do)


def test_a_user_who_is_new_gets_a_grant_before_anything_is_read(store: Store) -> None:
    def give_at_once(work: UnitOfWork) -> None:
        user = work.users.get_or_add(opening("jo"))
        grant = Grant("jo", "bonus", Decimal(100), SIGNED)
        work.grants.add(grant, user.receive(grant, Decimal(500)))

    store.change(give_at_once)

    assert store.users.get("jo") == User("jo", Decimal(600))
    assert store.grants.sums(["jo"]) == {"jo": Decimal(600)}


@pytest.mark.parametrize("balance", ["500", "599.99", "600.01", "400"])
def test_a_grant_that_leaves_another_balance_than_its_amount_makes_is_refused(
    store: Store, balance: str
) -> None:
    def give(work: UnitOfWork) -> None:
        work.users.get_or_add(opening("jo"))
        work.grants.add(Grant("jo", "bonus", Decimal(100), SIGNED), User("jo", Decimal(balance)))

    with pytest.raises(InconsistentChangeError, match=f"it leaves a balance of {balance}"):
        store.change(give)
    assert store.users.get("jo") is None


@pytest.mark.parametrize(("reference", "amount"), [("bonus", 500), ("opening", -1)])
def test_a_user_is_added_by_an_opening_grant_only(store: Store, reference: str, amount: int) -> None:
    grant = Grant("jo", reference, Decimal(amount), SIGNED)

    with pytest.raises(InconsistentChangeError, match=f"{amount}.00 can't be an opening balance"):
        store.change(lambda work: work.users.get_or_add(grant))
    assert store.users.get("jo") is None
