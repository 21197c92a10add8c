"""Reading from PostgreSQL: which reads share a round trip, and when the catalogue is read again. And closing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from benefits_core import OfferProducts, StorageUnavailableError, UnitOfWork, User
from benefits_core.ports import View
from benefits_postgres import PostgresStore
from contract.builders import CATALOGUE, FREE, GYM, NETFLIX, SPOTIFY, add_user, order, stocked
from garbage import no_garbage_collection
from postgres_schemas import schema_url
from unit.postgres_stores import Waiting, round_trips, running
from waiting import A_LONG_TIME, wait_for

Query = Callable[[View], Any]


class DeliberateError(Exception):
    """Something that goes wrong in a query."""


@pytest.fixture
def url(tmp_path: Path, postgres_server: None) -> str:  # noqa: ARG001 - the server must run
    return schema_url(tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    """Return a store with a catalogue, in which jo and al have ordered something."""
    with PostgresStore(url, patience=A_LONG_TIME) as store:
        order(stocked(store), "jo", "netflix")
        order(store, "al", "gym")
        yield store


@pytest.fixture
def by_hand(url: str) -> Iterator[psycopg.Connection]:
    """Return a connection of a program that knows nothing of stores."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def sent(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the statements of each round trip of the connection that reads."""
    return round_trips(store._reading._database, monkeypatch)  # noqa: SLF001 - nothing else shows them


JO = User("jo", Decimal("424.01"), ("netflix",))
AL = User("al", Decimal(100), ("gym",))


def read_together(store: PostgresStore, *queries: Query) -> list[Future[Any]]:
    """Submit reads so that the reader finds all of them at once; return their futures, which have ended."""
    with running(store.submit_read, Waiting()):
        futures = [store.submit_read(query) for query in queries]
    for future in futures:
        future.exception(A_LONG_TIME)
    return futures


def get(user_id: str) -> Query:
    """Return a query for a user."""
    return lambda view: view.users.get(user_id)


def products(view: View) -> object:
    """Read the catalogue."""
    return view.products.list_all()


