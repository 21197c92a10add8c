"""Changes on PostgreSQL: which of them share a transaction, which wait for another machine, and in which sequence they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benefits_core import (
    InconsistentChangeError,
    InsufficientBalanceError,
    Product,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    StorageUnavailableError,
    UnitOfWork,
    User,
)
from benefits_core.model import basket
from benefits_postgres import PostgresStore, audit_database
from benefits_postgres.transaction import Transaction
from benefits_postgres.worker import MAX_BATCH
from contract.builders import (
    FREE,
    GYM,
    NETFLIX,
    NOON,
    SIGNED,
    add_user,
    buy,
    drawn_up,
    opening,
    order,
    stocked,
)
from contract.test_administration import bonus, give
from postgres_schemas import schema_url
from unit.postgres_stores import Waiting, round_trips, running
from waiting import A_LONG_TIME, wait_for

ADVISORY_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 'users'::regclass::oid::bigint))"
ROW_LOCK = "SELECT FROM users WHERE user_id = %s FOR NO KEY UPDATE"

Change = Callable[[UnitOfWork], Any]


class DeliberateError(Exception):
    """Something that goes wrong in a change."""


@pytest.fixture
def url(tmp_path: Path, postgres_server: None) -> str:  # noqa: ARG001 - the server must run
    """Return the URL of a database with a catalogue in it."""
    url = schema_url(tmp_path)
    with PostgresStore(url) as store:
        stocked(store)
    return url


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    """Return a store over it."""
    with PostgresStore(url, patience=A_LONG_TIME) as store:
        yield store
        assert audit_database(url).findings == ()


@pytest.fixture
def second(url: str) -> Iterator[PostgresStore]:
    """Return another store over the same database, as another machine would open it."""
    with PostgresStore(url, patience=A_LONG_TIME) as store:
        yield store


@pytest.fixture
def by_hand(url: str) -> Iterator[psycopg.Connection]:
    """Return a connection of a program that knows nothing of stores."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def submitted_together(store: PostgresStore, *changes: Change) -> list[Future[Any]]:
    """Submit changes so that the writer finds all of them at once."""
    with running(store.submit, Waiting()):
        return [store.submit(change) for change in changes]


def in_one_batch(store: PostgresStore, *changes: Change) -> list[Future[Any]]:
    """Submit changes so that the writer finds all of them at once; return their futures, which have ended."""
    futures = submitted_together(store, *changes)
    for future in futures:
        future.exception(A_LONG_TIME)
    return futures


@contextmanager
def held(by_hand: psycopg.Connection, lock: str, user_id: str) -> Iterator[None]:
    """Hold a user as a transaction of another machine does, during the block."""
    with by_hand.transaction():
        by_hand.execute(lock, [user_id])
        yield


def order_in(user_id: str, *items: str) -> Change:
    """Return a change that places an order, as the use case does."""

    def place(work: UnitOfWork) -> str:
        user = work.users.get_or_add(opening(user_id))
        products = basket(items, work.products.find(items))
        buyer, placed = user.buy(products, order_id=work.orders.new_id(), placed_at=NOON)
        work.orders.add(placed, buyer)
        return placed.order_id

    return place


def alone(work: UnitOfWork) -> None:
    """Do what no batch can: from here on, the change runs alone."""
    work.grants.sums([])


def add_in(user_id: str) -> Change:
    """Return a change that gets a user, or adds it."""
    return lambda work: work.users.get_or_add(opening(user_id))


def give_in(user_id: str, reference: str, amount: str = "1") -> Change:
    """Return a change that grants money. It has to run alone."""
    return lambda work: give(work, bonus(reference, amount, user_id))


