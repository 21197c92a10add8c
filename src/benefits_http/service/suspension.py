"""Synchronous code on an event loop: while it waits for something, the loop goes on with others.

A Flask view calls a use case and returns what became of it; it has no way to say ``await`` in the middle. So each request is
answered on a stack of its own, a greenlet, which is left when there is something to wait for and entered again afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

import attrs
from greenlet import getcurrent, greenlet

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# As many as are in use at once on a busy morning; stalled clients may have more.
_SPARE: Final = 64


@attrs.frozen
class _Ended:
    """How a call has ended."""

    result: Any
    error: BaseException | None


class Suspendable(Generic[_Parameters, _Result]):
    """A function that may call :func:`wait_for`, as a coroutine function for one event loop."""

    def __init__(self, function: Callable[_Parameters, _Result]) -> None:
        self._function = function
        # Stacks are used again: to make one maps memory, and made a read of a user by a quarter slower.
        self._idle: list[greenlet] = []

    async def __call__(self, *arguments: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        """Call the function."""
        stack = self._idle.pop() if self._idle else greenlet(self._work)
        said = stack.switch(arguments, options)
        while not isinstance(said, _Ended):
            try:
                found = await said
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where it was waited for
                said = stack.throw(error)
            else:
                said = stack.switch(found)
        if len(self._idle) < _SPARE:
            self._idle.append(stack)
        if said.error is not None:
            raise said.error
        return cast("_Result", said.result)

    def _work(self, arguments: Any, options: Any) -> None:  # noqa: ANN401 - a type checker can't follow them here
        while True:
            arguments, options = _caller().switch(self._ended(arguments, options))

    def _ended(self, arguments: Any, options: Any) -> _Ended:  # noqa: ANN401 - nor here
        try:
            return _Ended(self._function(*arguments, **options), None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            return _Ended(None, error)


def wait_for(awaitable: Awaitable[_Result]) -> _Result:
    """Wait for something, in a function that a :class:`Suspendable` calls, and return what came of it."""
    return cast("_Result", _caller().switch(awaitable))


def _caller() -> greenlet:
    caller = getcurrent().parent
    if caller is None:
        raise RuntimeError("nobody has called this by a Suspendable, so nothing could go on meanwhile")
    return caller