class TestReadingTogether:
    def test_users_and_the_catalogue_are_read_in_one_round_trip(
        self, store: PostgresStore, sent: list[str]
    ) -> None:
        store.products.list_all()
        sent.clear()

        futures = read_together(
            store,
            get("jo"),
            products,
            get("nobody"),
            get("jo"),
            lambda view: view.products.find(["gym", "yacht"]),
            lambda view: (view.users.get("al"), view.products.list_all()),
        )

        assert [future.result() for future in futures] == [
            JO,
            CATALOGUE,
            None,
            JO,
            {"gym": GYM},
            (AL, CATALOGUE),
        ]
        assert len(sent) == 1

    @pytest.mark.parametrize("text", ["", "Jo", "jo\0", "\ud800", "x" * 70_000, "%s", "'", "\\"])
    def test_any_text_may_be_asked_for_beside_others(self, store: PostgresStore, text: str) -> None:
        assert [future.result() for future in read_together(store, get("jo"), get(text), get("al"))] == [
            JO,
            None,
            AL,
        ]

    def test_anything_else_is_a_query_of_its_own(self, store: PostgresStore, sent: list[str]) -> None:
        def latest_after_user(view: View) -> object:
            assert view.users.get("jo") == JO
            return view.orders.latest("jo", 1)

        store.products.list_all()
        sent.clear()
        queries: list[Query] = [
            lambda view: view.users.page(9),
            lambda view: view.grants.sums(["jo"]),
            latest_after_user,
            lambda view: view.products.retired(),
            get("al"),
        ]
        users, sums, latest, retired, al = (future.result() for future in read_together(store, *queries))

        assert (users, sums, retired, al) == ((AL, JO), {"jo": 500}, {}, AL)
        assert latest == store.orders.of_user("jo")
        assert len(sent) == 5 + 1  # that of of_user

    def test_a_user_who_is_asked_for_in_the_second_run_is_found_too(self, store: PostgresStore) -> None:
        def get_both(view: View) -> object:
            return [view.users.get(user_id) for user_id in ("jo", "al", "nobody")]

        [future] = read_together(store, get_both)

        assert future.result() == [JO, AL, None]

    def test_an_error_of_a_query_is_its_own(self, store: PostgresStore) -> None:
        def fail(view: View) -> None:
            view.users.get("jo")
            raise DeliberateError

        first, failed, last = read_together(store, get("jo"), fail, get("al"))

        assert isinstance(failed.exception(), DeliberateError)
        assert (first.result(), last.result()) == (JO, AL)

    @pytest.mark.parametrize("query", [get("jo"), products])
    def test_a_query_that_catches_every_error_has_its_result(
        self, store: PostgresStore, query: Query
    ) -> None:
        def swallow(view: View) -> object:
            try:
                return query(view)
            except BaseException:  # noqa: BLE001 - which a query must not do, and yet may
                return "swallowed"

        [future] = read_together(store, swallow)

        assert future.result() == query(store)

    def test_each_query_has_its_own_error_if_the_reading_fails(
        self, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        by_hand.execute("ALTER TABLE users RENAME TO elsewhere")
        futures = read_together(store, get("jo"), products, get("al"), lambda _: "no need")
        by_hand.execute("ALTER TABLE elsewhere RENAME TO users")

        assert futures.pop().result() == "no need"
        errors = [future.exception() for future in futures]
        assert [type(error) for error in errors] == [StorageUnavailableError] * 3
        assert len({id(error) for error in errors}) == 3
        assert 'relation "users" does not exist' in str(errors[0])
        assert store.submit_read(get("jo")).result(A_LONG_TIME) == JO

    def test_a_read_finds_what_was_kept_before_it_was_submitted(self, store: PostgresStore) -> None:
        for number in range(20):
            added = add_user(store, f"user-{number}")
            assert store.submit_read(get(added.user_id)).result(A_LONG_TIME) == added

    @pytest.mark.parametrize("together", [True, False])
    def test_a_connection_that_was_cut_is_opened_again(
        self,
        store: PostgresStore,
        by_hand: psycopg.Connection,
        together: bool,  # noqa: FBT001 - one of two ways
    ) -> None:
        store.ping()
        cut_connections(by_hand)

        if together:
            assert [future.result() for future in read_together(store, get("jo"), products)] == [
                JO,
                CATALOGUE,
            ]
        else:
            assert store.users.get("jo") == JO

    def test_a_read_whose_connection_is_cut_meanwhile_is_read_again(
        self, store: PostgresStore, by_hand: psycopg.Connection
    ) -> None:
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"
        with by_hand.transaction():
            by_hand.execute("LOCK TABLE users")
            reading = store.submit_read(get("jo"))
            wait_for(lambda: by_hand.execute(waiting).fetchone() is not None)
            cut_connections(by_hand)
            wait_for(lambda: by_hand.execute(waiting).fetchone() is not None)

        assert reading.result(A_LONG_TIME) == JO

    @pytest.mark.parametrize("ends", ["read", "failed", "storage fails"])
    def test_nothing_of_it_waits_for_the_garbage_collector(
        self, store: PostgresStore, by_hand: psycopg.Connection, ends: str
    ) -> None:
        references: list[weakref.ref[Any]] = []

        def read(view: View) -> None:
            references.append(weakref.ref(view))
            view.users.get("jo")
            if ends == "failed":
                error = DeliberateError()
                references.append(weakref.ref(error))
                try:
                    raise error
                finally:
                    del error  # it refers to this frame

        if ends == "storage fails":
            by_hand.execute("ALTER TABLE users RENAME TO elsewhere")
        with no_garbage_collection():
            futures = read_together(store, read, read)
            assert {type(futures.pop().exception()) for _ in range(2)} == {
                {"read": type(None), "failed": DeliberateError, "storage fails": StorageUnavailableError}[
                    ends
                ]
            }
            store.submit_read(lambda _: None).result(A_LONG_TIME)  # the reader has left them behind

            assert len(references) > 1
            assert [reference() for reference in references] == [None] * len(references)


def cut_connections(by_hand: psycopg.Connection) -> None:
    """Cut the connections of every store, and return once they have ended."""
    assert by_hand.execute(
        "SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity WHERE application_name = 'benefits'"
    ).fetchall()


class TestCatalogue:
    def test_while_nothing_changes_it_is_the_same_and_read_once(
        self, store: PostgresStore, sent: list[str]
    ) -> None:
        first = store.products.list_all()
        add_user(store, "bo")
        order(store, "bo", "gym")

        assert store.products.list_all() is first
        assert store.submit_read(products).result(A_LONG_TIME) is first
        assert (
            len(
                [
                    statement
                    for statement in sent
                    if "FROM products" in statement or "JOIN products" in statement
                ]
            )
            <= 1
        )

    @pytest.mark.parametrize(
        ("statement", "catalogue"),
        [
            ("UPDATE products SET price = 1 WHERE product_id = 'gym'", {GYM.product_id: Decimal("0.01")}),
            ("DELETE FROM products WHERE product_id = 'spotify'", {"spotify": None}),
            (
                "INSERT INTO products VALUES ('new', 'New', 700, -1, NULL, NULL, '')",
                {"new": Decimal(7)},
            ),
        ],
    )
    @pytest.mark.parametrize("search_path", [True, False])
    def test_a_change_by_hand_counts_at_once(
        self,
        store: PostgresStore,
        by_hand: psycopg.Connection,
        statement: str,
        catalogue: dict[str, Decimal | None],
        search_path: bool,  # noqa: FBT001 - one of two ways
    ) -> None:
        store.products.list_all()
        order(store, "bo", "flu-shot")  # so that the writer has read it too
        if not search_path:
            [[schema]] = by_hand.execute("SELECT current_schema()").fetchall()
            by_hand.execute("SET search_path = ''")
            statement = statement.replace("products ", f"{schema}.products ", 1)
        by_hand.execute(statement.encode())

        [(key, price)] = catalogue.items()
        assert {one.product_id: one.price for one in store.products.list_all()}.get(key) == price
        if price is not None:
            assert order(store, "bo", key).total == price

    def test_it_is_read_again_when_another_database_answers_on_the_same_connection(
        self, store: PostgresStore, by_hand: psycopg.Connection, tmp_path: Path
    ) -> None:
        """So it is behind PgBouncer after a failover. The other catalogue was changed as often as this one."""
        with PostgresStore(schema_url(tmp_path / "other")) as other:
            OfferProducts(other)([attrs.evolve(GYM, price=Decimal("0.01"))])
        assert store.products.list_all() == CATALOGUE
        order(store, "bo", "flu-shot")
        this, that = (schema_url(folder).rpartition("%3D")[2] for folder in (tmp_path, tmp_path / "other"))
        by_hand.execute(
            f"ALTER SCHEMA {this} RENAME TO {this}_old; ALTER SCHEMA {that} RENAME TO {this}".encode()
        )

        assert store.products.find(["gym"])["gym"].price == Decimal("0.01")
        assert order(store, "bo", "gym").total == Decimal("0.01")

    @pytest.mark.parametrize(
        "damage", ["DELETE FROM catalogue", "INSERT INTO catalogue SELECT * FROM catalogue"]
    )
    def test_a_damaged_table_is_an_error_until_it_is_repaired(
        self, store: PostgresStore, by_hand: psycopg.Connection, damage: str
    ) -> None:
        caught: list[str] = []

        def put(work: UnitOfWork) -> None:
            work.grants.sums([])  # from here on, it runs alone
            for _ in range(2):
                try:
                    work.products.put([NETFLIX])
                except StorageUnavailableError as error:
                    caught.append(str(error))

        store.products.list_all()
        by_hand.execute(damage.encode())
        uses: list[Callable[[], object]] = [
            store.products.list_all,
            lambda: store.submit_read(get("jo")).result(A_LONG_TIME),
            lambda: order(store, "bo", "flu-shot"),
            lambda: store.change(put),
        ]
        for use in uses:
            with pytest.raises(StorageUnavailableError, match="the table catalogue is damaged"):
                use()
        assert len(caught) == 2
        by_hand.execute("DELETE FROM catalogue")
        by_hand.execute("INSERT INTO catalogue VALUES (gen_random_uuid())")

        assert store.products.list_all() == CATALOGUE
        assert order(store, "bo", "flu-shot").total == 0

    def test_a_change_that_was_rolled_back_leaves_nothing_of_its_catalogue(
        self, store: PostgresStore
    ) -> None:
        def fail(work: UnitOfWork) -> None:
            work.products.put([attrs.evolve(SPOTIFY, price=Decimal(1))])
            assert work.products.find(["spotify"])["spotify"].price == 1
            raise DeliberateError

        with pytest.raises(DeliberateError):
            store.change(fail)
        OfferProducts(store)([attrs.evolve(FREE, price=Decimal(2))])  # which has the same version

        assert order(store, "bo", "spotify", "flu-shot").total == SPOTIFY.price + 2


class TestClosing:
    def test_reading_later_raises(self, url: str) -> None:
        store = PostgresStore(url)
        store.products.list_all()
        store.close()
        store.close()

        uses: list[Callable[[], object]] = [
            store.ping,
            store.products.list_all,
            lambda: store.users.get("jo"),
            lambda: store.orders.get("1"),
            lambda: store.submit_read(get("jo")),
            lambda: store.change(lambda _: None),
        ]
        for use in uses:
            with pytest.raises(RuntimeError, match="the store is closed"):
                use()

    def test_reads_that_wait_end_first(self, url: str) -> None:
        with PostgresStore(url, patience=A_LONG_TIME) as store:
            jo = add_user(store, "jo")
            waiting = Waiting()
            store.submit_read(waiting)
            future = store.submit_read(get("jo"))
            assert waiting.has_begun.wait(A_LONG_TIME)
            waiting.release()

        assert future.result(0) == jo

    def test_no_connection_is_left(self, url: str, by_hand: psycopg.Connection) -> None:
        with PostgresStore(url) as store:
            add_user(store, "jo")
            store.ping()
            pids = [
                database._connection.info.backend_pid  # type: ignore[union-attr]  # noqa: SLF001 - nothing else tells them from others
                for database in (store._written, store._reading._database)  # noqa: SLF001
            ]
            assert sessions(by_hand, pids) == 2

        wait_for(lambda: sessions(by_hand, pids) == 0)

    def test_an_interrupted_opening_leaves_no_connection(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("benefits_postgres.schema.migrate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            PostgresStore(url)
        gc.collect()  # psycopg would warn of a connection that was not closed


def sessions(by_hand: psycopg.Connection, pids: list[int]) -> int:
    """Return how many of these processes of the server there are."""
    found = by_hand.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", [pids]).fetchone()
    assert found is not None
    return int(found[0])