def rounds(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the statements of each later round trip of the connection that writes are added."""
    return round_trips(store._written, monkeypatch)  # noqa: SLF001 - nothing else shows them


def commits(sent: list[str]) -> list[str]:
    """Return those statements that end with a commit."""
    return [statements for statements in sent if statements.rstrip().endswith("COMMIT")]


def types(futures: list[Future[Any]]) -> list[type]:
    """Return of which type the error of each change is."""
    return [type(future.exception(A_LONG_TIME)) for future in futures]


def ids(store: PostgresStore) -> list[str]:
    """Return the ids of all users."""
    return [user.user_id for user in store.users.page(9999)]


KEPT = type(None)


class TestBatch:
    def test_changes_that_wait_together_need_two_round_trips(
        self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_user(store, "poor", 10)
        add_user(store, "jo")
        sent = rounds(store, monkeypatch)

        futures = in_one_batch(
            store,
            order_in("jo", "gym"),
            order_in("poor", "gym"),
            order_in("al", "gym"),
            order_in("new", "yacht"),
            add_in("bo"),
            lambda _: "nothing",
        )

        assert types(futures) == [
            KEPT,
            InsufficientBalanceError,
            KEPT,
            ProductsNotFoundError,
            KEPT,
            KEPT,
        ]
        assert len(sent) == 2 + 2  # of the change that all others have waited for, and of them
        assert commits(sent) == sent[-1:]
        assert ids(store) == ["al", "bo", "jo", "poor"]
        assert futures[4].result() == store.users.get("bo")

    def test_the_second_order_of_a_user_sees_the_first(self, store: PostgresStore) -> None:
        first, second, refused, free = in_one_batch(
            store,
            order_in("jo", "gym"),
            order_in("jo", "netflix"),
            order_in("jo", "spotify"),
            order_in("jo", "flu-shot"),
        )

        assert isinstance(refused.exception(), InsufficientBalanceError)
        assert store.users.get("jo") == User("jo", Decimal("24.01"), ("gym", "netflix", "flu-shot"))
        assert [one.order_id for one in store.orders.of_user("jo")] == [
            first.result(),
            second.result(),
            free.result(),
        ]
        assert store.grants.of_user("jo") == (opening("jo"),)

    def test_the_same_order_twice_is_refused_once_its_first_is_kept(self, store: PostgresStore) -> None:
        seen: list[User | None] = []
        with running(store.submit, Waiting()):
            store.submit(order_in("jo", "gym"))
            refused = store.submit(order_in("jo", "gym"))
            refused.add_done_callback(lambda _: seen.append(store.users.get("jo")))

        assert isinstance(refused.exception(A_LONG_TIME), ProductsAlreadyPurchasedError)
        wait_for(lambda: bool(seen))
        assert seen == [User("jo", Decimal(100), ("gym",))]

    def test_a_refused_newcomer_is_not_stored_and_may_come_again(self, store: PostgresStore) -> None:
        refused, kept, again, other = in_one_batch(
            store,
            order_in("new", "yacht"),
            order_in("jo", "gym"),
            order_in("again", "yacht"),
            order_in("again", "gym"),
        )

        assert types([refused, again]) == [ProductsNotFoundError] * 2
        assert int(kept.result()) < int(other.result())
        assert ids(store) == ["again", "jo"]

    def test_a_change_that_fails_after_it_has_written_leaves_nothing(self, store: PostgresStore) -> None:
        def fail(work: UnitOfWork) -> None:
            buy(work, "jo", NETFLIX)
            raise DeliberateError

        def lose(work: UnitOfWork) -> None:
            buy(work, "jo", NETFLIX)
            with suppress(InconsistentChangeError):
                work.orders.add(drawn_up("x", "jo", GYM), User("jo", Decimal(500)))

        futures = in_one_batch(store, fail, lose, order_in("jo", "gym"), fail, order_in("al", "gym"))

        assert types(futures) == [DeliberateError, InconsistentChangeError, KEPT, DeliberateError, KEPT]
        assert store.users.get("jo") == User("jo", Decimal(100), ("gym",))

    def test_more_changes_than_a_batch_may_have_are_kept_in_their_sequence(
        self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = rounds(store, monkeypatch)
        futures = in_one_batch(store, *[order_in(f"user-{n}", "gym") for n in range(2 * MAX_BATCH + 1)])

        numbers = [int(future.result()) for future in futures]
        assert numbers == sorted(set(numbers))
        assert len(commits(sent)) == 3

    def test_a_change_may_place_several_orders(self, store: PostgresStore) -> None:
        def place_two(work: UnitOfWork) -> list[str]:
            return [order_in("jo", item)(work) for item in ("gym", "netflix")]

        first, both, last = in_one_batch(store, order_in("jo", "flu-shot"), place_two, order_in("al", "gym"))

        assert [one.order_id for one in store.orders.of_user("jo")] == [first.result(), *both.result()]
        assert last.result() is not None

    def test_each_change_runs_in_the_context_of_its_caller(self, store: PostgresStore) -> None:
        language = ContextVar("language", default="none")

        def look(work: UnitOfWork) -> str:
            before = language.get()
            work.users.get_or_add(opening("jo"))  # the first run ends here
            return before + language.get()

        with running(store.submit, Waiting()):
            futures = []
            for name in "cy", "br":
                language.set(name)
                futures.append(store.submit(look))
            language.set("gd")

        assert [future.result(A_LONG_TIME) for future in futures] == ["cycy", "brbr"]

    def test_a_batch_that_can_not_begin_is_rolled_back_and_the_next_one_begins(
        self, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        by_hand.execute("ALTER TABLE order_lines RENAME TO elsewhere")
        for _ in range(2):
            with pytest.raises(StorageUnavailableError, match="order_lines"):
                order(store, "jo", "gym")
        by_hand.execute("ALTER TABLE elsewhere RENAME TO order_lines")

        assert ids(store) == []
        assert order(store, "jo", "gym").items == ("gym",)


def swallow(change: Change) -> Change:
    """Return a change that catches every error of another one."""

    def swallowing(work: UnitOfWork) -> object:
        try:
            return change(work)
        except BaseException:  # noqa: BLE001 - which a function must not do, and yet may
            return "swallowed"

    return swallowing


class TestSwallowedErrors:
    """The store ends a run by an error of its own. What a function does with it must not matter."""

    @pytest.mark.parametrize(
        "change",
        [
            add_in("jo"),
            lambda work: work.products.find(["gym"]),
            lambda work: work.orders.new_id() and work.users.get_or_add(opening("jo")),
            lambda work: work.users.lock(["jo"]) or work.users.get_or_add(opening("jo")),
            lambda work: work.users.get_or_add(opening("al")) and work.users.get_or_add(opening("jo")),
        ],
        ids=["user", "catalogue", "number", "lock", "two users"],
    )
    @pytest.mark.parametrize("company", [0, 2])
    def test_a_change_that_catches_every_error_has_its_result(
        self, store: PostgresStore, change: Change, company: int
    ) -> None:
        [result, *_] = in_one_batch(store, swallow(change), *[order_in("bo", "gym")] * company)

        assert result.result() in ({"gym": GYM}, store.users.get("jo"))

    def test_a_run_that_has_written_before_the_error_is_as_if_it_had_not_been(
        self, store: PostgresStore
    ) -> None:
        def order_and_look(work: UnitOfWork) -> tuple[str, object]:
            return order_in("jo", "gym")(work), swallow(add_in("al"))(work)

        [future, other] = in_one_batch(store, order_and_look, order_in("bo", "gym"))

        order_id, al = future.result()
        assert [one.order_id for one in store.orders.of_user("jo")] == [order_id]
        assert al == store.users.get("al")
        assert other.result() != order_id

    def test_a_change_that_raises_another_error_instead_is_run_again(self, store: PostgresStore) -> None:
        def replace(work: UnitOfWork) -> User:
            try:
                return work.users.get_or_add(opening("jo"))
            except BaseException:  # noqa: BLE001 - which a function must not do, and yet may
                raise DeliberateError from None

        assert store.change(replace) == store.users.get("jo")

    def test_a_change_that_goes_on_after_the_error_changes_nothing_by_that(
        self, store: PostgresStore
    ) -> None:
        def go_on(work: UnitOfWork) -> list[object]:
            uses: list[Change] = [
                order_in("jo", "gym"),
                order_in("jo", "netflix"),
                lambda work: work.grants.sums(["jo"]),
            ]
            return [swallow(use)(work) for use in uses]

        *placed, sums = store.change(go_on)

        assert placed == [one.order_id for one in store.orders.of_user("jo")]
        assert sums == {"jo": 500}


class TestBrokenConstraint:
    """A constraint is a second wall: a change that runs against it must not take others with it."""

    @pytest.mark.parametrize("company", [0, 1, 4])
    def test_only_the_change_that_breaks_it_fails(
        self, store: PostgresStore, by_hand: psycopg.Connection, company: int
    ) -> None:
        by_hand.execute("ALTER TABLE orders ADD CONSTRAINT no_gym CHECK (total <> 40000)")
        names = [f"user-{number}" for number in range(company)]
        others = [order_in(name, "netflix") for name in names]
        half = company // 2

        futures = in_one_batch(store, *others[:half], order_in("jo", "gym"), *others[half:])
        broken = futures.pop(half)

        assert isinstance(broken.exception(), InconsistentChangeError)
        assert "no_gym" in str(broken.exception())
        numbers = [int(future.result()) for future in futures]
        assert numbers == sorted(set(numbers))
        assert ids(store) == names
        by_hand.execute("ALTER TABLE orders DROP CONSTRAINT no_gym")  # which the audit would find

    def test_a_batch_that_can_not_be_written_fails_as_a_whole(
        self, store: PostgresStore, by_hand: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If each of its changes were tried alone, each would wait, and all others behind it."""
        sent = rounds(store, monkeypatch)
        monkeypatch.setattr(
            transaction_of(store), "_patience", 0.3
        )  # which is how long it waits for the lock
        with by_hand.transaction():
            by_hand.execute("LOCK TABLE orders IN SHARE MODE")  # as CREATE INDEX does
            futures = in_one_batch(store, *[order_in(f"user-{number}", "gym") for number in range(5)])

        assert types(futures) == [StorageUnavailableError] * 5
        assert len(commits(sent)) == 1
        assert ids(store) == []

    def test_orders_behind_the_table_of_their_sequence_are_refused_and_nothing_is_overwritten(
        self, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        """As after a copy of the tables without their sequences; ``benefits check`` names it."""
        placed = [order(store, name, "gym") for name in ("jo", "al")]
        by_hand.execute("SELECT setval('order_numbers', 1, false)")

        refused = [future.exception() for future in in_one_batch(store, order_in("bo", "gym"))]

        assert [type(error) for error in refused] == [InconsistentChangeError]
        assert "orders_pkey" in str(refused[0])
        assert store.orders.page(9) == tuple(placed)
        wait_for(lambda: not isinstance(swallow_refusal(store), InconsistentChangeError))
        assert order(store, "cy", "gym").items == ("gym",)


def swallow_refusal(store: PostgresStore) -> BaseException | None:
    """Try an order; return its error."""
    return store.submit(order_in("bo", "gym")).exception(A_LONG_TIME)


class TestHeldUsers:
    """A user whom another machine holds."""

    @pytest.fixture(autouse=True)
    def _jo(self, store: PostgresStore) -> None:
        add_user(store, "jo")

    @pytest.mark.parametrize(
        ("lock", "user_id"), [(ROW_LOCK, "jo"), (ADVISORY_LOCK, "jo"), (ADVISORY_LOCK, "new")]
    )
    def test_only_their_changes_wait(
        self, store: PostgresStore, by_hand: psycopg.Connection, lock: str, user_id: str
    ) -> None:
        with held(by_hand, lock, user_id):
            waiting, other, newcomer = submitted_together(
                store, order_in(user_id, "gym"), order_in("al", "gym"), order_in("bo", "gym")
            )
            assert [int(future.result(A_LONG_TIME)) for future in (other, newcomer)]
            for number in range(3):  # rounds in which it is tried again
                order(store, f"user-{number}", "gym")
            assert not waiting.done()
        assert waiting.result(A_LONG_TIME) == store.orders.of_user(user_id)[0].order_id

    def test_their_changes_see_what_the_other_machine_has_kept(
        self, store: PostgresStore, second: PostgresStore
    ) -> None:
        buying = Waiting(lambda work: work.users.lock(["jo"]), then=lambda work: buy(work, "jo", NETFLIX))
        with running(second.submit, buying):
            refused, kept = submitted_together(store, order_in("jo", "netflix"), order_in("jo", "gym"))
            order(store, "al", "gym")
            assert not kept.done()

        assert isinstance(refused.exception(A_LONG_TIME), ProductsAlreadyPurchasedError)
        assert kept.result(A_LONG_TIME)
        assert store.users.get("jo") == User("jo", Decimal("24.01"), ("netflix", "gym"))

    def test_newcomers_wait_for_a_change_elsewhere_that_adds_users_alone(
        self, store: PostgresStore, second: PostgresStore
    ) -> None:
        adding = Waiting(
            give_in("jo", "bonus"),
            lambda work: work.users.get_or_add(opening("new", 80)),
            then=lambda _: None,
        )
        with running(second.submit, adding):
            waiting, newcomer = submitted_together(store, add_in("new"), order_in("bo", "gym"))
            wait_until_tried_again(store)
            assert not waiting.done()
            assert not newcomer.done()

        assert waiting.result(A_LONG_TIME) == User("new", Decimal(80))
        assert newcomer.result(A_LONG_TIME)

    def test_known_users_do_not_wait_for_a_change_elsewhere_that_adds_users(
        self, store: PostgresStore, second: PostgresStore
    ) -> None:
        adding = Waiting(alone, add_in("new"))
        with running(second.submit, adding):
            assert order(store, "jo", "gym").items == ("gym",)

    def test_their_changes_keep_their_sequence(
        self, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        items = [product.product_id for product in (NETFLIX, FREE)]
        with held(by_hand, ROW_LOCK, "jo"):
            waiting = submitted_together(store, *[order_in("jo", item) for item in items])
            order(store, "al", "gym")
            later = store.submit(order_in("jo", "spotify"))
            order(store, "bo", "gym")
            assert not any(future.done() for future in (*waiting, later))

        numbers = [future.result(A_LONG_TIME) for future in (*waiting, later)]
        assert [one.order_id for one in store.orders.of_user("jo")] == numbers
        assert [one.items for one in store.orders.of_user("jo")] == [
            ("netflix",),
            ("flu-shot",),
            ("spotify",),
        ]

    def test_a_change_that_runs_alone_does_not_overtake_them(
        self, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        """A thread may submit an order, and then what rests on it."""
        with held(by_hand, ADVISORY_LOCK, "jo"):
            placed, looked, last = submitted_together(
                store,
                order_in("jo", "gym"),
                lambda work: work.users.lock(["jo"])["jo"].product_ids,
                order_in("jo", "netflix"),
            )
            wait_until_tried_again(store)
            assert not looked.done()

        assert placed.result(A_LONG_TIME)
        assert looked.result(A_LONG_TIME) == ("gym",)
        assert last.result(A_LONG_TIME)

    def test_their_changes_fail_when_their_patience_ends(self, url: str, by_hand: psycopg.Connection) -> None:
        with PostgresStore(url, patience=0.3) as store, held(by_hand, ROW_LOCK, "jo"):
            with pytest.raises(StorageUnavailableError, match=r"other changes have been running for 0\.3 s"):
                order(store, "jo", "gym")
            with pytest.raises(StorageUnavailableError):
                store.submit(order_in("jo", "gym")).result(A_LONG_TIME)
            assert store.users.get("jo") == User("jo", Decimal(500))

    def test_closing_waits_for_their_changes(self, url: str, by_hand: psycopg.Connection) -> None:
        store = PostgresStore(url, patience=A_LONG_TIME)
        with ThreadPoolExecutor() as pool:
            with held(by_hand, ROW_LOCK, "jo"):
                waiting = [store.submit(order_in("jo", item)) for item in ("gym", "netflix")]
                closing = pool.submit(store.close)
                wait_for(lambda: store._writer.closed)  # noqa: SLF001 - nothing else shows it
                time.sleep(0.05)
                assert not closing.done()
            closing.result(A_LONG_TIME)

        numbers = [future.result(0) for future in waiting]
        with PostgresStore(url) as again:
            assert [one.order_id for one in again.orders.of_user("jo")] == numbers


class TestIsolation:
    @pytest.mark.parametrize("level", ["repeatable%5C%20read", "serializable"])
    def test_a_transaction_reads_what_was_kept_since_it_began(
        self, url: str, by_hand: psycopg.Connection, level: str
    ) -> None:
        """Whatever the isolation level is that the database has by default."""
        strict = f"{url}%20-cdefault_transaction_isolation%3D{level}"
        with PostgresStore(strict, patience=A_LONG_TIME) as store:
            with by_hand.transaction():
                by_hand.execute("LOCK TABLE writers")  # which a transaction needs after its first statement
                waiting = store.submit(add_in("jo"))
                wait_for_a_lock(by_hand)
                by_hand.execute("INSERT INTO users VALUES (1000, 'jo', 80, 80)")
                by_hand.execute("INSERT INTO grants VALUES (1000, 'opening', 0, 80, 'Bo', now(), '')")

            assert waiting.result(A_LONG_TIME) == User("jo", Decimal("0.80"))


def transaction_of(store: PostgresStore) -> Transaction:
    """Return what a store runs its changes in."""
    found: Transaction = store._writer._handle._transaction  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def wait_until_tried_again(store: PostgresStore) -> None:
    """Return once the store has begun some more transactions."""
    transaction = transaction_of(store)
    last = transaction._number  # noqa: SLF001 - nothing else counts them
    wait_for(lambda: bool(transaction._number > last + 3))  # noqa: SLF001


class TestAlone:
    """Changes that do more than an order have a transaction of their own."""

    def test_changes_of_one_thread_run_in_the_sequence_in_which_they_were_submitted(
        self, store: PostgresStore
    ) -> None:
        """Each but the first rests on the one before it."""
        dear = Product("dear", "Dear", Decimal(600))
        futures = in_one_batch(
            store,
            add_in("jo"),
            lambda work: work.products.put([dear]),
            order_in("jo", "dear"),
            give_in("jo", "bonus", "100"),
            order_in("jo", "dear"),
            order_in("al", "dear"),
            lambda work: work.products.retire(["dear"], SIGNED),
            give_in("al", "bonus", "100"),
        )

        assert types(futures) == [
            KEPT,
            KEPT,
            InsufficientBalanceError,
            KEPT,
            KEPT,
            InsufficientBalanceError,
            KEPT,
            KeyError,  # al was refused, and is not stored
        ]
        assert store.users.get("jo") == User("jo", Decimal(0), ("dear",))
        assert store.products.list_all()[0] == NETFLIX

    @pytest.mark.parametrize(
        "change",
        [
            lambda work: [buy(work, name, GYM).user_id for name in ("jo", "al")],
            lambda work: [work.users.page(9)[-1].user_id, buy(work, "al", GYM).user_id],
            lambda work: [work.products.list_all() and "jo", buy(work, "al", GYM).user_id],
            lambda work: [work.orders.new_id() and "jo", buy(work, "al", GYM).user_id],
        ],
        ids=["two users", "page", "catalogue", "number"],
    )
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_a_change_that_needs_more_than_its_batch_has_got_runs_alone(
        self, store: PostgresStore, change: Change, place: int
    ) -> None:
        changes = [order_in("jo", "netflix"), order_in("al", "netflix")]
        changes.insert(place, change)
        add_user(store, "jo")

        futures = in_one_batch(store, *changes)

        assert futures[place].result() == ["jo", "al"]
        al = store.users.get("al")
        assert al is not None
        assert al.product_ids == (("netflix", "gym") if place == 2 else ("gym", "netflix"))

    def test_it_sees_after_waiting_what_another_machine_has_kept(
        self, store: PostgresStore, second: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        add_user(store, "jo")
        buying = Waiting(lambda work: work.users.lock(["jo"]), then=lambda work: buy(work, "jo", NETFLIX))
        with running(second.submit, buying):
            waiting = store.submit(lambda work: work.users.lock(["jo"])["jo"])
            wait_for_a_lock(by_hand)
            assert not waiting.done()

        assert waiting.result(A_LONG_TIME) == User("jo", Decimal("424.01"), ("netflix",))

    @pytest.mark.parametrize("names", [("jo", "al", "bo"), ("al", "jo", "bo")])
    def test_a_user_whom_another_machine_adds_meanwhile_is_found(
        self, store: PostgresStore, second: PostgresStore, by_hand: psycopg.Connection, names: tuple[str, ...]
    ) -> None:
        def look_and_add(work: UnitOfWork) -> list[User]:
            assert work.users.lock(["jo", "al"]) == {}
            return [work.users.get_or_add(opening(name)) for name in names]

        adding = Waiting(alone, lambda work: work.users.get_or_add(opening("jo", 80)))
        with running(second.submit, adding):
            waiting = store.submit(look_and_add)
            wait_for_a_lock(by_hand)

        users = waiting.result(A_LONG_TIME)
        assert User("jo", Decimal(80)) in users
        assert store.users.page(9) == tuple(sorted(users, key=lambda user: user.user_id))

    def test_a_user_who_gets_the_id_of_a_renamed_one_meanwhile_is_locked_too(
        self, url: str, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        def lock(work: UnitOfWork) -> User:
            user = work.users.lock(["jo"])["jo"]
            with psycopg.connect(url) as other, pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(f"{ROW_LOCK} NOWAIT", ["jo"])
            return user

        add_user(store, "jo")
        with psycopg.connect(url) as other:  # the block is a transaction
            other.execute("UPDATE users SET user_id = 'mo' WHERE user_id = 'jo'")
            other.execute("INSERT INTO users VALUES (1000, 'jo', 80, 80)")
            other.execute("INSERT INTO grants VALUES (1000, 'opening', 0, 80, 'Bo', now(), '')")
            other.execute("SELECT setval('user_numbers', 1000)")
            waiting = store.submit(lock)
            wait_for_a_lock(by_hand)

        assert waiting.result(A_LONG_TIME) == User("jo", Decimal("0.80"))

    def test_two_that_wait_for_each_other_are_both_kept(
        self, store: PostgresStore, second: PostgresStore
    ) -> None:
        """PostgreSQL ends one of them, which is run again."""
        for name in "jo", "al":
            add_user(store, name)

        def lock_both(first: str, then: str) -> Waiting:
            return Waiting(
                lambda work: work.users.lock([first]),
                then=lambda work: (give_in(first, then)(work), give_in(then, then)(work)),
            )

        one, other = lock_both("jo", "al"), lock_both("al", "jo")
        with running(store.submit, one), running(second.submit, other):
            one.release()

        assert store.grants.sums(["jo", "al"]) == {"jo": 502, "al": 502}

    def test_two_that_need_the_catalogue_do_so_in_turn(
        self, store: PostgresStore, second: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        def list_and_put(work: UnitOfWork) -> tuple[Product, ...]:
            before = work.products.list_all()
            work.products.put([NETFLIX])
            return before

        retiring = Waiting(
            alone,
            lambda work: work.products.find(["gym"]),
            then=lambda work: work.products.retire(["gym"], SIGNED),
        )
        with running(second.submit, retiring):
            waiting = store.submit(list_and_put)
            wait_for_a_lock(by_hand)

        assert GYM not in waiting.result(A_LONG_TIME)
        assert store.products.retired() == {"gym": SIGNED}

    def test_it_is_lost_with_what_it_has_written_before_an_error(self, store: PostgresStore) -> None:
        """Also if it catches the error, and whatever that is: no text of PostgreSQL can have a lone surrogate."""

        def write_and_catch(work: UnitOfWork) -> None:
            alone(work)
            work.users.get_or_add(opening("jo"))
            with suppress(UnicodeError):
                work.users.get("\ud800")
            work.users.get_or_add(opening("al"))

        with pytest.raises(UnicodeError):
            store.change(write_and_catch)
        assert ids(store) == []

    def test_many_new_users_need_few_round_trips(
        self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = [f"user-{number}" for number in range(600)]

        def add_all(work: UnitOfWork) -> None:
            work.users.lock(["nobody"])
            work.users.get_or_add(opening("first"))
            assert work.users.lock(names) == {}
            for name in names:
                work.users.get_or_add(opening(name))

        sent = rounds(store, monkeypatch)
        store.change(add_all)

        assert len(sent) < 20
        assert len(ids(store)) == 601


def wait_for_a_lock(by_hand: psycopg.Connection) -> None:
    """Return once a statement waits for a lock that another transaction holds on a table of this test."""
    waiting = """
        SELECT FROM pg_locks WHERE NOT granted AND pid IN (
            SELECT pid FROM pg_locks WHERE relation = 'users'::regclass OR relation = 'writers'::regclass
        )"""
    wait_for(lambda: by_hand.execute(waiting).fetchone() is not None)


class TestOrderNumbers:
    """Of two orders of one user the later one has the larger id, whichever machine has placed it."""

    def test_they_ascend_over_two_stores(self, store: PostgresStore, second: PostgresStore) -> None:
        products = [Product(f"p{number}", "P", Decimal(1)) for number in range(60)]
        owned: dict[str, int] = {}

        def place(product: Product, work: UnitOfWork) -> None:
            user = work.users.get_or_add(opening("jo"))
            order_id = order_in("jo", product.product_id)(work)
            owned[order_id] = len(user.product_ids)

        store.change(lambda work: work.products.put(products))
        with ThreadPoolExecutor() as pool:
            placing = [
                pool.submit(one.change, partial(place, product))
                for one, half in ((store, products[::2]), (second, products[1::2]))
                for product in half
            ]
        for future in placing:
            future.result(A_LONG_TIME)
        kept = [one.order_id for one in store.orders.of_user("jo")]

        assert len(kept) == len(products)
        assert [owned[order_id] for order_id in kept] == list(range(len(products)))

    def test_they_are_drawn_once_the_user_is_locked(
        self, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        add_user(store, "jo")
        with by_hand.transaction():
            by_hand.execute("LOCK TABLE users IN EXCLUSIVE MODE")
            waiting = store.submit(order_in("jo", "gym"))
            wait_for_a_lock(by_hand)
            [[before]] = by_hand.execute(
                "INSERT INTO orders SELECT nextval('order_numbers'), user_number, 0, now(), NULL, NULL, ''"
                " FROM users RETURNING order_number"
            ).fetchall()
            by_hand.execute(
                "INSERT INTO order_lines SELECT user_number, 'flu-shot', order_number, 0, 'Flu', 0 FROM orders"
            )

        after = waiting.result(A_LONG_TIME)
        assert [one.order_id for one in store.orders.of_user("jo")] == [str(before), after]

    def test_a_number_that_was_drawn_before_the_user_was_locked_is_drawn_again(
        self, store: PostgresStore, second: PostgresStore
    ) -> None:
        numbers: list[str] = []

        def draw(work: UnitOfWork) -> None:
            alone(work)
            numbers.append(work.orders.new_id())

        def place(work: UnitOfWork) -> str:
            user = work.users.get_or_add(opening("jo"))
            buyer, placed = user.buy([GYM], order_id=numbers[-1], placed_at=NOON)
            work.orders.add(placed, buyer)
            return placed.order_id

        with running(store.submit, Waiting(draw, then=place)) as placing:
            before = order(second, "jo", "netflix")

        assert placing.result() == numbers[-1]
        assert len(numbers) == 2
        assert int(numbers[0]) < int(before.order_id) < int(numbers[1])
        assert [one.order_id for one in store.orders.of_user("jo")] == [before.order_id, numbers[1]]

    def test_they_may_be_of_any_size(self, store: PostgresStore, by_hand: psycopg.Connection) -> None:
        """The type of a parameter would follow its size; there are no prepared statements to multiply."""
        for number in 9, 2**31, 2**53, 10**17:
            by_hand.execute("SELECT setval('order_numbers', %s, false)", [number])
            placed = order(store, f"user-{number}", "gym")
            assert placed.order_id == str(number)
            assert store.orders.get(placed.order_id) == placed
            assert store.orders.latest(placed.user_id, 1) == (placed,)
            assert store.orders.page(9, after=str(number - 1)) == (placed,)
        database = store._written  # noqa: SLF001 - the statements are those of a connection
        assert database.run("SELECT count(*) FROM pg_prepared_statements") == [[(0,)]]
