"""A change that Ctrl-C interrupts is kept whole or not at all, and never leaves the store locked."""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event, Thread, get_ident, main_thread
from types import FrameType

import pytest

from benefits_core import Store, UnitOfWork
from contract.builders import add_user, opening
from contract.interrupting import interrupt_at
from contract.stores import StoreKind
from waiting import A_LONG_TIME


def add_two(units: list[UnitOfWork], name: str, work: UnitOfWork) -> None:
    """Add two users, and remember the unit of work."""
    units.append(work)
    work.users.get_or_add(opening(f"{name}-1"))
    work.users.get_or_add(opening(f"{name}-2"))


def read(work: UnitOfWork) -> str:
    """Be a change that writes nothing, so that it costs nothing."""
    work.users.get("jo")
    return "read"


def test_at_every_step(kind: StoreKind, tmp_path: Path) -> None:
    """At each instruction of a change that no other change stands in the way of."""
    kept = []
    with ExitStack() as opened:
        store = opened.enter_context(kind.open(tmp_path))
        stores = [store]
        if kind.lasting:
            stores.append(opened.enter_context(kind.open(tmp_path)))
        pool = opened.enter_context(ThreadPoolExecutor(1))
        for step in count():
            units: list[UnitOfWork] = []
            change = partial(store.change, partial(add_two, units, f"user-{step}"))
            interrupted = interrupt_at(step, change)

            assert store.change(read) == "read"
            for each in stores:
                assert pool.submit(each.change, read).result(A_LONG_TIME) == "read"
            first, second = (store.users.get(f"user-{step}-{number}") for number in (1, 2))
            assert (first is None) == (second is None)
            for unit in units:
                with pytest.raises(RuntimeError, match="has ended"):
                    unit.users.get_or_add(opening("nobody"))
            kept.append(first is not None)
            if not interrupted:
                break

    assert kept[-1]
    assert len(kept) > 40
    assert kept == sorted(kept)  # up to some step nothing is kept, and from there on everything


def interrupt_once_inside_the_store(thread: int) -> None:
    """Interrupt a thread once it is in the code of a store, where it can't go on."""

    def is_inside(frame: FrameType | None) -> bool:
        while frame is not None:
            if "benefits_" in frame.f_code.co_filename:
                return True
            frame = frame.f_back
        return False

    while not is_inside(sys._current_frames().get(thread)):  # noqa: SLF001 - nothing else knows where a thread is
        threading.Event().wait(0.001)
    signal.pthread_kill(thread, signal.SIGINT)


def test_while_it_waits_for_another_change(store: Store) -> None:
    """Python interrupts only the main thread, which runs this test."""
    assert get_ident() == main_thread().ident
    has_begun, may_end = Event(), Event()

    def hold(_: UnitOfWork) -> None:
        has_begun.set()
        assert may_end.wait(A_LONG_TIME)

    def add_both(work: UnitOfWork) -> None:
        add_two([], "user", work)

    with ThreadPoolExecutor() as pool:
        held = pool.submit(store.change, hold)
        assert has_begun.wait(A_LONG_TIME)
        director = Thread(target=interrupt_once_inside_the_store, args=[get_ident()])
        director.start()
        with pytest.raises(KeyboardInterrupt):
            store.change(add_both)
        director.join(A_LONG_TIME)
        may_end.set()
        held.result(A_LONG_TIME)
        assert pool.submit(store.change, read).result(A_LONG_TIME) == "read"

    first, second = store.users.get("user-1"), store.users.get("user-2")
    assert (first is None) == (second is None)
    assert add_user(store, "jo") == store.users.get("jo")
