"""Group commit: which thread runs a change, which changes share a transaction, and what each caller is returned."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from decimal import Decimal
from functools import partial
from itertools import count, islice
from pathlib import Path
from queue import SimpleQueue
from threading import Barrier, Event, Thread, current_thread
from typing import Any

import pytest

from benefits_core import (
    InconsistentChangeError,
    InsufficientBalanceError,
    PlaceOrder,
    Product,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    StorageUnavailableError,
    UnitOfWork,
    User,
)
from benefits_core.model import basket
from benefits_sqlite import SqliteStore, audit_database
from benefits_sqlite.group_commit import MAX_BATCH
from benefits_sqlite.waiting import ProcessLock
from contract.builders import FREE, GYM, NETFLIX, NOON, add_user, buy, drawn_up, opening, order, stocked
from contract.interrupting import interrupt_at
from garbage import no_garbage_collection
from waiting import A_LONG_TIME, wait_for

WRITER = "benefits-writer"


class DeliberateError(Exception):
    """Something that goes wrong in a change."""


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


@contextmanager
def held(store: SqliteStore) -> Iterator[Callable[[], None]]:
    """Have a change run in a thread of its own, during the block or until what is given is called."""
    has_begun, may_end = Event(), Event()

    def wait(_: UnitOfWork) -> None:
        has_begun.set()
        assert may_end.wait(A_LONG_TIME)

    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(store.change, wait)

        def release() -> None:
            may_end.set()
            change.result(A_LONG_TIME)

        try:
            assert has_begun.wait(A_LONG_TIME)
            yield release
        finally:
            release()


def order_in(user_id: str, *items: str) -> Callable[[UnitOfWork], object]:
    """Return a change that places an order."""

    def place(work: UnitOfWork) -> str:
        user = work.users.get_or_add(opening(user_id))
        products = basket(items, work.products.find(items))
        buyer, placed = user.buy(products, order_id=work.orders.new_id(), placed_at=NOON)
        work.orders.add(placed, buyer)
        return placed.order_id

    return place


def in_one_batch(store: SqliteStore, *changes: Callable[[UnitOfWork], object]) -> list[Future[Any]]:
    """Run changes that wait together, and return their futures, which have ended."""
    with held(store):
        futures: list[Future[Any]] = [store.submit(change) for change in changes]
    for future in futures:
        future.exception(A_LONG_TIME)
    return futures


def lose(work: UnitOfWork) -> None:
    """Be a change that is lost although it catches the error."""
    work.users.get_or_add(opening("lost"))
    with suppress(InconsistentChangeError):
        work.orders.add(drawn_up("x", "lost", GYM), User("lost", Decimal(500)))


def statements_of(store: SqliteStore) -> list[str]:
    """Return a list to which the statements of the connection that writes will be added."""
    statements: list[str] = []
    store._transaction._db.conn.set_trace_callback(statements.append)  # noqa: SLF001 - SQLite alone knows
    return statements


def writers() -> list[Thread]:
    """Return the writer threads that live."""
    return [thread for thread in threading.enumerate() if thread.name == WRITER]


def thread_name(_: UnitOfWork) -> str:
    """Be a change that returns which thread runs it."""
    return current_thread().name


class TestThreads:
    def test_a_caller_runs_its_own_change_if_no_other_runs(self, store: SqliteStore) -> None:
        assert store.change(thread_name) == current_thread().name
        assert writers() == []

    def test_the_writer_runs_a_change_that_has_waited(self, store: SqliteStore) -> None:
        with ThreadPoolExecutor() as pool:
            with held(store) as release:
                waiting = [pool.submit(store.change, thread_name) for _ in range(3)]
                waiting.append(store.submit(thread_name))
                release()
                assert [future.result(A_LONG_TIME) for future in waiting[3:]] == [WRITER]
            names = {future.result(A_LONG_TIME) for future in waiting}

        assert WRITER in names
        assert store.change(thread_name) == current_thread().name

    def test_the_writer_runs_every_submitted_change(self, store: SqliteStore) -> None:
        assert store.submit(thread_name).result(A_LONG_TIME) == WRITER

    def test_a_submitted_change_ends_beside_a_tight_loop_of_changes(self, store: SqliteStore) -> None:
        done = Event()

        def loop() -> None:
            while not done.is_set():
                store.change(lambda _: None)

        with ThreadPoolExecutor() as pool:
            looping = pool.submit(loop)
            try:
                for _ in range(100):
                    store.submit(lambda _: None).result(A_LONG_TIME)
            finally:
                done.set()
            looping.result(A_LONG_TIME)

    def test_many_first_submits_start_one_writer(self, store: SqliteStore) -> None:
        barrier = Barrier(16)

        def submit() -> str:
            barrier.wait(A_LONG_TIME)
            return store.submit(thread_name).result(A_LONG_TIME)

        with ThreadPoolExecutor(16) as pool:
            names = [
                submitting.result(A_LONG_TIME) for submitting in [pool.submit(submit) for _ in range(16)]
            ]
        store.submit(thread_name).result(A_LONG_TIME)
        wait_for(lambda: len(writers()) == 1)

        assert names == [WRITER] * 16
        assert len(writers()) == 1

    @pytest.mark.parametrize("starts", [False, True])
    def test_ctrl_c_while_the_writer_starts_leaves_one_writer(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, *, starts: bool
    ) -> None:
        start = Thread.start

        def interrupted_start(thread: Thread) -> None:
            if starts:
                start(thread)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Thread, "start", interrupted_start)
            with pytest.raises(KeyboardInterrupt):
                store.submit(thread_name)
        assert store.submit(thread_name).result(A_LONG_TIME) == WRITER
        wait_for(lambda: len(writers()) == 1)

        assert len(writers()) == 1


class TestBatch:
    def test_changes_that_wait_together_share_one_commit(self, store: SqliteStore, path: Path) -> None:
        add_user(store, "poor", 10)
        statements = statements_of(store)
        futures = in_one_batch(
            store,
            order_in("jo", "gym"),
            order_in("poor", "gym"),
            order_in("al", "gym"),
            order_in("jo", "gym"),
            order_in("new", "yacht"),
            order_in("jo", "netflix"),
            lose,
        )

        assert [type(future.exception()) for future in futures] == [
            type(None),
            InsufficientBalanceError,
            type(None),
            ProductsAlreadyPurchasedError,
            ProductsNotFoundError,
            type(None),
            InconsistentChangeError,
        ]
        # The first transaction is that of the change that all others waited for.
        assert [sql for sql in statements if "COMMIT" in sql or "BEGIN" in sql] == [
            "BEGIN IMMEDIATE",
            "COMMIT",
        ] * 2
        assert [store.users.get(name) for name in ("new", "lost")] == [None, None]
        assert [len(store.orders.of_user(name)) for name in ("jo", "poor", "al")] == [2, 0, 1]
        assert audit_database(str(path)).findings == ()

    def test_a_refused_change_takes_none_with_it_if_it_is_the_first(
        self, store: SqliteStore, path: Path
    ) -> None:
        refused, first, again = in_one_batch(
            store, order_in("new", "yacht"), order_in("jo", "gym"), order_in("jo", "gym")
        )

        assert isinstance(refused.exception(), ProductsNotFoundError)
        assert first.result() == "1"
        assert isinstance(again.exception(), ProductsAlreadyPurchasedError)
        assert store.users.get("new") is None
        assert audit_database(str(path)).findings == ()

    def test_a_refused_change_leaves_its_order_id_to_the_next(self, store: SqliteStore) -> None:
        def fail(work: UnitOfWork) -> None:
            buy(work, "new", GYM)
            raise DeliberateError

        first, _, second = in_one_batch(store, order_in("jo", "netflix"), fail, order_in("al", "gym"))

        assert (first.result(), second.result()) == ("1", "2")
        assert store.users.get("new") is None

    def test_a_refusal_is_reported_after_the_commit_of_what_it_rests_on(self, store: SqliteStore) -> None:
        seen: SimpleQueue[User | None] = SimpleQueue()
        with held(store):
            store.submit(order_in("jo", "gym"))
            refused = store.submit(order_in("jo", "gym"))
            refused.add_done_callback(lambda _: seen.put(store.users.get("jo")))

        assert isinstance(refused.exception(A_LONG_TIME), ProductsAlreadyPurchasedError)
        jo = seen.get(timeout=A_LONG_TIME)
        assert jo is not None
        assert jo.product_ids == ("gym",)

    def test_a_change_that_arrives_during_a_batch_joins_it(self, store: SqliteStore) -> None:
        has_begun, may_end = Event(), Event()

        def wait(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo"))
            has_begun.set()
            assert may_end.wait(A_LONG_TIME)

        statements = statements_of(store)
        store.submit(wait)
        assert has_begun.wait(A_LONG_TIME)
        late = store.submit(order_in("al", "gym"))
        may_end.set()
        late.result(A_LONG_TIME)

        assert statements.count("COMMIT") == 1

    def test_a_batch_has_a_greatest_size(self, store: SqliteStore) -> None:
        statements = statements_of(store)
        futures = in_one_batch(store, *[order_in(f"user-{n}", "gym") for n in range(MAX_BATCH + 1)])

        assert [future.result() for future in futures] == [str(n + 1) for n in range(MAX_BATCH + 1)]
        assert statements.count("COMMIT") == 3

    def test_a_cancelled_change_is_left_out(self, store: SqliteStore) -> None:
        with held(store):
            futures = [store.submit(order_in(name, "gym")) for name in ("jo", "al", "bo")]
            assert futures[0].cancel()
            assert futures[2].cancel()

        assert futures[1].result(A_LONG_TIME) == "1"
        store.submit(thread_name).result(A_LONG_TIME)
        assert [store.users.get(name) is None for name in ("jo", "al", "bo")] == [True, False, True]

    def test_a_change_whose_patience_ends_during_a_batch_is_not_run(self, store: SqliteStore) -> None:
        has_begun, may_end = Event(), Event()

        def wait(_: UnitOfWork) -> None:
            has_begun.set()
            assert may_end.wait(A_LONG_TIME)

        store.submit(wait)
        assert has_begun.wait(A_LONG_TIME)
        with patience(store, 0.01):
            late = store.submit(order_in("jo", "gym"))
        later = store.submit(order_in("al", "gym"))
        time.sleep(0.05)
        may_end.set()

        with pytest.raises(StorageUnavailableError, match="other changes have been running"):
            late.result(A_LONG_TIME)
        assert later.result(A_LONG_TIME) == "1"
        assert store.users.get("jo") is None


@contextmanager
def patience(store: SqliteStore, seconds: float) -> Iterator[None]:
    """Give the changes that are submitted in the block another patience."""
    changes = store._changes  # noqa: SLF001 - one store, so that they meet in one queue
    before, changes._patience = changes._patience, seconds  # noqa: SLF001
    try:
        yield
    finally:
        changes._patience = before  # noqa: SLF001


class TestFailedBatch:
    def assert_each_has_its_own_error(self, futures: list[Future[Any]], message: str) -> None:
        errors = [future.exception(A_LONG_TIME) for future in futures]
        for error in errors:
            assert isinstance(error, StorageUnavailableError)
            assert message in str(error)
        assert len({id(error) for error in errors}) == len(errors)

    def test_nothing_is_kept_if_the_commit_fails(self, store: SqliteStore) -> None:
        def break_at_commit(work: UnitOfWork) -> None:
            query = work.users._query  # type: ignore[attr-defined]  # noqa: SLF001 - no other way to make a commit fail
            query("PRAGMA defer_foreign_keys = ON")
            query(
                "INSERT INTO orders (order_number, user_number, total, placed_at) VALUES (1000, 1000, 0, '')"
            )

        futures = in_one_batch(
            store, order_in("jo", "gym"), break_at_commit, order_in("jo", "gym"), order_in("al", "netflix")
        )

        self.assert_each_has_its_own_error(futures, "FOREIGN KEY constraint failed")
        assert [store.users.get(name) for name in ("jo", "al")] == [None, None]
        assert order(store, "jo", "gym").order_id == "1"

    def test_callers_that_wait_each_raise_their_own_error(self, store: SqliteStore, path: Path) -> None:
        elsewhere = path.with_name("elsewhere.db")
        with ThreadPoolExecutor() as pool:
            with held(store):
                waiting = [pool.submit(PlaceOrder(store), name, ["gym"]) for name in ("jo", "al", "bo")]
                moving = store.submit(lambda _: path.rename(elsewhere))
            self.assert_each_has_its_own_error([*waiting, moving], "is not the file that was opened")
        elsewhere.rename(path)

        assert [store.users.get(name) for name in ("jo", "al", "bo")] == [None] * 3

    def test_all_fail_if_sqlite_rolls_back_everything_by_itself(self, store: SqliteStore, path: Path) -> None:
        """Which it may do when the disk is full."""
        with closing(sqlite3.connect(path)) as by_hand:
            by_hand.execute(
                "CREATE TRIGGER full BEFORE INSERT ON products WHEN NEW.product_id = 'last'"
                " BEGIN SELECT RAISE(ROLLBACK, 'disk is full'); END"
            )

        def fill(work: UnitOfWork) -> None:
            work.products.put([Product("last", "Last", FREE.price)])

        futures = in_one_batch(store, order_in("jo", "gym"), fill, order_in("al", "gym"))

        self.assert_each_has_its_own_error(futures, "disk is full")
        assert [store.users.get(name) for name in ("jo", "al")] == [None, None]
        assert order(store, "jo", "gym").order_id == "1"

    def test_the_first_change_alone_fails_if_the_disk_is_full(self, store: SqliteStore) -> None:
        pages = store._transaction._db  # noqa: SLF001 - the limit is the connection's
        [[used]] = pages.execute("PRAGMA page_count").fetchall()
        pages.execute(f"PRAGMA max_page_count = {used + 1}")

        def fill(work: UnitOfWork) -> None:
            work.products.put([Product(f"p{number}", "P" * 200, FREE.price) for number in range(1000)])

        full, other = in_one_batch(store, fill, order_in("al", "gym"))

        assert "database or disk is full" in str(full.exception())
        assert other.result() == "1"
        assert store.products.find(["p1"]) == {}

    def test_a_batch_that_can_not_begin_fails_its_first_change_alone(
        self, store: SqliteStore, path: Path
    ) -> None:
        with closing(ProcessLock(str(path))) as lock:
            assert lock.acquire(time.monotonic())
            with patience(store, 0.05):
                first = store.submit(order_in("jo", "gym"))
            second = store.submit(order_in("al", "gym"))
            with pytest.raises(StorageUnavailableError, match="another process has been writing"):
                first.result(A_LONG_TIME)
            assert not second.done()
            lock.release()

            assert second.result(A_LONG_TIME) == "1"
        assert store.users.get("jo") is None

    def test_a_batch_behind_a_long_change_fails_its_first_change_in_time(self, store: SqliteStore) -> None:
        with held(store) as release:
            with patience(store, 0.05):
                first = store.submit(order_in("jo", "gym"))
            second = store.submit(order_in("al", "gym"))
            with pytest.raises(StorageUnavailableError, match="other changes have been running"):
                first.result(A_LONG_TIME)
            assert not second.done()
            release()

            assert second.result(A_LONG_TIME) == "1"

    def test_a_cancelled_change_does_not_hinder_a_batch_that_can_not_begin(
        self, store: SqliteStore, path: Path
    ) -> None:
        with closing(ProcessLock(str(path))) as lock:
            assert lock.acquire(time.monotonic())
            first = store.submit(order_in("jo", "gym"))
            second = store.submit(order_in("al", "gym"))
            assert first.cancel()
            assert not second.done()
            lock.release()

            assert second.result(A_LONG_TIME) == "1"


class TestInterruption:
    def test_ctrl_c_after_the_function_and_before_the_commit_releases_the_lock(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(store._transaction, "verify", interrupt)  # noqa: SLF001 - it is called just then
        with pytest.raises(KeyboardInterrupt):
            add_user(store, "jo")
        monkeypatch.undo()

        with ThreadPoolExecutor() as pool:
            pool.submit(add_user, store, "al").result(A_LONG_TIME)
        assert store.users.get("jo") is None

    def test_at_every_step_of_a_caller_that_waits_for_the_writer(self, store: SqliteStore) -> None:
        def add_two(name: str, work: UnitOfWork) -> None:
            work.users.get_or_add(opening(f"{name}-1"))
            work.users.get_or_add(opening(f"{name}-2"))

        def is_waiting() -> bool:
            return not changes._queue.empty() or bool(changes._batch)  # noqa: SLF001 - nothing else shows it

        def release_if_it_waits(release: Callable[[], None], has_ended: Event) -> None:
            wait_for(lambda: is_waiting() or has_ended.is_set())
            release()

        changes = store._changes  # noqa: SLF001
        store.submit(thread_name).result(A_LONG_TIME)  # so that there is a writer
        kept = []
        for step in count():
            has_ended = Event()
            with held(store) as release, ThreadPoolExecutor(1) as pool:
                pool.submit(release_if_it_waits, release, has_ended)
                try:
                    interrupted = interrupt_at(step, partial(store.change, partial(add_two, f"user-{step}")))
                finally:
                    has_ended.set()
            assert store.submit(lambda _: "next").result(A_LONG_TIME) == "next"
            assert store.change(lambda _: "next") == "next"
            first, second = (store.users.get(f"user-{step}-{number}") for number in (1, 2))
            assert (first is None) == (second is None)
            kept.append(first is not None)
            if not interrupted:
                break

        assert kept[-1]
        assert len(kept) > 40


class TestGarbage:
    """An error refers to the frames that it has passed through; none of them may refer to the error."""

    @pytest.mark.parametrize("way", ["submit", "change", "alone"])
    @pytest.mark.parametrize("ends", ["kept", "failed", "lost", "commit fails"])
    def test_errors_and_units_of_work_are_freed_at_once(  # noqa: C901 - four ends, in three ways
        self, store: SqliteStore, path: Path, way: str, ends: str
    ) -> None:
        references: list[weakref.ref[Any]] = []
        elsewhere = path.with_name("elsewhere.db")

        def change(work: UnitOfWork) -> None:
            references.append(weakref.ref(work))
            work.users.get_or_add(opening("jo"))
            if ends == "failed":
                error = DeliberateError()
                references.append(weakref.ref(error))
                try:
                    raise error
                finally:
                    del error  # it refers to this frame
            if ends == "lost":
                with suppress(InconsistentChangeError):
                    work.orders.add(drawn_up("x", "jo", NETFLIX), User("jo", Decimal(500)))
            if ends == "commit fails" and path.exists():
                path.rename(elsewhere)

        def end(result: Callable[[], object]) -> None:
            try:
                result()
            except (DeliberateError, InconsistentChangeError, StorageUnavailableError) as error:
                references.append(weakref.ref(error))
            finally:
                del result  # a method of the future, which refers to the error

        def in_a_batch() -> None:
            with ThreadPoolExecutor() as pool:
                with held(store):
                    if way == "submit":
                        futures: list[Future[Any]] = [store.submit(change) for _ in range(3)]
                    else:
                        futures = [pool.submit(end, partial(store.change, change)) for _ in range(3)]
                        while store._changes._queue.qsize() < 2:  # noqa: SLF001 - the writer has taken the first
                            time.sleep(0.001)
                while futures:
                    end(futures.pop().result)

        with no_garbage_collection():
            if way == "alone":
                end(partial(store.change, change))
            else:
                in_a_batch()
            if elsewhere.exists():
                elsewhere.rename(path)
            store.submit(thread_name).result(A_LONG_TIME)  # the writer has left the batch behind

            assert len(references) > (0 if way == "alone" else 2)
            assert [reference() for reference in references] == [None] * len(references)


class TestClosing:
    def test_it_ends_the_writer(self, path: Path) -> None:
        with SqliteStore(path) as store:
            store.submit(thread_name).result(A_LONG_TIME)
            [writer] = writers()
        writer.join(A_LONG_TIME)

        assert writers() == []

    def test_it_waits_for_the_change_that_runs(self, path: Path) -> None:
        store = SqliteStore(path)
        has_begun, may_end = Event(), Event()

        def add(work: UnitOfWork) -> User:
            has_begun.set()
            assert may_end.wait(A_LONG_TIME)
            return work.users.get_or_add(opening("jo"))

        with ThreadPoolExecutor() as pool:
            changing = pool.submit(store.change, add)
            assert has_begun.wait(A_LONG_TIME)
            closing_it = pool.submit(store.close)
            while not store._changes.closed:  # noqa: SLF001 - nothing else shows that it has begun to close
                time.sleep(0.001)
            with pytest.raises(RuntimeError, match="the store is closed"):
                store.change(thread_name)
            assert not closing_it.done()
            may_end.set()
            added = changing.result(A_LONG_TIME)
            closing_it.result(A_LONG_TIME)

        with SqliteStore(path) as again:
            assert again.users.get("jo") == added

    def test_inside_a_change_it_raises(self, store: SqliteStore) -> None:
        def close(_: UnitOfWork) -> None:
            with pytest.raises(RuntimeError, match="inside a change"):
                store.close()

        store.change(close)
        store.submit(close).result(A_LONG_TIME)
        assert add_user(store, "jo") == store.users.get("jo")

    def test_of_two_writers_that_were_started_one_ends(self, store: SqliteStore) -> None:
        for name in "jo", "al":
            assert store.submit(order_in(name, "gym")).result(A_LONG_TIME)
            store._changes._write()  # noqa: SLF001 - what the second one does

    def test_a_change_whose_writer_has_not_begun_is_run(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The writer was started, and the system has not let it run yet."""
        monkeypatch.setattr(Thread, "start", lambda _: None)
        added = store.submit(lambda work: work.users.get_or_add(opening("jo")))
        store.close()

        assert added.result(0).user_id == "jo"

    def test_threads_that_close_it_at_the_same_moment_all_return(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        meet = Barrier(2).wait
        meetings = iter([meet, meet])

        def require_outside() -> None:
            for meeting in islice(meetings, 1):
                meeting(A_LONG_TIME)

        lock = store._changes._lock  # noqa: SLF001 - both look at it before one of them closes the store
        monkeypatch.setattr(lock, "require_outside", require_outside)
        threads = [Thread(target=store.close, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(A_LONG_TIME)

        assert not any(thread.is_alive() for thread in threads)

    def test_a_change_that_is_queued_after_the_writer_has_ended_raises(self, store: SqliteStore) -> None:
        """The store is closed between the moment when a change is found to be allowed, and when it is queued."""

        class ClosedAfterTheFirstLook:
            looks = 0

            def __bool__(self) -> bool:
                self.looks += 1
                return self.looks > 1

        store.close()
        store._changes.closed = ClosedAfterTheFirstLook()  # type: ignore[assignment]  # noqa: SLF001

        with pytest.raises(RuntimeError, match="the store is closed"):
            store._changes.submit(thread_name)  # noqa: SLF001
