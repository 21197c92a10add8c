"""The thread that handles the calls of all others."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Event
from typing import Any

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
