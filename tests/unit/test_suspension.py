"""Synchronous code that waits on an event loop."""

from __future__ import annotations

import asyncio
import weakref
from contextvars import ContextVar
from typing import Any

import pytest
from greenlet import getcurrent

from benefits_service.runtime.suspension import Suspendable, suspend_until
from garbage import no_garbage_collection


def test_the_result_of_the_function_is_returned() -> None:
    assert asyncio.run(Suspendable(divmod)(7, 2)) == (3, 1)


def test_other_calls_go_on_while_one_waits() -> None:
    said: list[str] = []

    def speak(name: str) -> None:
        said.append(name)
        suspend_until(asyncio.sleep(0))
        said.append(name)

    async def both() -> None:
        suspendable = Suspendable(speak)
        await asyncio.gather(suspendable("a"), suspendable("b"))

    asyncio.run(both())
    assert said == ["a", "b", "a", "b"]


def test_waiting_returns_the_result_of_the_awaitable() -> None:
    async def answer() -> int:
        return 42

    assert asyncio.run(Suspendable(lambda: suspend_until(answer()))()) == 42


def test_an_error_of_the_awaitable_is_raised_where_it_is_waited_for() -> None:
    async def fail() -> None:
        raise LookupError("gone")

    def look() -> str:
        try:
            suspend_until(fail())
        except LookupError as error:
            return f"caught: {error}"
        return "nothing"

    assert asyncio.run(Suspendable(look)()) == "caught: gone"


def test_an_error_of_the_function_is_raised_and_its_greenlet_reused() -> None:
    async def twice() -> None:
        suspendable = Suspendable(int)
        with pytest.raises(ValueError, match="no number"):
            await suspendable("no number")
        assert await suspendable("7") == 7

    asyncio.run(twice())


def test_cancellation_is_raised_where_the_function_waits() -> None:
    left: list[str] = []

    def work() -> None:
        try:
            suspend_until(asyncio.sleep(60))
        finally:
            left.append("orderly")

    async def cancel() -> None:
        task = asyncio.create_task(Suspendable(work)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert left == ["orderly"]


def test_each_call_has_its_own_context_variables() -> None:
    name: ContextVar[str] = ContextVar("name")

    def remember(mine: str) -> str:
        name.set(mine)
        suspend_until(asyncio.sleep(0))
        return name.get()

    async def both() -> tuple[str, str]:
        suspendable = Suspendable(remember)
        return await asyncio.gather(suspendable("a"), suspendable("b"))

    assert tuple(asyncio.run(both())) == ("a", "b")


def test_greenlets_are_reused_and_only_some_are_kept() -> None:
    def which(*, wait: bool) -> object:
        if wait:
            suspend_until(asyncio.sleep(0))
        return getcurrent()

    async def storm() -> None:
        suspendable = Suspendable(which)
        at_once = await asyncio.gather(*(suspendable(wait=True) for _ in range(100)))
        assert len(set(at_once)) == 100
        assert await suspendable(wait=False) is await suspendable(wait=False)
        again = await asyncio.gather(*(suspendable(wait=True) for _ in range(100)))
        assert len(set(again) & set(at_once)) == 64

    asyncio.run(storm())


def test_an_idle_greenlet_keeps_nothing_alive() -> None:
    class Large:
        pass

    def answer(given: Large, *, fail: bool) -> Large:
        if fail:
            raise LookupError(given)
        return given

    async def call() -> list[Any]:
        suspendable = Suspendable(answer)
        given, failing = Large(), Large()
        await suspendable(given, fail=False)
        with pytest.raises(LookupError):
            await suspendable(failing, fail=True)
        kept = [weakref.ref(given), weakref.ref(failing)]
        del given, failing
        return [each() for each in kept]

    with no_garbage_collection():
        assert asyncio.run(call()) == [None, None]


def test_code_outside_of_a_suspendable_can_not_be_suspended() -> None:
    async def answer() -> None: ...

    waiting = answer()
    with pytest.raises(RuntimeError, match="Suspendable"):
        suspend_until(waiting)
    waiting.close()
