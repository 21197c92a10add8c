"""Writing: the service's own process does it for all of its workers, in batches that one commit keeps.

Workers read by themselves. What changes something they hand over: the process that has started them calls the use case, and tells
them how it ended. While a commit reaches the disk more comes, from all of them, and is the next batch. If each worker wrote for itself,
they would stand in line for the file, each with a smaller batch, and each would have to read again what the others have written.
"""

from __future__ import annotations

import asyncio
import socket
import time
import traceback
from asyncio import Future, Queue
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from threading import Thread
from typing import Any, Final, Protocol
from weakref import WeakSet

import attrs

from benefits_core import InvalidUserIdError, OrderRefusedError, StorageUnavailableError, UseCases
from benefits_service.runtime.connection import Connection
from benefits_service.runtime.suspension import suspend_until

# More of them would make the first ones wait for long.
MOST_TOGETHER: Final = 64

Connect = Callable[[], socket.socket]
"""Connects a worker to the thread that writes, and returns the worker's end."""

_Outcome = tuple[Any, Exception | None]
_Request = tuple[int, float, str, tuple[object, ...]]
"""The number by which its worker knows it, since when it waits by ``time.monotonic()``, a use case's name and arguments."""


class BatchingStore(Protocol):
    """A store that can be written once for many."""

    def batch(self, *, since: float) -> AbstractContextManager[None]:
        """Open a block. Units of work that its thread opens in it are kept when it is left; nobody is told of any before.

        :param since: when the first of those for whom it is began to wait, by ``time.monotonic()``.
        """
        ...


class UnforeseenError(Exception):
    """Something went wrong where it was to be written. It says what, as the log there would have shown it."""


class Writer(Connection):
    """The thread that writes, as a worker sees it.

    :param end: the worker's end of the connection to it.
    """

    def __init__(self, end: socket.socket) -> None:
        super().__init__()
        self._end = end
        self._connecting: object = None  # the task; a loop does not hold its tasks
        self._numbers = count()
        self._unsent: list[_Request] = []
        self._outcomes: dict[int, Future[_Outcome]] = {}

    def ping(self) -> None:
        """Return if there is somebody who writes. Like all of this, it is called on the event loop.

        :raises StorageUnavailableError: there is not.
        """
        if self._connecting is None:
            loop = asyncio.get_running_loop()
            self._connecting = loop.create_task(loop.create_connection(lambda: self, sock=self._end))
        if self.is_lost:
            raise _nobody_writes()

    def do(self, use_case: str, *arguments: object) -> Any:  # noqa: ANN401 - what the use case returns
        """Return what a use case returns there, or raise what it raises, once that is kept.

        It is called by what a ``Suspendable`` calls.

        :raises StorageUnavailableError: there is nobody who writes.
        """
        self.ping()
        loop = asyncio.get_running_loop()
        if not self._unsent:
            loop.call_soon(self._send_all)  # of this turn of the loop
        number, outcome = next(self._numbers), loop.create_future()
        self._unsent.append((number, time.monotonic(), use_case, arguments))
        self._outcomes[number] = outcome
        result, error = suspend_until(outcome)
        if error is not None:
            raise error
        return result

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what has waited for it."""
        super().connection_made(transport)
        self._send_all()

    def _send_all(self) -> None:
        if self._transport is not None:
            unsent, self._unsent = self._unsent, []
            self.send(unsent)

    def receive(self, message: list[tuple[int, _Outcome]]) -> None:
        """Tell those who wait what became of it."""
        for number, outcome in message:
            waiting = self._outcomes.pop(number)
            if not waiting.done():  # its client may have gone
                waiting.set_result(outcome)

    def connection_lost(self, _: Exception | None) -> None:
        """Tell all who wait."""
        self.receive([(number, (None, _nobody_writes())) for number in self._outcomes])


def _nobody_writes() -> StorageUnavailableError:
    return StorageUnavailableError("the process that writes has ended")


@contextmanager
def writing(use_cases: UseCases, store: BatchingStore) -> Iterator[Connect]:
    """Write for workers, in a thread that ends with the block.

    :param use_cases: what workers may ask for, over the store.
    """
    loop = asyncio.new_event_loop()
    batches = _Batches(use_cases, store)
    workers: WeakSet[_Worker] = WeakSet()

    async def work() -> None:
        try:
            await batches.work()
        finally:
            for worker in workers:
                worker.end()

    # Here, so that it can be cancelled before the thread has come that far.
    working = loop.create_task(work())

    def run() -> None:
        with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(asyncio.wait_for(working, None))

    def worker() -> _Worker:
        workers.add(new := _Worker(batches.waiting))
        return new

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair()
        # Nobody waits for it: the thread may be in a batch that waits for the file. What the worker sends waits in its socket.
        asyncio.run_coroutine_threadsafe(loop.create_connection(worker, sock=ours), loop)
        return theirs

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield connect
    finally:
        with suppress(RuntimeError):  # it has failed, and closed its loop
            loop.call_soon_threadsafe(working.cancel)
        thread.join()


class _Worker(Connection):
    """A worker, as the thread that writes sees it.

    :param waiting: where to put what it asks for.
    """

    def __init__(self, waiting: Queue[_Call]) -> None:
        super().__init__()
        self._waiting = waiting

    def receive(self, message: list[_Request]) -> None:
        for request in message:
            self._waiting.put_nowait(_Call(self, *request))


@attrs.frozen
class _Call:
    worker: _Worker
    number: int
    since: float
    use_case: str
    arguments: tuple[object, ...]


class _Batches:
    """What waits to be written, and how it is done.

    :ivar waiting: the calls, in the order in which they came.
    """

    def __init__(self, use_cases: UseCases, store: BatchingStore) -> None:
        self._use_cases = use_cases
        self._store = store
        self.waiting: Queue[_Call] = Queue()

    async def work(self) -> None:
        """Do all that comes, for ever."""
        while True:
            calls = [await self.waiting.get()]
            outcomes = self._outcomes(calls)
            told = defaultdict[_Worker, list[tuple[int, _Outcome]]](list)
            for call, outcome in zip(calls, outcomes, strict=True):
                told[call.worker].append((call.number, outcome))
            for worker, message in told.items():
                worker.send(message)

    def _outcomes(self, calls: list[_Call]) -> list[_Outcome]:
        """Do what was called, and what waits behind it, which is added to the list."""
        outcomes: list[_Outcome] = []
        try:
            with self._store.batch(since=calls[0].since):
                for call in calls:
                    outcomes.append(self._outcome(call))
                    # Where the first one has waited for too long, the others have not.
                    in_vain = isinstance(outcomes[-1][1], StorageUnavailableError)
                    if len(calls) < MOST_TOGETHER and not in_vain and not self.waiting.empty():
                        calls.append(self.waiting.get_nowait())
        except Exception as error:  # noqa: BLE001 - whatever it is, this thread has to go on
            # None of it was kept, so none of it may be told; and each is told by an error of its own.
            return [(None, _portable(error)) for _ in calls]
        return outcomes

    def _outcome(self, call: _Call) -> _Outcome:
        try:
            return getattr(self._use_cases, call.use_case)(*call.arguments), None
        except Exception as error:  # noqa: BLE001 - it is for who has called, and not for the others of the batch
            return None, _portable(error)


def _portable(error: Exception) -> Exception:
    """Return an error as it can be told in another process: if it was foreseen, itself."""
    if isinstance(error, StorageUnavailableError):
        return StorageUnavailableError(str(error))
    if isinstance(error, (InvalidUserIdError, OrderRefusedError)):
        return error
    return UnforeseenError("".join(traceback.format_exception(error)))
