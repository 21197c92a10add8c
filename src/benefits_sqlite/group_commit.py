"""Group commit: changes that wait together share one transaction, and so one flush to the disk.

A caller runs its own change if no other change of this process runs or waits. Otherwise the writer thread runs it,
together with all that wait by then, each in a savepoint. None of them is reported before the commit that keeps them: not a
change that succeeded, and not one that was refused because of another's result.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Final, TypeVar

import attrs

from benefits_core.changes import ChangeLock, LockTimeoutError, finally_do
from benefits_core.errors import StorageUnavailableError
from benefits_core.ports import UnitOfWork
from benefits_sqlite.transaction import Transaction

_Result = TypeVar("_Result")

# More changes in a transaction would make the first ones wait for long.
MAX_BATCH: Final = 64


@attrs.frozen(eq=False)
class _Call:
    do: Callable[[UnitOfWork], Any]
    deadline: float  # until when it may begin, by time.monotonic()
    context: Context
    future: Future[Any]


class GroupCommit:
    """Runs the changes of this process.

    :param transaction: what they are run in.
    :param patience: how long a change waits to begin, in seconds.
    """

    def __init__(self, transaction: Transaction, patience: float) -> None:
        self._transaction = transaction
        self._patience = patience
        self._lock = ChangeLock()
        self._mutex = Lock()
        # The writer removes a call after its batch: as long as this is not empty, a change has to wait behind it.
        self._calls: deque[_Call] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()  # False ends the writer
        self._writer: Thread | None = None
        self._closed = False

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """See :class:`~benefits_core.ports.Store`."""
        if not self._calls:
            deadline = time.monotonic() + self._patience
            try:
                return self._lock.run(partial(self._run_alone, do, deadline), timeout=0)
            except LockTimeoutError:
                pass
        future = self.submit(do)
        try:
            wait(
                [future], self._patience
            )  # not future.result(timeout): `do` may raise a TimeoutError of its own
            if future.cancel():
                raise StorageUnavailableError(self._too_long())
            return future.result()
        finally:
            del future  # its error refers to this frame

    def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`."""
        self._lock.require_outside()
        future: Future[_Result] = Future()
        call = _Call(do, time.monotonic() + self._patience, copy_context(), future)
        with self._mutex:
            if self._closed:
                raise RuntimeError("the store is closed")
            if self._writer is None:
                writer = Thread(target=self._write, name="benefits-writer", daemon=True)
                writer.start()
                self._writer = writer
            self._calls.append(call)
        if len(self._calls) == 1:  # else the writer has a batch to end, and looks at the calls again after it
            self._wake.put(True)  # noqa: FBT003 - a queue's item
        return future

    def _run_alone(self, do: Callable[[UnitOfWork], _Result], deadline: float) -> _Result:
        return finally_do(self._transaction.reset, partial(self._commit_alone, do, deadline))

    def _commit_alone(self, do: Callable[[UnitOfWork], _Result], deadline: float) -> _Result:
        self._transaction.begin(deadline)
        try:
            result = self._transaction.run(do)
        except Exception:
            self._transaction.verify()  # what a file that has been replaced says is no reason to refuse anything
            raise
        self._transaction.commit()
        return result

    def _write(self) -> None:
        while True:
            go_on = self._wake.get()
            while self._calls:
                self._run_batch()
            if not go_on:
                return

    def _run_batch(self) -> None:
        outcomes: list[_Outcome] = []
        _, error = _outcome(partial(self._commit_batch, outcomes))
        if error is not None:
            # Nothing was kept. A batch that could not even begin fails its first call alone: the others have time left.
            reason = self._too_long() if isinstance(error, LockTimeoutError) else str(error)
            outcomes[:] = [(None, StorageUnavailableError(reason)) for _ in range(len(outcomes) or 1)]
            del error
        _report([self._calls.popleft() for _ in outcomes], outcomes)
        outcomes.clear()

    def _commit_batch(self, outcomes: list[_Outcome]) -> None:
        timeout = max(0.0, self._calls[0].deadline - time.monotonic())
        run = partial(self._run_together, outcomes)
        self._lock.run(lambda: finally_do(self._transaction.reset, run), timeout=timeout)

    def _run_together(self, outcomes: list[_Outcome]) -> None:
        self._transaction.begin(self._calls[0].deadline)
        while len(outcomes) < min(len(self._calls), MAX_BATCH):
            change = self._begin_call(len(outcomes))
            outcomes.append((None, None) if change is None else _outcome(change))
        self._transaction.commit()

    def _begin_call(self, position: int) -> Callable[[], object] | None:
        call = self._calls[position]
        if call.future.set_running_or_notify_cancel():
            return partial(call.context.run, self._transaction.run, call.do)
        return None

    def _too_long(self) -> str:
        return f"other changes have been running for {self._patience} s"

    def close(self) -> None:
        """Run what waits, and refuse what comes later. Calling it again does nothing."""
        with self._mutex:
            self._closed = True
        if self._writer is not None:
            self._wake.put(False)  # noqa: FBT003 - a queue's item
            self._writer.join()


# An error refers to every frame that it has passed through, and to the callers of those. So on the way to a change no frame
# holds a future, and none keeps an outcome: the future would refer to itself, and only the garbage collector could free it.
_Outcome = tuple[Any, BaseException | None]


def _outcome(function: Callable[[], object]) -> _Outcome:
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
        return None, error


def _report(calls: list[_Call], outcomes: list[_Outcome]) -> None:
    for call, (result, error) in zip(calls, outcomes, strict=True):
        future = call.future
        if future.cancelled() or not (future.running() or future.set_running_or_notify_cancel()):
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
