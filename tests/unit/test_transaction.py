"""The connection that writes: what it undoes, what it caches, and when the file or another process is in its way."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlite_utils import Database

from benefits_core import (
    BenefitsError,
    InconsistentChangeError,
    OfferProducts,
    StorageUnavailableError,
    UnitOfWork,
    User,
)
from benefits_sqlite import SqliteStore
from benefits_sqlite.transaction import Transaction
from benefits_sqlite.waiting import ProcessLock
from contract.builders import GYM, buy, drawn_up, order, stocked
from waiting import A_LONG_TIME


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database with a catalogue in it."""
    path = tmp_path / "benefits.db"
    with SqliteStore(path) as store:
        stocked(store)
    return path


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """Return a store over it."""
    with SqliteStore(path, patience=A_LONG_TIME) as store:
        yield store


def order_gym(user_id: str) -> Callable[[UnitOfWork], None]:
    """Return a change that orders a gym."""

    def change(work: UnitOfWork) -> None:
        buy(work, user_id, GYM)

    return change


def fail(work: UnitOfWork) -> None:
    """Be a change that fails after it has ordered a gym."""
    buy(work, "failed", GYM)
    raise LookupError


class FailingDatabase(Database):
    """A database that lets a test fail before a statement."""

    def __init__(self, path: Path) -> None:
        self._before: Callable[[str], object] = bool
        super().__init__(sqlite3.connect(path, isolation_level=None, check_same_thread=False))

    def execute(self, sql: str, parameters: Any = None) -> sqlite3.Cursor:
        self._before(sql)
        return super().execute(sql, parameters)

    def fail_at(self, begin: str, error: BaseException) -> None:
        """Raise an error in place of the next statement that begins so."""

        def before(sql: str) -> None:
            if sql.startswith(begin):
                self._before = bool
                raise error

        self._before = before


ERRORS = [sqlite3.OperationalError("disk I/O error"), KeyboardInterrupt("pressed"), MemoryError("none left")]


class TestUndoing:
    """What can't be undone is never committed."""

    @pytest.fixture
    def db(self, path: Path) -> Iterator[FailingDatabase]:
        with closing(FailingDatabase(path)) as db:
            yield db

    @pytest.fixture
    def lock(self, path: Path) -> Iterator[ProcessLock]:
        with closing(ProcessLock(str(path))) as lock:
            yield lock

    @pytest.fixture
    def transaction(self, db: FailingDatabase, lock: ProcessLock) -> Transaction:
        return Transaction(db, lock, verify=lambda: None)

    def keep(self, transaction: Transaction, *changes: Callable[[UnitOfWork], None]) -> None:
        """Run changes in one transaction, whatever they raise, and commit it."""
        try:
            transaction.begin(time.monotonic() + A_LONG_TIME)
            for change in changes:
                with suppress(LookupError, BenefitsError, KeyboardInterrupt, MemoryError):
                    transaction.run(change)
            transaction.commit()
        finally:
            transaction.reset()

    def assert_it_is_usable(self, transaction: Transaction, store: SqliteStore) -> None:
        self.keep(transaction, order_gym("later"))
        [placed] = store.orders.of_user("later")
        assert placed.order_id == "1"
        assert store.users.get("failed") is None

    @pytest.mark.parametrize("error", ERRORS)
    def test_if_a_first_change_can_not_be_undone_no_other_is_kept(
        self, store: SqliteStore, db: FailingDatabase, transaction: Transaction, error: BaseException
    ) -> None:
        db.fail_at("ROLLBACK", error)
        with pytest.raises(StorageUnavailableError):
            self.keep(transaction, fail, order_gym("jo"))

        assert store.users.get("jo") is None
        self.assert_it_is_usable(transaction, store)

    @pytest.mark.parametrize("statement", ["ROLLBACK TO", "RELEASE"])
    @pytest.mark.parametrize("error", ERRORS)
    def test_if_a_later_change_can_not_be_undone_no_other_is_kept(
        self,
        store: SqliteStore,
        db: FailingDatabase,
        transaction: Transaction,
        statement: str,
        error: BaseException,
    ) -> None:
        db.fail_at(statement, error)
        with pytest.raises(StorageUnavailableError):
            self.keep(transaction, order_gym("jo"), fail, order_gym("al"))

        assert [store.users.get(name) for name in ("jo", "al")] == [None, None]
        self.assert_it_is_usable(transaction, store)

    @pytest.mark.parametrize("error", ERRORS)
    def test_if_a_savepoint_can_not_be_made_nothing_is_kept(
        self, store: SqliteStore, db: FailingDatabase, transaction: Transaction, error: BaseException
    ) -> None:
        db.fail_at("SAVEPOINT", error)
        with pytest.raises(StorageUnavailableError):
            self.keep(transaction, order_gym("jo"), order_gym("al"))

        assert [store.users.get(name) for name in ("jo", "al")] == [None, None]
        self.assert_it_is_usable(transaction, store)

    def test_a_savepoint_that_can_not_be_released_is_undone(
        self, store: SqliteStore, db: FailingDatabase, transaction: Transaction
    ) -> None:
        db.fail_at("RELEASE", sqlite3.OperationalError("disk I/O error"))
        self.keep(transaction, order_gym("jo"), order_gym("al"), order_gym("bo"))

        assert [store.users.get(name) is None for name in ("jo", "al", "bo")] == [False, True, False]
        assert [store.orders.of_user(name)[0].order_id for name in ("jo", "bo")] == ["1", "2"]

    @pytest.mark.parametrize("error", ERRORS)
    def test_a_commit_that_fails_keeps_nothing(
        self, store: SqliteStore, db: FailingDatabase, transaction: Transaction, error: BaseException
    ) -> None:
        db.fail_at("COMMIT", error)
        with pytest.raises((StorageUnavailableError, type(error))):
            self.keep(transaction, order_gym("jo"))

        assert store.users.get("jo") is None
        self.assert_it_is_usable(transaction, store)

    def test_other_processes_can_write_even_if_the_end_of_a_transaction_fails(
        self, store: SqliteStore, db: FailingDatabase, transaction: Transaction, path: Path
    ) -> None:
        transaction.begin(time.monotonic() + A_LONG_TIME)
        transaction.run(order_gym("jo"))
        db.fail_at("ROLLBACK", sqlite3.OperationalError("disk I/O error"))
        with pytest.raises(StorageUnavailableError, match="disk I/O error"):
            transaction.reset()

        with closing(ProcessLock(str(path))) as other:
            assert other.acquire(time.monotonic())
        transaction.reset()
        assert store.users.get("jo") is None
        self.assert_it_is_usable(transaction, store)

    def test_a_change_that_is_lost_is_undone_alone(
        self, store: SqliteStore, transaction: Transaction
    ) -> None:
        def lose(work: UnitOfWork) -> None:
            buy(work, "lost", GYM)
            with pytest.raises(InconsistentChangeError):
                work.orders.add(drawn_up("7", "lost", GYM), User("lost", Decimal(500)))

        self.keep(transaction, order_gym("jo"), lose, order_gym("al"))

        assert [len(store.orders.of_user(name)) for name in ("jo", "lost", "al")] == [1, 0, 1]


