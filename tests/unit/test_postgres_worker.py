"""The thread that handles the calls of all others."""

from __future__ import annotations

import time
from concurrent.futures import Future
from threading import Barrier, Event, Thread
from typing import Any

import pytest

from benefits_core import StorageUnavailableError
from benefits_core.calls import Call
from benefits_postgres.worker import MAX_BATCH, Worker
from waiting import A_LONG_TIME, wait_for


def held(_: object) -> None:
    """Be a call that is given back as long as something holds it."""


def free(_: object) -> None:
    """Be a call that is handled at once."""


def test_calls_that_are_given_back_leave_room_for_a_whole_batch_of_others() -> None:
    released, others_queued, waits = Event(), Event(), Event()
    together: list[int] = []

    def handle(calls: list[Call]) -> list[Call]:
        again = [call for call in calls if call.do is held and not released.is_set()]
        if len(again) == MAX_BATCH and not waits.is_set():
            waits.set()
            assert others_queued.wait(A_LONG_TIME)
        together.append(sum(call.do is free for call in calls))
        for call in calls:
            if call not in again:
                call.end(None)
        return again

    def put(do: Any, number: int) -> list[Future[None]]:
        futures: list[Future[None]] = [Future() for _ in range(number)]
        for future in futures:
            worker.put(do, future)
        return futures

    worker = Worker("benefits-test", A_LONG_TIME, handle)
    waiting = put(held, MAX_BATCH)
    assert waits.wait(A_LONG_TIME)
    others = put(free, MAX_BATCH)
    others_queued.set()
    wait_for(lambda: all(future.done() for future in others))
    released.set()
    worker.close()

    assert max(together) == MAX_BATCH
    assert all(future.done() for future in waiting)


def test_a_bug_of_the_handler_is_the_outcome_of_its_calls_and_the_next_ones_are_handled() -> None:
    def handle(calls: list[Call]) -> list[Call]:
        for call in calls:
            if call.do is held:
                calls.clear()
                raise KeyError("what was forgotten")
            call.end(None)
        return []

    worker = Worker("benefits-test", A_LONG_TIME, handle)
    first: Future[None] = Future()
    worker.put(held, first)
    with pytest.raises(StorageUnavailableError, match="^KeyError: 'what was forgotten'$"):
        first.result(A_LONG_TIME)
    second: Future[None] = Future()
    worker.put(free, second)

    assert second.result(A_LONG_TIME) is None
    worker.close()


def test_a_call_that_is_given_back_until_its_patience_ends_says_why_it_was() -> None:
    def handle(calls: list[Call]) -> list[Call]:
        for call in calls:
            call.outcome = (None, StorageUnavailableError("the database is away"))
            call.deadline = 0.0
        return calls

    worker = Worker("benefits-test", A_LONG_TIME, handle)
    future: Future[None] = Future()
    worker.put(held, future)

    with pytest.raises(StorageUnavailableError, match="^the database is away$"):
        future.result(A_LONG_TIME)
    worker.close()


def test_a_call_that_is_put_while_the_worker_is_closed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may have ended between the check and the queue: nobody would ever handle the call."""
    worker = Worker("benefits-test", A_LONG_TIME, lambda _: [])
    monotonic = time.monotonic

    def close_first() -> float:
        monkeypatch.undo()
        worker.close()
        return monotonic()

    monkeypatch.setattr(time, "monotonic", close_first)
    future: Future[None] = Future()
    with pytest.raises(RuntimeError, match="closed"):
        worker.put(held, future)

    assert future.cancelled()


def end_all(calls: list[Call]) -> list[Call]:
    """Handle calls, whatever they are."""
    while calls:
        calls.pop().end(None)
    return []


def test_of_two_threads_that_were_started_for_it_one_ends() -> None:
    worker = Worker("benefits-test", A_LONG_TIME, end_all)
    for _ in range(2):
        future: Future[None] = Future()
        worker.put(free, future)
        future.result(A_LONG_TIME)
        worker._work()  # noqa: SLF001 - what the second one does

    assert worker.close()


def test_closing_handles_a_call_whose_thread_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thread, "start", lambda _: None)  # the system has not let it run yet
    worker = Worker("benefits-test", A_LONG_TIME, end_all)
    future: Future[None] = Future()
    worker.put(free, future)

    assert worker.close()
    assert future.done()


def test_closing_tries_calls_that_are_given_back_no_more_often_than_before() -> None:
    rounds = 0
    may_end = Event()

    def handle(calls: list[Call]) -> list[Call]:
        nonlocal rounds
        rounds += 1
        return end_all(calls) if may_end.is_set() else calls

    worker = Worker("benefits-test", A_LONG_TIME, handle)
    worker.put(held, Future())
    closing = Thread(target=worker.close)
    closing.start()
    wait_for(lambda: worker.closed)
    began, before = time.monotonic(), rounds
    time.sleep(0.3)
    after, took = rounds, time.monotonic() - began
    may_end.set()
    closing.join(A_LONG_TIME)

    assert after - before <= took / 0.003 + 2  # a pause of 3 ms each


def test_of_threads_that_close_it_at_the_same_moment_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker("benefits-test", A_LONG_TIME, lambda _: [])
    both_have_begun = Barrier(2)
    monkeypatch.setattr(worker, "require_outside", lambda: both_have_begun.wait(A_LONG_TIME))
    results: list[bool] = []
    threads = [Thread(target=lambda: results.append(worker.close()), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(A_LONG_TIME)

    assert sorted(results) == [False, True]
