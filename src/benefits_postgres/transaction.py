"""The transactions of the connection that writes: how they begin, what a batch locks, and whether a lost COMMIT has kept them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from uuid import uuid4

from benefits_core.changes import finally_do
from benefits_core.errors import StorageUnavailableError
from benefits_core.ports import UnitOfWork
from benefits_postgres.alone import KEY, NEWCOMERS, LoneSession
from benefits_postgres.batch import Batch, BatchSession
from benefits_postgres.catalogue import SELECT_VERSION, CatalogueCache
from benefits_postgres.connection import DURABLY, ConnectionLostError, Database
from benefits_postgres.readers import OWNED, user_from
from benefits_postgres.repositories import PostgresUnitOfWork

_Result = TypeVar("_Result")

# The settings end with the transaction, for a pool may give the connection to others. Whatever the database's defaults are:
# statements see what was committed before each of them, and a commit returns once it has reached the disk.
_SETTINGS: Final = f"""
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', '0', true),
           set_config('idle_in_transaction_session_timeout', '10s', true),
           {DURABLY};
    """
# The row of this writer is locked until the transaction ends. A later transaction that locks it reads whether that was kept.
# It is committed too: where that waits for a standby, the standby has then flushed both.
_BEGIN: Final = f"""
    {_SETTINGS}
    INSERT INTO writers (writer, batch) VALUES (%s, %s)
    ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, begun_at = excluded.begun_at;
    """
_WAS_KEPT: Final = f"""
    {_SETTINGS}
    INSERT INTO writers (writer, batch) VALUES (%s, 0)
    ON CONFLICT (writer) DO UPDATE SET writer = excluded.writer RETURNING batch;
    COMMIT
    """

# A batch waits for nobody while it holds locks, so that it stops no other machine, and no deadlock can arise: it takes the
# locks that are free. A new user has no row to lock, so each user has an advisory lock too; and whoever adds many users
# holds the lock of all newcomers. The users are read in a statement after the locks: only that sees what the last holder of
# a lock has done. The order numbers are drawn under the locks, so that those of a user ascend.
_WANTED: Final = "unnest(%s::text[]) AS wanted(user_id)"
_LOCK_AND_READ: Final = f"""
    SELECT pg_try_advisory_xact_lock_shared({KEY}) FROM {NEWCOMERS};
    SELECT user_id FROM {_WANTED} WHERE pg_try_advisory_xact_lock({KEY});
    SELECT user_id FROM users WHERE user_id = ANY(%s) ORDER BY user_id FOR NO KEY UPDATE SKIP LOCKED;
    SELECT user_id, coalesce(user_number, nextval('user_numbers')), balance, {OWNED}
    FROM {_WANTED} LEFT JOIN users USING (user_id);
    SELECT nextval('order_numbers') FROM generate_series(1, %s);
    {SELECT_VERSION}
    """

# How long to try to find out whether a COMMIT was kept, and how long to wait between two attempts, in seconds. A COMMIT that
# is under way may still arrive, until the server ends the idle transaction.
_FINDING_OUT: Final = 12.0
_PAUSE: Final = 0.05


class OutcomeUnknownError(StorageUnavailableError):
    """A transaction was kept, or not: the database could not be reached in time to find out."""


class Transaction:
    """The transaction of the connection that writes. One thread at a time may use it."""

    def __init__(self, database: Database, patience: float) -> None:
        self._database = database
        self._patience = patience
        self._writer = str(uuid4())
        self._number = 0
        self._catalogue = CatalogueCache()

    def _begin(self, wait: float) -> tuple[str, list[object]]:
        self._number += 1
        return _BEGIN, [_milliseconds(wait), self._writer, self._number]

    def begin_batch(self, batch: Batch, sessions: Sequence[BatchSession]) -> None:
        """Begin a batch: lock and read what the first runs of its changes have asked for."""
        wanted = [session.wanted for session in sessions if session.wanted is not None]
        ids = list(set(wanted))
        begin, parameters = self._begin(self._patience)
        *_, newcomers, advised, locked, rows, numbers, version = self._database.run(
            begin + _LOCK_AND_READ, [*parameters, ids, ids, ids, len(wanted)]
        )
        had, known = {user_id for (user_id,) in advised}, {user_id for (user_id,) in locked}
        may_add = newcomers[0][0]
        for row in rows:
            user_id, number, balance, _ = row
            if user_id in had and (may_add if balance is None else user_id in known):
                batch.users[user_id] = None if balance is None else user_from(row)
                batch.writes.numbers[user_id] = number
            else:
                batch.held.add(user_id)
        batch.order_numbers = [number for (number,) in numbers]
        batch.catalogue = self._catalogue.read(self._database, version)

    def commit_batch(self, batch: Batch) -> None:
        """Keep a batch."""
        statements, values = batch.writes.take()
        if statements:
            self._commit(statements, values)
        else:
            self._database.run("ROLLBACK")

    def run_alone(self, do: Callable[[UnitOfWork], _Result], deadline: float) -> _Result:
        """Run a change in a transaction of its own, and keep it."""
        session = LoneSession(self._database)
        return finally_do(session.state.end, lambda: self._run_alone(session, do, deadline))

    def _run_alone(
        self, session: LoneSession, do: Callable[[UnitOfWork], _Result], deadline: float
    ) -> _Result:
        self._database.run(*self._begin(deadline - time.monotonic()))
        result = do(PostgresUnitOfWork(session))
        session.state.require_usable()
        self._commit(*session.writes.take())
        return result

    def _commit(self, statements: str, values: Sequence[object]) -> None:
        try:
            self._database.run(f"{statements} COMMIT", values)
        except ConnectionLostError as error:
            if not self._was_kept():
                raise ConnectionLostError(f"nothing was kept: {error}") from error

    def _was_kept(self) -> bool:
        """Return whether the last transaction was committed, although its answer was lost."""
        deadline = time.monotonic() + _FINDING_OUT
        while True:
            left = deadline - time.monotonic()
            try:
                [[number]] = self._database.run(_WAS_KEPT, (_milliseconds(left), self._writer), limit=left)[2]
            except StorageUnavailableError as error:
                self._database.close()
                if time.monotonic() > deadline:
                    raise OutcomeUnknownError(
                        f"the connection was lost during a commit; it is not known whether that was kept: {error}"
                    ) from error
                time.sleep(_PAUSE)
            else:
                return bool(number == self._number)

    def roll_back(self) -> None:
        """End what was begun, if it was not kept."""
        self._database.roll_back()


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"  # 0 would be no limit
