"""Who may write, and when: threads take turns in the order in which they asked. It knows threads, and no SQL.

Turns come in rounds: whoever is waiting when a round begins is in it. The members of a round go one after the other; the
last one settles the round for all, and only then is any of them told how it ended. So what is dear, a commit that
reaches the disk, is paid once a round, however many were waiting for the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock

import attrs


@attrs.define(eq=False)
class Turn:
    """One thread's place in the queue."""

    signal: Lock = attrs.field(factory=Lock)  # held; released to tell the thread that it may go on
    called: bool = False
    withdrawn: bool = False
    failure: Exception | None = None  # why its round could not be kept


class TurnDidNotComeError(Exception):
    """Others took longer than this thread would wait."""


class Turns:
    """A queue of threads.

    :param settle: called by the last thread of each round, to keep or drop what was done in it; returns why it could
        not be kept, if it couldn't.
    """

    def __init__(self, settle: Callable[[], Exception | None]) -> None:
        self._settle = settle
        self._mutex = Lock()
        self._arrivals: deque[Turn] = deque()
        self._round: deque[Turn] = deque()  # those whose turn is still to come
        self._done: list[Turn] = []  # and those of the same round who have had it
        self._busy = False

    def take(self, patience: float) -> Turn:
        """Wait for this thread's turn, and return it. Whoever has got it has to leave it.

        :param patience: how long to wait, in seconds.
        :raises TurnDidNotComeError: the patience has run out.
        """
        turn = Turn()
        turn.signal.acquire()
        try:
            with self._mutex:
                self._arrivals.append(turn)
                if not self._busy:
                    self._begin_round()
            came = turn.signal.acquire(timeout=patience)
        except BaseException:  # such as Ctrl-C
            if not self._withdraw(turn):
                self.leave(turn)
            raise
        if not came and self._withdraw(turn):
            raise TurnDidNotComeError
        return turn

    def _withdraw(self, turn: Turn) -> bool:
        """Leave the queue; return False if it is too late, because the turn has come in that very moment."""
        with self._mutex:
            turn.withdrawn = not turn.called
            if turn.called:
                turn.signal.acquire(blocking=False)
        return turn.withdrawn

    def leave(self, turn: Turn) -> Exception | None:
        """Wait until the round is settled, for as long as the others' turns take; return why it could not be kept, if so."""
        with self._mutex:
            self._done.append(turn)
            last = not self._call_next()
        if last:
            done = self._done
            # What the others are told in case this thread is interrupted here.
            failure: Exception | None = InterruptedError("the commit was interrupted")
            try:
                failure = self._settle()
            finally:
                with self._mutex:
                    self._begin_round()
                for member in done:
                    member.failure = failure  # before it goes on, and reads it
                    member.signal.release()
        turn.signal.acquire()
        return turn.failure

    def _begin_round(self) -> None:
        self._round, self._arrivals, self._done = self._arrivals, self._round, []
        self._busy = self._call_next()

    def _call_next(self) -> bool:
        while self._round:
            turn = self._round.popleft()
            if not turn.withdrawn:
                turn.called = True
                turn.signal.release()
                return True
        return False
