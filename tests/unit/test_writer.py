"""Writing through the SQLite store when something fails: one of several units in a round, the file, another process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any

import attrs
import pytest
from sqlite_utils import Database

from benefits_core import (
    InconsistentChangeError,
    InsufficientBalanceError,
    OfferProducts,
    PlaceOrder,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    StorageUnavailableError,
    UnitOfWork,
    User,
)
from benefits_sqlite import SqliteStore, audit_database
from benefits_sqlite.waiting import ProcessLock
from benefits_sqlite.writer import Writer
from contract.builders import GYM, add_user, drawn_up, order, stocked
from unit.threads import A_LONG_TIME, FOR_ITS_TURN, wait_until_it_waits

NO_ROOM_FOR_A_GYM = (
    "CREATE TRIGGER full BEFORE INSERT ON order_lines WHEN new.product_id = 'gym'"
    " BEGIN SELECT RAISE(ROLLBACK, 'no room'); END"
)


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


def by_hand(path: Path, statement: str) -> None:
    """Run a statement as another program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def with_ctrl_c_in_contextlib(block: Callable[[], object], moment: int) -> None:
    """Run a block, and have Ctrl-C come while context managers are entered or left, before so many of their steps."""
    theirs = contextlib.contextmanager.__code__.co_filename
    left = moment

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != theirs:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # noqa: SLF001 - else Python 3.12 would tell of no steps at all
    sys.settrace(trace)
    try:
        block()
    finally:
        sys.settrace(before)


def one_round(
    unit_of_work: Callable[[], AbstractContextManager[object]], *blocks: Callable[[], object]
) -> list[Future[object]]:
    """Run what opens units of work, each in a thread of its own, so that they share one transaction in this order."""

    def run(started: Future[int], block: Callable[[], object]) -> object:
        started.set_result(get_ident())
        return block()

    askings: list[Future[object]] = []
    with ThreadPoolExecutor() as pool, unit_of_work():
        for block in blocks:
            started: Future[int] = Future()
            askings.append(pool.submit(run, started, block))
            wait_until_it_waits(started.result(A_LONG_TIME), FOR_ITS_TURN)
    return askings


def orders_in_one_round(store: SqliteStore, *orders: tuple[str, str]) -> list[Future[object]]:
    """Place orders that share one transaction."""
    place_order = PlaceOrder(store)
    return one_round(store.unit_of_work, *(partial(place_order, user_id, [item]) for user_id, item in orders))


def add_order(work: UnitOfWork, user_id: str) -> None:
    """Add an order for a gym, within a unit of work."""
    work.users.get_or_add(User.newcomer(user_id))
    work.orders.add(drawn_up(work.orders.next_id(), user_id, GYM))


def interrupt(*_: object, **__: object) -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


class TestRounds:
    def test_of_several_units_in_one_transaction_the_refused_one_alone_is_undone(
        self, store: SqliteStore, path: Path
    ) -> None:
        add_user(store, "poor", 10)
        before, refused, after = orders_in_one_round(store, ("jo", "gym"), ("poor", "gym"), ("al", "gym"))

        assert isinstance(refused.exception(), InsufficientBalanceError)
        assert before.exception() is after.exception() is None
        assert [len(store.orders.of_user(name)) for name in ("jo", "poor", "al")] == [1, 0, 1]
        assert audit_database(str(path)).findings == ()

    def test_a_refused_one_that_is_the_first_leaves_nothing_to_those_after_it(
        self, store: SqliteStore, path: Path
    ) -> None:
        refused, after, again = orders_in_one_round(store, ("new", "yacht"), ("jo", "gym"), ("jo", "gym"))

        assert isinstance(refused.exception(), ProductsNotFoundError)
        assert after.exception() is None
        assert isinstance(again.exception(), ProductsAlreadyPurchasedError)
        assert store.users.get("new") is None
        assert len(store.orders.of_user("jo")) == 1
        assert audit_database(str(path)).findings == ()

    def test_a_failed_one_that_is_the_first_harms_nobody_after_it(
        self, store: SqliteStore, path: Path
    ) -> None:
        by_hand(path, NO_ROOM_FOR_A_GYM)
        failed, after = orders_in_one_round(store, ("al", "gym"), ("jo", "netflix"))

        assert "no room" in str(failed.exception())
        assert after.exception() is None
        assert store.users.get("al") is None
        assert len(store.orders.of_user("jo")) == 1

    def test_when_sqlite_gives_up_the_transaction_every_unit_in_it_is_told(
        self, store: SqliteStore, path: Path
    ) -> None:
        by_hand(path, NO_ROOM_FOR_A_GYM)
        told = orders_in_one_round(store, ("jo", "netflix"), ("al", "gym"), ("bo", "netflix"))

        for one in told:
            assert isinstance(one.exception(), StorageUnavailableError)
            assert "no room" in str(one.exception())
        assert [store.users.get(name) for name in ("jo", "al", "bo")] == [None] * 3

        by_hand(path, "DROP TRIGGER full")
        assert order(store, "jo", "gym").order_id == "1"


