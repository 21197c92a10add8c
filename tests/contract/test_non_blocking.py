"""What every store promises that an event loop can use: ``submit`` and ``submit_read`` of ``benefits_core.ports``."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from concurrent.futures import ALL_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import ContextVar
from decimal import Decimal
from pathlib import Path
from threading import Event

import pytest

from benefits_core import (
    InconsistentChangeError,
    NonBlockingStore,
    ProductsAlreadyPurchasedError,
    StorageUnavailableError,
    UnitOfWork,
    User,
)
from contract.builders import CATALOGUE, NETFLIX, add_user, buy, drawn_up, opening, order, stocked
from contract.stores import NON_BLOCKING, NonBlockingKind
from waiting import A_LONG_TIME


class DeliberateError(Exception):
    """Something that goes wrong in a change."""


@pytest.fixture(params=NON_BLOCKING, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> NonBlockingKind:
    """Return each kind of store in turn."""
    found: NonBlockingKind = request.param
    return found


@pytest.fixture
def store(kind: NonBlockingKind, tmp_path: Path) -> Iterator[NonBlockingStore]:
    """Return an empty store of each kind."""
    with kind.open(tmp_path) as opened:
        yield opened


class Held:
    """A change that runs until it is released, so that those submitted later must wait."""

    def __init__(self, store: NonBlockingStore) -> None:
        self._has_begun, self._may_end = Event(), Event()
        self.future = store.submit(self._wait)
        assert self._has_begun.wait(A_LONG_TIME)

    def _wait(self, _: UnitOfWork) -> None:
        self._has_begun.set()
        assert self._may_end.wait(A_LONG_TIME)

    def release(self) -> None:
        self._may_end.set()
        self.future.result(A_LONG_TIME)


@pytest.fixture
def held(store: NonBlockingStore) -> Iterator[Held]:
    """Return a change that runs in the store."""
    change = Held(store)
    yield change
    change.release()


def test_a_submitted_change_is_kept_when_its_future_has_ended(store: NonBlockingStore) -> None:
    stocked(store)
    placed = store.submit(lambda work: buy(work, "jo", NETFLIX)).result(A_LONG_TIME)

    assert store.orders.of_user("jo") == (placed,)


def test_it_is_recognised_as_non_blocking(store: NonBlockingStore) -> None:
    assert isinstance(store, NonBlockingStore)
    assert isinstance(store.reads_inline, bool)


class TestSubmit:
    def test_it_returns_while_another_change_runs(self, store: NonBlockingStore, held: Held) -> None:
        future = store.submit(lambda work: work.users.get_or_add(opening("jo")))
        assert not future.done()
        assert store.users.get("jo") is None
        held.release()

        assert future.result(A_LONG_TIME) == store.users.get("jo") == User("jo", Decimal(500))

    def test_an_error_is_passed_on_with_its_traceback_and_nothing_is_kept(
        self, store: NonBlockingStore
    ) -> None:
        error = DeliberateError()

        def fail(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo"))
            raise error

        future = store.submit(fail)

        assert future.exception(A_LONG_TIME) is error
        assert "fail" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert store.users.get("jo") is None

    @pytest.mark.parametrize("error", [TimeoutError("of its own"), KeyboardInterrupt(), SystemExit(3)])
    def test_an_error_of_any_type_is_passed_on_and_the_store_goes_on(
        self, store: NonBlockingStore, error: BaseException
    ) -> None:
        def fail(_: UnitOfWork) -> None:
            raise error

        assert store.submit(fail).exception(A_LONG_TIME) is error
        assert store.submit(lambda _: "next").result(A_LONG_TIME) == "next"

    def test_a_lost_change_ends_with_the_error_although_it_was_caught(self, store: NonBlockingStore) -> None:
        def lose(work: UnitOfWork) -> None:
            work.users.get_or_add(opening("jo"))
            with pytest.raises(InconsistentChangeError):
                work.orders.add(drawn_up("x", "jo", NETFLIX), User("jo", Decimal(500)))

        future = store.submit(lose)

        assert isinstance(future.exception(A_LONG_TIME), InconsistentChangeError)
        assert store.users.get("jo") is None

    def test_changes_of_one_thread_run_in_the_order_in_which_they_were_submitted(
        self, store: NonBlockingStore, held: Held
    ) -> None:
        begun: list[int] = []
        futures = [store.submit(lambda _, number=number: begun.append(number)) for number in range(100)]  # type: ignore[misc]
        held.release()
        for future in futures:
            future.result(A_LONG_TIME)

        assert begun == list(range(100))

    def test_each_change_sees_those_before_it_and_a_refused_one_undoes_itself_alone(
        self, store: NonBlockingStore
    ) -> None:
        stocked(store)
        held = Held(store)
        first, again, other = (
            store.submit(lambda work, bought=bought: buy(work, *bought))  # type: ignore[misc]
            for bought in [("jo", NETFLIX), ("jo", NETFLIX), ("al", NETFLIX)]
        )
        held.release()

        assert isinstance(again.exception(A_LONG_TIME), ProductsAlreadyPurchasedError)
        placed, placed_too = first.result(A_LONG_TIME), other.result(A_LONG_TIME)
        assert store.orders.of_user("jo") == (placed,)
        assert store.orders.of_user("al") == (placed_too,)

    def test_it_runs_in_the_context_of_the_thread_that_submitted_it(
        self, store: NonBlockingStore, held: Held
    ) -> None:
        language = ContextVar("language", default="none")
        language.set("Welsh")
        future = store.submit(lambda _: language.get())
        language.set("Breton")
        held.release()

        assert future.result(A_LONG_TIME) == "Welsh"

    def test_inside_a_change_it_raises_at_once(self, store: NonBlockingStore) -> None:
        def nest(work: UnitOfWork) -> User:
            with pytest.raises(RuntimeError, match="inside a change"):
                store.submit(lambda _: pytest.fail("it ran"))
            return work.users.get_or_add(opening("jo"))

        assert store.change(nest) == store.users.get("jo")
        assert store.submit(nest).result(A_LONG_TIME) == store.users.get("jo")

    def test_a_change_inside_a_submitted_change_raises_at_once(
        self, store: NonBlockingStore, held: Held
    ) -> None:
        def nest(work: UnitOfWork) -> User:
            with pytest.raises(RuntimeError, match="inside a change"):
                store.change(lambda _: pytest.fail("it ran"))
            return work.users.get_or_add(opening("jo"))

        future = store.submit(nest)
        held.release()

        assert future.result(A_LONG_TIME) == store.users.get("jo")

    def test_a_change_that_can_not_begin_in_time_is_never_run(
        self, kind: NonBlockingKind, tmp_path: Path
    ) -> None:
        runs: list[str] = []
        with kind.open(tmp_path, patience=1) as store:
            held = Held(store)
            futures = [store.submit(lambda _: runs.append("run")) for _ in range(3)]
            # What waits behind a change that takes too long ends in time, or at the latest when that change has ended.
            with pytest.raises(StorageUnavailableError):
                store.change(lambda _: runs.append("run"))
            held.release()
            for future in futures:
                with pytest.raises(StorageUnavailableError, match="for 1 s"):
                    future.result(A_LONG_TIME)

        assert runs == []


class TestCancelling:
    def test_a_change_that_is_cancelled_before_it_begins_is_never_run(
        self, store: NonBlockingStore, held: Held
    ) -> None:
        runs: list[str] = []
        cancelled, other = (
            store.submit(lambda _: runs.append("cancelled")),
            store.submit(lambda _: runs.append("other")),
        )
        assert cancelled.cancel()
        held.release()
        other.result(A_LONG_TIME)

        assert runs == ["other"]
        with pytest.raises(CancelledError):
            cancelled.result(A_LONG_TIME)

    def test_threads_that_wait_for_a_cancelled_change_are_released(
        self, store: NonBlockingStore, held: Held
    ) -> None:
        cancelled = store.submit(lambda _: None)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(wait, [cancelled], A_LONG_TIME, ALL_COMPLETED)
            assert cancelled.cancel()
            held.release()
            done, _ = waiting.result(A_LONG_TIME)

        assert done == {cancelled}

    def test_a_change_that_has_begun_can_not_be_cancelled(self, store: NonBlockingStore) -> None:
        has_begun, may_end = Event(), Event()

        def add(work: UnitOfWork) -> User:
            has_begun.set()
            assert may_end.wait(A_LONG_TIME)
            return work.users.get_or_add(opening("jo"))

        future = store.submit(add)
        assert has_begun.wait(A_LONG_TIME)
        assert not future.cancel()
        may_end.set()

        assert future.result(A_LONG_TIME) == store.users.get("jo")


class TestSubmitRead:
    def test_it_returns_what_the_query_returns(self, store: NonBlockingStore) -> None:
        placed = order(stocked(store), "jo", "netflix")

        future = store.submit_read(
            lambda view: (view.users.get("jo"), view.products.list_all(), view.orders.get("1"))
        )

        assert future.result(A_LONG_TIME) == (store.users.get("jo"), CATALOGUE, placed)

    def test_it_does_not_wait_for_a_change(self, store: NonBlockingStore, held: Held) -> None:
        assert store.submit_read(lambda view: view.users.get("jo")).result(A_LONG_TIME) is None
        assert not held.future.done()

    def test_an_error_of_the_query_is_passed_on(self, store: NonBlockingStore) -> None:
        error = DeliberateError()

        def fail(_: object) -> None:
            raise error

        assert store.submit_read(fail).exception(A_LONG_TIME) is error


class TestClosing:
    def test_changes_that_wait_are_run_first(self, kind: NonBlockingKind, tmp_path: Path) -> None:
        runs: list[int] = []
        with ExitStack() as opened, ThreadPoolExecutor() as pool:
            store = opened.enter_context(kind.open(tmp_path))
            held = Held(store)
            futures = [store.submit(lambda _, number=number: runs.append(number)) for number in range(100)]  # type: ignore[misc]
            closing = pool.submit(opened.close)
            with pytest.raises(RuntimeError):
                while True:
                    futures.append(store.submit(lambda _: None))
            held.release()
            closing.result(A_LONG_TIME)

        assert all(future.done() for future in futures)
        assert runs == list(range(100))

    def test_submitting_later_raises(self, kind: NonBlockingKind, tmp_path: Path) -> None:
        with kind.open(tmp_path) as store:
            add_user(store, "jo")

        with pytest.raises(RuntimeError):
            store.submit(lambda _: None)

    def test_a_change_that_is_submitted_while_the_store_closes_ends_or_raises(
        self, kind: NonBlockingKind, tmp_path: Path
    ) -> None:
        for number in range(20):
            folder = tmp_path / str(number)
            folder.mkdir()
            with ExitStack() as opened, ThreadPoolExecutor() as pool:
                store = opened.enter_context(kind.open(folder))
                has_begun = Event()
                submitting = [pool.submit(submit_until_closed, store, has_begun) for _ in range(4)]
                assert has_begun.wait(A_LONG_TIME)
                opened.close()
                for thread in submitting:
                    thread.result(A_LONG_TIME)


def submit_until_closed(store: NonBlockingStore, has_begun: Event) -> None:
    """Submit changes, one after the other, until that raises."""
    with pytest.raises(RuntimeError):
        while True:
            assert store.submit(lambda _: "ended").result(A_LONG_TIME) == "ended"
            has_begun.set()
