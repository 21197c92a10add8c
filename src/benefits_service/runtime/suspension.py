"""Synchronous code on an event loop: while it waits, it is suspended, and the loop serves other requests.

A Flask view calls a use case and returns a response; it can't ``await`` in the middle. So each request runs in a greenlet, which
has a stack of its own: it switches to the event loop in order to wait, and is switched back to afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Generic, ParamSpec, TypeVar, cast

from greenlet import getcurrent, greenlet

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# How many idle greenlets are kept.
_SPARE: Final = 64


class _Call(Generic[_Result]):
    """A call, and its outcome."""

    __slots__ = ("_error", "_function", "_result")

    def __init__(self, function: Callable[[], _Result]) -> None:
        self._function = function
        self._error: BaseException | None = None

    def make(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - the caller gets every error
            self._error = error

    def outcome(self) -> _Result:
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame: they would form a reference cycle
        return self._result


class Suspendable(Generic[_Parameters, _Result]):
    """A function that may call :func:`suspend_until`, as a coroutine function for one event loop and its thread."""

    def __init__(self, function: Callable[_Parameters, _Result]) -> None:
        self._function = function
        # Greenlets are reused: a new one maps memory for its stack (reads of a user: one quarter slower).
        self._idle: list[greenlet] = []

    async def __call__(self, *arguments: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        """Call the function."""
        call = _Call(partial(self._function, *arguments, **options))
        stack = self._idle.pop() if self._idle else _new_stack()
        awaitable = stack.switch(call)
        while awaitable is not None:
            try:
                found = await awaitable
            except BaseException as error:  # noqa: BLE001 - every error is raised in the waiting greenlet
                awaitable = stack.throw(error)
            else:
                awaitable = stack.switch(found)
        if len(self._idle) < _SPARE:
            self._idle.append(stack)
        return call.outcome()


def _new_stack() -> greenlet:
    stack = greenlet(_make_calls)
    stack.switch()  # to its first line, without a call: a greenlet keeps the arguments that it starts with
    return stack


def _make_calls() -> None:
    while True:
        call = _caller().switch(None)
        call.make()
        del call  # an idle greenlet must keep no request alive


def suspend_until(awaitable: Awaitable[_Result]) -> _Result:
    """Suspend the calling greenlet until an awaitable ends; return its result, or raise its error.

    :raises RuntimeError: the caller does not run in a :class:`Suspendable`.
    """
    return cast("_Result", _caller().switch(awaitable))


def _caller() -> greenlet:
    caller = getcurrent().parent
    if caller is None:
        raise RuntimeError("only code that a Suspendable runs can be suspended")
    return caller