class TestVanishedFile:
    def test_a_unit_of_work_that_ends_without_its_file_is_not_told_that_it_was_kept(
        self, store: SqliteStore, path: Path
    ) -> None:
        elsewhere = path.with_name("elsewhere.db")
        with (
            pytest.raises(StorageUnavailableError, match="is not the file that was opened"),
            store.unit_of_work() as work,
        ):
            [product] = work.products.find(["gym"]).values()
            work.products.put([product])
            path.rename(elsewhere)

        elsewhere.rename(path)
        assert order(store, "jo", "gym").total == Decimal(400)

    def test_without_its_file_there_is_no_reading_and_no_writing_until_it_is_back(
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

    def test_a_file_that_is_overwritten_where_it_is_makes_the_store_unavailable(
        self, store: SqliteStore, path: Path
    ) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            # So that the store's connection has to look at the file again before it can begin.
            other.execute("UPDATE catalogue SET version = version + 1")
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"Not a database, whatever its size. " * 1000)

        with pytest.raises(StorageUnavailableError, match="file is not a database"):
            order(store, "jo", "gym")
        assert path.read_bytes() == b"Not a database, whatever its size. " * 1000

    def test_it_is_told_whatever_else_went_wrong(self, store: SqliteStore, path: Path) -> None:
        elsewhere = path.with_name("elsewhere.db")
        with pytest.raises(StorageUnavailableError, match="is not the file") as told, store.unit_of_work():
            path.rename(elsewhere)
            raise LookupError

        assert isinstance(told.value.__cause__, StorageUnavailableError)


class Failing(Database):
    """A database that lets a test fail before each statement."""

    def __init__(self, path: Path) -> None:
        self.before: Callable[[str], object] = bool
        super().__init__(sqlite3.connect(path, isolation_level=None, check_same_thread=False))

    def execute(self, sql: str, parameters: Any = None) -> sqlite3.Cursor:
        self.before(sql)
        return super().execute(sql, parameters)

    def rollback(self) -> None:
        self.before("ROLLBACK")
        super().rollback()

    def fail_once(self, at: str, fail: Callable[[], object]) -> None:
        """Do something before the next statement that begins so."""

        def before(sql: str) -> None:
            if sql.startswith(at):
                self.before = bool
                fail()

        self.before = before


class TestInterruptedUndoing:
    """What was to be undone, and could not be, is kept by nobody."""

    @pytest.fixture
    def db(self, path: Path) -> Iterator[Failing]:
        with closing(Failing(path)) as db:
            yield db

    @pytest.fixture
    def writer(self, db: Failing, path: Path) -> Iterator[Writer]:
        with closing(ProcessLock(str(path))) as lock:
            yield Writer(db, lock, A_LONG_TIME, lambda: None)

    def test_of_one_that_is_alone(self, store: SqliteStore, db: Failing, writer: Writer) -> None:
        with pytest.raises(StorageUnavailableError, match="interrupted"), writer.unit_of_work() as work:
            add_order(work, "jo")
            db.fail_once("ROLLBACK", interrupt)
            raise LookupError

        assert store.users.get("jo") is None
        with writer.unit_of_work() as work:
            add_order(work, "al")
        assert len(store.orders.of_user("al")) == 1

    def test_of_one_that_is_the_first_of_several(
        self, store: SqliteStore, db: Failing, writer: Writer
    ) -> None:
        def be_interrupted() -> None:
            with writer.unit_of_work() as work:
                add_order(work, "jo")
                db.fail_once("ROLLBACK", interrupt)
                raise LookupError

        def go_on() -> None:
            with writer.unit_of_work() as work:
                add_order(work, "al")

        told = one_round(writer.unit_of_work, be_interrupted, go_on)

        for one in told:
            with pytest.raises(StorageUnavailableError, match="interrupted"):
                one.result()
        assert [store.users.get(name) for name in ("jo", "al")] == [None, None]

    def test_of_one_in_a_batch(self, store: SqliteStore, db: Failing, writer: Writer) -> None:
        deadline = time.monotonic() + A_LONG_TIME
        with pytest.raises(StorageUnavailableError, match="interrupted"), writer.batch(deadline):
            with writer.unit_of_work() as work:
                add_order(work, "jo")
            with pytest.raises(KeyboardInterrupt), writer.unit_of_work() as work:
                add_order(work, "al")
                db.fail_once("ROLLBACK TO", interrupt)
                raise LookupError
            with pytest.raises(RuntimeError, match="open already"), writer.unit_of_work():
                pass

        assert [store.users.get(name) for name in ("jo", "al")] == [None, None]

    def test_when_sqlite_gives_up_the_transaction_as_a_unit_begins(
        self, store: SqliteStore, db: Failing, writer: Writer
    ) -> None:
        def give_up() -> None:
            db.conn.rollback()
            raise MemoryError

        deadline = time.monotonic() + A_LONG_TIME
        with pytest.raises(StorageUnavailableError), writer.batch(deadline):
            with writer.unit_of_work() as work:
                add_order(work, "jo")
            db.fail_once("SAVEPOINT", give_up)
            with pytest.raises(MemoryError), writer.unit_of_work():
                pass
            with pytest.raises(StorageUnavailableError), writer.unit_of_work():
                pass

        assert store.users.get("jo") is None


