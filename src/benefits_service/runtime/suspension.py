"""Synchronous code on an event loop: while it waits for something, the loop goes on with others.

A Flask view calls a use case and returns what became of it; it has no way to say ``await`` in the middle. So each request is
answered on a stack of its own, a greenlet, which is left when there is something to wait for and entered again afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Generic, ParamSpec, TypeVar, cast

from greenlet import getcurrent, greenlet

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# As many as are in use at once on a busy morning; stalled clients may have more.
_SPARE: Final = 64


class _Call(Generic[_Result]):
    """A call, and how it has ended."""

    __slots__ = ("_error", "_function", "_result")

    def __init__(self, function: Callable[[], _Result]) -> None:
        self._function = function
        self._error: BaseException | None = None

    def make(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self._error = error

    def outcome(self) -> _Result:
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback leads here, so it would hold itself
        return self._result


class Suspendable(Generic[_Parameters, _Result]):
    """A function that may call :func:`suspend_until`, as a coroutine function for one event loop and its thread."""

    def __init__(self, function: Callable[_Parameters, _Result]) -> None:
        self._function = function
        # Stacks are used again: to make one maps memory, and made a read of a user by a quarter slower.
        self._idle: list[greenlet] = []

    async def __call__(self, *arguments: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        """Call the function."""
        call = _Call(partial(self._function, *arguments, **options))
        stack = self._idle.pop() if self._idle else _new_stack()
        awaitable = stack.switch(call)
        while awaitable is not None:
            try:
                found = await awaitable
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where it was waited for
                awaitable = stack.throw(error)
            else:
                awaitable = stack.switch(found)
        if len(self._idle) < _SPARE:
            self._idle.append(stack)
        return call.outcome()


def _new_stack() -> greenlet:
    stack = greenlet(_make_calls)
    stack.switch()  # without a call: it would keep the one that it was begun with
    return stack


def _make_calls() -> None:
    while True:
        call = _caller().switch(None)
        call.make()
        del call  # who is idle keeps nothing


def suspend_until(awaitable: Awaitable[_Result]) -> _Result:
    """Wait for something, in a function that a :class:`Suspendable` calls, and return what came of it."""
    return cast("_Result", _caller().switch(awaitable))


def _caller() -> greenlet:
    caller = getcurrent().parent
    if caller is None:
        raise RuntimeError("nobody has called this by a Suspendable, so nothing could go on meanwhile")
    return caller
