"""Who may write, and when: threads take turns in the order in which they asked. It knows threads, and no SQL.

Turns come in rounds: whoever is waiting when a round begins is in it. The members of a round go one after the other; the
last one settles the round for all, and only then is any of them told how it ended. So what is dear, a commit that
reaches the disk, is paid once a round, however many were waiting for the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import attrs


@attrs.define(eq=False)
class _Turn:
    """One thread's place in the queue."""

    signal: Lock = attrs.field(factory=Lock)  # held; released to tell the thread that it may go on
    called: bool = False
    withdrawn: bool = False


@attrs.define(eq=False)
class _Round:
    waiting: deque[_Turn] = attrs.field(factory=deque)
    done: list[_Turn] = attrs.field(factory=list)
    failure: Exception | None = None


class TurnDidNotComeError(Exception):
    """Others took longer than this thread would wait."""


class RoundFailedError(Exception):
    """What was done in a round could not be kept; the cause says why."""


class Turns:
    """A queue of threads.

    :param settle: called by the last thread of each round, to keep or drop what was done in it; returns why it could
        not be kept, if it couldn't.
    """

    def __init__(self, settle: Callable[[], Exception | None]) -> None:
        self._settle = settle
        self._mutex = Lock()
        self._arrivals: deque[_Turn] = deque()
        self._round = _Round()
        self._busy = False

    @contextmanager
    def turn(self, patience: float) -> Iterator[None]:
        """Wait for this thread's turn, let it have it for the block, and wait until its round is settled.

        :param patience: how long to wait for the turn, in seconds. The rest is not bounded: it is the others' turns.
        :raises TurnDidNotComeError: the patience has run out.
        :raises RoundFailedError: the round failed; it replaces whatever the block has raised.
        """
        turn = self._take(patience)
        try:
            yield
        finally:
            failure = self._leave(turn)
            if failure is not None:
                raise RoundFailedError(str(failure)) from failure

    def _take(self, patience: float) -> _Turn:
        turn = _Turn()
        turn.signal.acquire()
        try:
            with self._mutex:
                self._arrivals.append(turn)
                if not self._busy:
                    self._begin_round()
            came = turn.signal.acquire(timeout=patience)
        except BaseException:  # such as Ctrl-C
            if not self._withdraw(turn):
                self._leave(turn)
            raise
        if not came and self._withdraw(turn):
            raise TurnDidNotComeError
        return turn

    def _withdraw(self, turn: _Turn) -> bool:
        """Leave the queue; return False if it is too late, because the turn has come in that very moment."""
        with self._mutex:
            turn.withdrawn = not turn.called
            if turn.called:
                turn.signal.acquire(blocking=False)
        return turn.withdrawn

    def _leave(self, turn: _Turn) -> Exception | None:
        with self._mutex:
            now = self._round
            now.done.append(turn)
            last = not self._call_next()
        if last:
            # What the others are told in case this thread is interrupted here.
            now.failure = InterruptedError("the commit was interrupted")
            try:
                now.failure = self._settle()
            finally:
                with self._mutex:
                    self._begin_round()
                for member in now.done:
                    member.signal.release()
        turn.signal.acquire()
        return now.failure

    def _begin_round(self) -> None:
        self._round = _Round(self._arrivals)
        self._arrivals = deque()
        self._busy = self._call_next()

    def _call_next(self) -> bool:
        while self._round.waiting:
            turn = self._round.waiting.popleft()
            if not turn.withdrawn:
                turn.called = True
                turn.signal.release()
                return True
        return False