class TestOtherProcesses:
    def test_who_waits_too_long_for_the_lock_between_them_is_told_so(self, path: Path) -> None:
        with SqliteStore(path, patience=0.01) as store, closing(ProcessLock(str(path))) as lock:
            assert lock.acquire(time.monotonic())
            with pytest.raises(StorageUnavailableError, match="another process has been writing for 0.01 s"):
                order(store, "jo", "gym")
            store.ping()
            lock.release()

            assert order(store, "jo", "gym").order_id == "1"

    def test_who_waits_too_long_to_prepare_a_new_file_is_told_so(self, tmp_path: Path) -> None:
        path = tmp_path / "new.db"
        with closing(ProcessLock(str(path))) as lock:
            assert lock.acquire(time.monotonic())
            with pytest.raises(StorageUnavailableError, match="new.db: others have been writing for 0.01 s"):
                SqliteStore(path, patience=0.01)
            lock.release()

        SqliteStore(path, patience=0.01).close()


class TestTwoStores:
    """What the writing connection knows of the tables, while others write them too."""

    def test_the_next_order_is_the_next_of_all(self, store: SqliteStore, path: Path) -> None:
        with SqliteStore(path) as other:
            placed = [order(each, user, "gym") for each, user in [(store, "a"), (other, "b"), (store, "c")]]

        assert [each.order_id for each in placed] == ["1", "2", "3"]

    def test_an_order_costs_what_others_have_made_of_the_price(self, store: SqliteStore, path: Path) -> None:
        order(store, "a", "gym")
        with SqliteStore(path) as other:
            OfferProducts(other)([attrs.evolve(GYM, price=Decimal(1))])

        assert order(store, "b", "gym").total == 1

    @pytest.mark.parametrize("fails", ["the unit of work", "the commit", "Ctrl-C in the commit"])
    def test_also_where_both_have_counted_alike(
        self, store: SqliteStore, path: Path, fails: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = path.with_name("away.db")
        expected = (LookupError, StorageUnavailableError, KeyboardInterrupt)
        with pytest.raises(expected), store.unit_of_work() as work:
            work.products.put([attrs.evolve(GYM, price=Decimal(2))])
            assert work.products.find(["gym"])["gym"].price == 2
            if fails == "the unit of work":
                raise LookupError
            if fails == "the commit":
                path.rename(away)
            else:
                monkeypatch.setattr(os, "stat", interrupt)
        monkeypatch.undo()
        if fails == "the commit":
            away.rename(path)
        with SqliteStore(path) as other:
            OfferProducts(other)([attrs.evolve(GYM, price=Decimal(1))])

        assert order(store, "b", "gym").total == 1


class TestBatch:
    """Units of work of one thread, one after the other, kept together."""

    def test_what_is_done_in_it_is_kept_when_it_ends_and_not_before(self, tmp_path: Path) -> None:
        with SqliteStore(tmp_path / "benefits.db") as store:
            stocked(store)
            with store.batch(since=time.monotonic()):
                order(store, "jo", "netflix")
                with pytest.raises(ProductsAlreadyPurchasedError):
                    order(store, "jo", "netflix")
                order(store, "al", "gym")
                assert store.users.get("jo") is None

            assert [placed.order_id for user in ("jo", "al") for placed in store.orders.of_user(user)] == [
                "1",
                "2",
            ]

    def test_one_that_is_refused_first_takes_nothing_with_it(self, tmp_path: Path) -> None:
        with SqliteStore(tmp_path / "benefits.db") as store:
            stocked(store)
            with store.batch(since=time.monotonic()):
                with pytest.raises(ProductsNotFoundError):
                    order(store, "jo", "yacht")
                order(store, "al", "gym")

            assert store.users.get("jo") is None
            assert len(store.orders.of_user("al")) == 1

    def test_an_error_of_the_block_itself_keeps_what_its_units_did(self, tmp_path: Path) -> None:
        with SqliteStore(tmp_path / "benefits.db") as store:
            stocked(store)
            with pytest.raises(LookupError), store.batch(since=time.monotonic()):
                order(store, "jo", "netflix")
                raise LookupError

            assert len(store.orders.of_user("jo")) == 1

    def test_an_order_that_is_given_up_leaves_its_number_to_the_next(self, tmp_path: Path) -> None:
        with SqliteStore(tmp_path / "benefits.db") as store:
            stocked(store)
            with store.batch(since=time.monotonic()):
                order(store, "jo", "netflix")
                with pytest.raises(LookupError), store.unit_of_work() as work:
                    work.users.get_or_add(User.newcomer("al"))
                    work.orders.add(drawn_up(work.orders.next_id(), "al", GYM))
                    raise LookupError
                assert order(store, "ed", "gym").order_id == "2"

            assert store.users.get("al") is None

    def test_a_first_one_that_is_given_up_leaves_nothing_to_the_next(self, store: SqliteStore) -> None:
        with store.batch(since=time.monotonic()):
            with pytest.raises(LookupError), store.unit_of_work() as work:
                add_order(work, "al")
                raise LookupError
            assert order(store, "ed", "gym").order_id == "1"

        assert store.users.get("al") is None
        assert len(store.orders.of_user("ed")) == 1

    def test_one_that_is_lost_is_undone_alone_though_its_body_has_caught_why(
        self, store: SqliteStore
    ) -> None:
        with store.batch(since=time.monotonic()):
            order(store, "jo", "gym")
            with pytest.raises(InconsistentChangeError), store.unit_of_work() as work:
                add_order(work, "al")
                with pytest.raises(InconsistentChangeError):
                    work.orders.add(drawn_up("7", "al", GYM))
            order(store, "ed", "gym")

        assert [len(store.orders.of_user(name)) for name in ("jo", "al", "ed")] == [1, 0, 1]

    def test_units_of_it_do_not_stand_in_each_other(self, tmp_path: Path) -> None:
        with SqliteStore(tmp_path / "benefits.db") as store, store.batch(since=time.monotonic()):
            inner = store.unit_of_work()
            with store.unit_of_work(), pytest.raises(RuntimeError, match="already"):
                inner.__enter__()

    def test_whoever_has_waited_too_long_already_does_not_wait_for_another_process(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "benefits.db"
        with SqliteStore(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with store.batch(since=began - 60), pytest.raises(StorageUnavailableError):
                order(store, "jo", "netflix")

            assert time.monotonic() - began < 4

    def test_if_it_can_not_be_kept_none_of_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "benefits.db"
        with SqliteStore(path) as store:
            stocked(store)
            with pytest.raises(StorageUnavailableError), store.batch(since=time.monotonic()):
                order(store, "jo", "netflix")
                path.rename(tmp_path / "away.db")

            (tmp_path / "away.db").rename(path)
            assert store.users.get("jo") is None


def test_when_ctrl_c_comes_between_context_managers_nothing_is_told_to_be_kept_that_is_not(
    path: Path,
) -> None:
    for moment in count():
        with SqliteStore(path, patience=0) as store:
            try:
                with_ctrl_c_in_contextlib(lambda: add_user(store, "jo"), moment)
            except KeyboardInterrupt:  # as long as it is handled, it holds on to what it has interrupted
                with suppress(RuntimeError, StorageUnavailableError):
                    added = add_user(store, f"al-{moment}")
                    assert store.users.get(added.user_id) == added
            else:
                break
    assert moment > 10
