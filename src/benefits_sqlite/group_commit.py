"""Group commit: changes that wait together share one transaction, and so one flush to the disk.

A caller runs its own change if no other change of this process runs or waits. Otherwise the writer thread runs it,
together with all that wait by then, each in a savepoint. None of them is reported before the commit that keeps them: not a
change that succeeded, and not one that was refused because of another's result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final, TypeVar

from benefits_core.calls import Call, Place, outcome_of
from benefits_core.changes import ChangeLock, LockTimeoutError, finally_do
from benefits_core.errors import StorageUnavailableError
from benefits_core.ports import UnitOfWork
from benefits_sqlite.transaction import Transaction

_Result = TypeVar("_Result")

# More changes in a transaction would make the first ones wait for long.
MAX_BATCH: Final = 64


class GroupCommit:
    """Runs the changes of this process.

    :param transaction: what they are run in.
    :param patience: how long a change waits to begin, in seconds.
    """

    def __init__(self, transaction: Transaction, patience: float) -> None:
        self._transaction = transaction
        self._patience = patience
        self._lock = ChangeLock()
        self._queue: SimpleQueue[Call | None] = SimpleQueue()  # None ends the writer
        # As long as there is one, callers don't run their own changes: the batch would never get the lock.
        self._batch: list[Call] = []
        self._writing = Lock()  # held by the writer thread while it lives
        self._closing = Lock()  # once a thread closes this, it is held for ever
        self.closed = False

    def change(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """See :class:`~benefits_core.ports.Store`."""
        if not self._batch and self._queue.empty():
            deadline = time.monotonic() + self._patience
            try:
                return self._lock.run(partial(self._run_alone, do, deadline), timeout=0)
            except LockTimeoutError:
                pass
        place: Place[_Result] = Place()
        try:
            self._put(do, place)
            if not place.wait(self._patience):
                raise StorageUnavailableError(self._too_long())
            return place.result()
        finally:
            place.cancel()  # if Ctrl-C arrived before it began

    def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
        """See :class:`~benefits_core.ports.NonBlockingStore`."""
        future: Future[_Result] = Future()
        self._put(do, future)
        return future

    def _put(self, do: Callable[[UnitOfWork], _Result], place: Future[_Result] | Place[_Result]) -> None:
        self._lock.require_outside()
        self.require_open()
        if not self._writing.locked():
            Thread(target=self._write, name="benefits-writer", daemon=True).start()
        self._queue.put(Call(do, time.monotonic() + self._patience, copy_context(), place))
        if self.closed and place.cancel():  # the writer may have ended before it found this call
            self.require_open()

    def require_open(self) -> None:
        """Raise an error if the store is closed.

        :raises RuntimeError: it is.
        """
        if self.closed:
            raise RuntimeError("the store is closed")

    def _run_alone(self, do: Callable[[UnitOfWork], _Result], deadline: float) -> _Result:
        self.require_open()
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
        if not self._writing.acquire(blocking=False):
            return  # another thread is the writer
        try:
            self._run_batches()
        finally:
            self._writing.release()

    def _run_batches(self) -> None:
        while self._take_call():
            self._run_batch()

    def _take_call(self) -> bool:
        call = self._queue.get()
        if call is None:
            self._queue.put(None)  # it stays, for the end of a batch is not the end of the writer
            return False
        self._batch.append(call)
        return True

    # An error refers to every frame that it has passed through, and to the callers of those. So none of the frames from here
    # to a change holds a call: its future would refer to itself, and only the garbage collector could free it.

    def _run_batch(self) -> None:
        failure = None
        timeout = max(0.0, self._batch[0].deadline - time.monotonic())
        try:
            self._lock.run(
                partial(finally_do, self._transaction.reset, self._commit_together), timeout=timeout
            )
        except LockTimeoutError:
            failure = self._too_long()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was kept
            failure = str(error)
        self._report(failure)

    def _commit_together(self) -> None:
        # A batch that can't begin fails its first call alone, because no other has been taken: the others have time left.
        self._transaction.begin(self._batch[0].deadline)
        self._run_last()
        while len(self._batch) < MAX_BATCH and not self._queue.empty() and self._take_call():
            self._run_last()
        self._transaction.commit()

    def _run_last(self) -> None:
        change = self._begin_last()
        if change is not None:
            self._batch[-1].outcome = outcome_of(change)

    def _begin_last(self) -> Callable[[], object] | None:
        call = self._batch[-1]
        if not call.begin():
            return None
        if time.monotonic() > call.deadline:
            call.outcome = None, StorageUnavailableError(self._too_long())
            return None
        return partial(call.context.run, self._transaction.run, call.do)

    def _report(self, failure: str | None) -> None:
        batch, self._batch = self._batch, []
        for call in batch:
            call.end(failure)

    def _too_long(self) -> str:
        return f"other changes have been running for {self._patience} s"

    def close(self) -> bool:
        """Run the changes that wait, refuse later ones, and close the transaction.

        Return False at once if another thread does that, or it was done.
        """
        self._lock.require_outside()
        if not self._closing.acquire(blocking=False):
            return False
        self.closed = True
        self._queue.put(None)
        self._writing.acquire()  # for ever: the writer has ended, and no other begins
        self._run_batches()  # of changes for which a writer was started that has not begun
        self._lock.run(self._transaction.close, timeout=-1)
        return True