class TestVanishedFile:
    def test_a_change_during_which_its_file_is_moved_away_is_not_reported_as_kept(
        self, store: SqliteStore, path: Path
    ) -> None:
        elsewhere = path.with_name("elsewhere.db")

        def change(work: UnitOfWork) -> None:
            buy(work, "jo", GYM)
            path.rename(elsewhere)

        with pytest.raises(StorageUnavailableError, match="is not the file that was opened"):
            store.change(change)

        elsewhere.rename(path)
        assert store.users.get("jo") is None
        assert order(store, "jo", "gym").order_id == "1"

    def test_a_file_that_is_moved_away_just_before_the_commit_is_noticed_after_it(
        self, store: SqliteStore, path: Path
    ) -> None:
        def move(sql: str) -> None:
            if sql == "COMMIT":
                path.rename(path.with_name("elsewhere.db"))

        store._transaction._db.conn.set_trace_callback(move)  # noqa: SLF001 - no other way into that moment
        with pytest.raises(StorageUnavailableError, match="is not the file that was opened"):
            order(store, "jo", "gym")

    def test_without_its_file_there_is_no_reading_and_no_change_until_it_is_back(
        self, store: SqliteStore, path: Path
    ) -> None:
        order(store, "jo", "netflix")
        elsewhere = path.with_name("elsewhere.db")
        path.rename(elsewhere)
        for _ in range(2):
            with pytest.raises(StorageUnavailableError, match="is not the file that was opened"):
                order(store, "jo", "gym")
            with pytest.raises(StorageUnavailableError):
                store.users.get("jo")
        assert not path.exists()

        elsewhere.rename(path)
        order(store, "jo", "gym")
        assert len(store.orders.of_user("jo")) == 2

    def test_another_file_in_its_place_is_not_touched(self, store: SqliteStore, path: Path) -> None:
        path.rename(path.with_name("elsewhere.db"))
        path.write_text("precious")

        with pytest.raises(StorageUnavailableError):
            order(store, "jo", "gym")
        with pytest.raises(StorageUnavailableError):
            store.ping()
        assert path.read_text() == "precious"

    def test_a_file_that_is_overwritten_makes_the_store_unavailable(
        self, store: SqliteStore, path: Path
    ) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            # So that the store's connection has to read the file again before it can begin.
            other.execute("UPDATE catalogue SET version = version + 1")
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"Not a database, whatever its size. " * 1000)

        with pytest.raises(StorageUnavailableError, match="file is not a database"):
            order(store, "jo", "gym")
        assert path.read_bytes() == b"Not a database, whatever its size. " * 1000

    def test_it_is_reported_in_place_of_any_refusal(self, store: SqliteStore, path: Path) -> None:
        """What the connection read may be of a file that has been replaced."""

        def change(_: UnitOfWork) -> None:
            path.rename(path.with_name("elsewhere.db"))
            raise LookupError

        with pytest.raises(StorageUnavailableError, match="is not the file") as raised:
            store.change(change)
        assert isinstance(raised.value.__context__, LookupError)


