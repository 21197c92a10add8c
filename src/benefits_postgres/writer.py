"""Writing: changes that wait together share a transaction, and so two round trips and one flush to the disk."""

from __future__ import annotations

from functools import partial
from typing import Final

import psycopg

from benefits_core.calls import Call, outcome_of
from benefits_core.errors import BenefitsError
from benefits_postgres.batch import Batch, BatchSession
from benefits_postgres.connection import ConflictError, ConnectionLostError
from benefits_postgres.transaction import OutcomeUnknownError, Transaction

# Nothing was kept, and the changes may run again.
_TRANSIENT: Final = (ConflictError, ConnectionLostError)


def _concerns_all(error: BenefitsError) -> bool:
    """Return whether no change of a batch would fare better alone: the database is at fault, or waits for another program."""
    outage = isinstance(error.__cause__, psycopg.OperationalError)
    return outage or isinstance(error, (*_TRANSIENT, OutcomeUnknownError))


class Writer:
    """Runs changes: what a :class:`~benefits_postgres.worker.Worker` does with its calls.

    :param transaction: what they are run in.
    """

    # An error refers to every frame that it has passed through, and to the callers of those. So no frame from here to a change
    # holds a call that has ended: its future would refer to itself, and only the garbage collector could free it. That is why
    # lists are emptied, and why no variable that lasts is a call.

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def __call__(self, calls: list[Call]) -> list[Call]:
        """Run changes, and empty the list. Return those to be run again, until their patience ends.

        Another change holds their user, or the connection was lost and nothing was kept. Those behind them wait too, so that
        none of them runs before an earlier one.
        """
        again: list[Call] = []
        while calls and not again:
            if not self._run_first_together(calls, again):
                self._run_first_alone(calls, again)
        again += calls
        calls.clear()
        return again

    def _run_first_together(self, calls: list[Call], again: list[Call]) -> bool:
        """Run calls in one transaction, up to one that has to run alone. Return False if that is the first one."""
        batch = Batch()
        sessions = self._first_runs(calls, batch)
        if not sessions:
            return False
        ended: list[Call] = []
        try:
            self._transaction.begin_batch(batch, sessions)
        except BenefitsError as error:
            self._transaction.roll_back()
            ended, calls[: len(sessions)] = calls[: len(sessions)], []
            self._fail(ended, again, error)
            return True
        fit = self._second_runs(calls, batch, sessions, ended, again)
        try:
            self._transaction.commit_batch(batch)
        except BenefitsError as error:
            self._transaction.roll_back()
            if len(ended) > 1 and not _concerns_all(error):
                # It is the fault of one of them.
                later: list[Call] = []
                while ended:
                    later += [ended.pop(0)] if later else self([ended.pop(0)])
                again += later
            else:
                self._fail(ended, again, error)
        while ended:
            ended.pop(0).end(None)
        return fit

    def _first_runs(self, calls: list[Call], batch: Batch) -> list[BatchSession]:
        sessions: list[BatchSession] = []
        for index in range(len(calls)):
            sessions.append(BatchSession(batch))
            self._run(calls, index, sessions[-1])
            if sessions[-1].alone:
                sessions.pop()
                break
        return sessions

    def _second_runs(
        self,
        calls: list[Call],
        batch: Batch,
        sessions: list[BatchSession],
        ended: list[Call],
        again: list[Call],
    ) -> bool:
        for session in sessions:
            if session.wanted in batch.held:
                again.append(calls.pop(0))
                continue
            if session.unfit:
                second = BatchSession(batch)
                self._run(calls, 0, second)
                if second.alone:
                    return bool(ended or again)
            ended.append(calls.pop(0))
        return True

    def _run(self, calls: list[Call], index: int, session: BatchSession) -> None:
        change = partial(session.run, calls[index].do)
        calls[index].outcome = calls[index].context.run(outcome_of, change)
        if session.unfit:
            calls[index].outcome = None, None

    def _run_first_alone(self, calls: list[Call], again: list[Call]) -> None:
        change = partial(self._transaction.run_alone, calls[0].do, calls[0].deadline)
        calls[0].outcome = calls[0].context.run(outcome_of, change)
        self._transaction.roll_back()
        if isinstance(calls[0].outcome[1], _TRANSIENT):
            again.append(calls.pop(0))
        else:
            calls.pop(0).end(None)

    def _fail(self, ended: list[Call], again: list[Call], error: BenefitsError) -> None:
        while ended:
            ended[0].outcome = (
                None,
                type(error)(str(error)),
            )  # one for each caller, who adds a traceback to it
            if isinstance(error, _TRANSIENT):
                again.append(ended.pop(0))
            else:
                ended.pop(0).end(None)