class TestOtherProcesses:
    def test_a_change_that_waits_too_long_for_another_process_raises(self, path: Path) -> None:
        with SqliteStore(path, patience=0.01) as store, closing(ProcessLock(str(path))) as lock:
            assert lock.acquire(time.monotonic())
            with pytest.raises(
                StorageUnavailableError, match="another process has been writing for too long"
            ):
                order(store, "jo", "gym")
            store.ping()
            lock.release()

            assert order(store, "jo", "gym").order_id == "1"

    def test_a_store_that_waits_too_long_to_prepare_a_new_file_raises(self, tmp_path: Path) -> None:
        path = tmp_path / "new.db"
        with closing(ProcessLock(str(path))) as lock:
            assert lock.acquire(time.monotonic())
            with pytest.raises(
                StorageUnavailableError, match="new.db: other processes have been writing for 0.01 s"
            ):
                SqliteStore(path, patience=0.01)
            lock.release()

        SqliteStore(path, patience=0.01).close()


def interrupt(*_: object, **__: object) -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


class TestTwoStores:
    """What the connection that writes has cached, while other connections write too."""

    def test_the_next_order_is_the_next_of_all(self, store: SqliteStore, path: Path) -> None:
        with SqliteStore(path) as other:
            placed = [order(each, user, "gym") for each, user in [(store, "a"), (other, "b"), (store, "c")]]

        assert [each.order_id for each in placed] == ["1", "2", "3"]

    def test_an_order_costs_the_price_that_another_store_has_set(
        self, store: SqliteStore, path: Path
    ) -> None:
        order(store, "a", "gym")
        with SqliteStore(path) as other:
            OfferProducts(other)([attrs.evolve(GYM, price=Decimal(1))])

        assert order(store, "b", "gym").total == 1

    @pytest.mark.parametrize(
        "ends", ["the change", "the commit", "Ctrl-C in the commit", "Ctrl-C in the change"]
    )
    def test_a_price_that_was_not_kept_is_not_cached(
        self, store: SqliteStore, path: Path, ends: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even if both stores have then counted as many changes of the catalogue."""
        away = path.with_name("away.db")

        def change(work: UnitOfWork) -> None:
            work.products.put([attrs.evolve(GYM, price=Decimal(2))])
            assert work.products.find(["gym"])["gym"].price == 2
            if ends == "the change":
                raise LookupError
            if ends == "Ctrl-C in the change":
                raise KeyboardInterrupt
            if ends == "the commit":
                path.rename(away)
            else:
                monkeypatch.setattr(os, "stat", interrupt)

        with pytest.raises((LookupError, StorageUnavailableError, KeyboardInterrupt)):
            store.change(change)
        monkeypatch.undo()
        if ends == "the commit":
            away.rename(path)
        with SqliteStore(path) as other:
            OfferProducts(other)([attrs.evolve(GYM, price=Decimal(1))])

        assert order(store, "b", "gym").total == 1

    def test_a_price_that_a_refused_change_of_a_batch_has_set_is_not_cached(self, store: SqliteStore) -> None:
        def reprice(work: UnitOfWork) -> None:
            work.products.put([attrs.evolve(GYM, price=Decimal(2))])
            assert work.products.find(["gym"])["gym"].price == 2
            raise LookupError

        transaction = store._transaction  # noqa: SLF001 - a batch of two
        transaction.begin(time.monotonic())
        transaction.run(order_gym("jo"))
        with pytest.raises(LookupError):
            transaction.run(reprice)
        price = transaction.run(lambda work: work.products.find(["gym"])["gym"].price)
        transaction.reset()

        assert price == GYM.price
