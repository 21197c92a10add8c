"""The turns of threads that want to write: their order, their rounds, and what becomes of those who are interrupted."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread, get_ident, main_thread
from typing import Any

import attrs
import pytest

from benefits_sqlite.turns import TurnDidNotComeError, Turns
from unit.threads import A_LONG_TIME, FOR_ITS_TURN, FOR_THE_END, FOR_THE_SETTLING, wait_until_it_waits


class RoundFailedError(Exception):
    """What was done in a round could not be kept; the cause says why."""


@attrs.define
class Settling:
    """Settles rounds by writing down what was done in them, and waits or fails as it is told to."""

    blocks: list[str] = attrs.field(factory=list)
    rounds: list[list[str]] = attrs.field(factory=list)
    failures: list[Exception | KeyboardInterrupt | None] = attrs.field(factory=list)
    may_end: Event = attrs.field(factory=Event)

    def __attrs_post_init__(self) -> None:
        """Wait for nobody, unless told to."""
        self.may_end.set()

    def __call__(self) -> Exception | None:
        """Settle a round."""
        assert self.may_end.wait(A_LONG_TIME)
        self.rounds.append(self.blocks[:])
        self.blocks.clear()
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, KeyboardInterrupt):
            raise failure
        return failure


@attrs.frozen
class Asking:
    """A thread that has asked for a turn."""

    thread: int
    result: Future[str]


@attrs.define
class Queue:
    """Turns, and the threads that take them."""

    settling: Settling
    turns: Turns
    pool: ThreadPoolExecutor

    def take(self, name: str, patience: float = A_LONG_TIME, during: Callable[[], object] = bool) -> str:
        """Take a turn in this thread."""
        turn = self.turns.take(patience)
        try:
            during()
            self.settling.blocks.append(name)
        finally:
            failure = self.turns.leave(turn)
            if failure is not None:
                raise RoundFailedError(str(failure)) from failure
        return name

    def ask(
        self, name: str, patience: float = A_LONG_TIME, during: Callable[[], object] = bool, why: str = ""
    ) -> Asking:
        """Ask for a turn in a thread of its own, and return once that waits, if a reason is given."""
        started: Future[int] = Future()

        def run() -> str:
            started.set_result(get_ident())
            return self.take(name, patience, during)

        result = self.pool.submit(run)
        asking = Asking(started.result(A_LONG_TIME), result)
        if why:
            wait_until_it_waits(asking.thread, why)
        return asking

    def hold(self) -> tuple[Asking, Event]:
        """Let a thread have its turn until the event is set."""
        has_it, may_end = Event(), Event()

        def hold() -> None:
            has_it.set()
            assert may_end.wait(A_LONG_TIME)

        asking = self.ask("holder", during=hold)
        assert has_it.wait(A_LONG_TIME)
        return asking, may_end

    @contextmanager
    def held(self) -> Iterator[Asking]:
        """Let a thread have its turn while the block runs."""
        asking, may_end = self.hold()
        try:
            yield asking
        finally:
            may_end.set()

    def line_up(self, *names: str) -> list[Asking]:
        """Have threads wait for their turns, in this order."""
        return [self.ask(name, why=FOR_ITS_TURN) for name in names]


@pytest.fixture
def queue() -> Iterator[Queue]:
    """Return a queue with threads for it."""
    settling = Settling()
    with ThreadPoolExecutor(20) as pool:
        yield Queue(settling, Turns(settling), pool)


def results(askings: list[Asking]) -> list[str]:
    """Return what the threads came to."""
    return [asking.result.result(A_LONG_TIME) for asking in askings]


class TestRounds:
    def test_one_who_is_alone_is_a_round(self, queue: Queue) -> None:
        queue.take("a")
        queue.take("b")

        assert queue.settling.rounds == [["a"], ["b"]]

    def test_whoever_waited_for_a_round_is_the_next_one_in_the_order_of_asking(self, queue: Queue) -> None:
        with queue.held():
            waiting = queue.line_up("a", "b", "c", "d", "e")

        assert results(waiting) == ["a", "b", "c", "d", "e"]
        assert queue.settling.rounds == [["holder"], ["a", "b", "c", "d", "e"]]

    def test_whoever_comes_while_a_round_is_settled_is_in_the_next(self, queue: Queue) -> None:
        queue.settling.may_end.clear()
        with queue.held() as holder:
            pass
        wait_until_it_waits(holder.thread, FOR_THE_SETTLING)
        waiting = queue.line_up("a", "b")
        queue.settling.may_end.set()

        assert results([holder, *waiting]) == ["holder", "a", "b"]
        assert queue.settling.rounds == [["holder"], ["a", "b"]]

    def test_whoever_comes_during_a_round_is_in_the_next(self, queue: Queue) -> None:
        def let_another_ask() -> None:
            late.append(queue.ask("late", why=FOR_ITS_TURN))

        late: list[Asking] = []
        with queue.held():
            early = [queue.ask("a", during=let_another_ask, why=FOR_ITS_TURN), *queue.line_up("b")]
        results(early)

        assert results(late) == ["late"]
        assert queue.settling.rounds == [["holder"], ["a", "b"], ["late"]]

    def test_turns_never_overlap(self, queue: Queue) -> None:
        inside: list[str] = []

        def be_alone() -> None:
            inside.append("in")
            assert inside == ["in"]
            inside.pop()

        askings = [queue.ask(str(number), during=be_alone) for number in range(20)]

        assert len(results(askings)) == 20
        assert sorted(name for members in queue.settling.rounds for name in members) == sorted(
            map(str, range(20))
        )

    def test_nobody_is_told_before_the_settling_has_returned(self, queue: Queue) -> None:
        with queue.held():
            [first] = queue.line_up("first")
            last = queue.ask("last", during=queue.settling.may_end.clear, why=FOR_ITS_TURN)
        wait_until_it_waits(last.thread, FOR_THE_SETTLING)
        wait_until_it_waits(first.thread, FOR_THE_END)
        assert not first.result.done()
        assert not last.result.done()
        queue.settling.may_end.set()

        assert results([first, last]) == ["first", "last"]


class TestFailedRounds:
    def test_all_members_are_told_with_the_cause(self, queue: Queue) -> None:
        full = OSError("disk full")
        queue.settling.failures = [None, full]
        with queue.held() as holder:
            waiting = queue.line_up("a", "b", "c")

        assert holder.result.result(A_LONG_TIME) == "holder"
        for asking in waiting:
            error = asking.result.exception(A_LONG_TIME)
            assert isinstance(error, RoundFailedError)
            assert error.__cause__ is full
            assert str(error) == "disk full"

    def test_a_block_that_raises_in_a_round_that_is_kept_raises_what_it_raised(self, queue: Queue) -> None:
        with queue.held():
            failing = queue.ask("failing", during=lambda: 1 / 0, why=FOR_ITS_TURN)
            [other] = queue.line_up("other")

        assert isinstance(failing.result.exception(A_LONG_TIME), ZeroDivisionError)
        assert results([other]) == ["other"]
        assert queue.settling.rounds == [["holder"], ["other"]]

    def test_the_next_round_knows_nothing_of_it(self, queue: Queue) -> None:
        queue.settling.failures = [OSError("disk full")]
        with pytest.raises(RoundFailedError):
            queue.take("a")

        assert queue.take("b") == "b"


class TestPatience:
    def test_who_has_waited_long_enough_is_told_and_the_next_goes_on(self, queue: Queue) -> None:
        with queue.held():
            impatient = queue.ask("impatient", patience=0.01)
            [patient] = queue.line_up("patient")
            assert isinstance(impatient.result.exception(A_LONG_TIME), TurnDidNotComeError)
            assert not patient.result.done()

        assert results([patient]) == ["patient"]
        assert queue.settling.rounds == [["holder"], ["patient"]]

    def test_when_all_who_waited_have_gone_the_queue_is_free(self, queue: Queue) -> None:
        with queue.held() as holder:
            for _ in range(3):
                with pytest.raises(TurnDidNotComeError):
                    queue.take("impatient", patience=0.001)
        results([holder])

        assert queue.take("a", patience=0.001) == "a"
        assert queue.settling.rounds == [["holder"], ["a"]]

    def test_patience_is_for_the_turn_and_not_for_the_settling(self, queue: Queue) -> None:
        queue.settling.may_end.clear()
        asking = queue.ask("a", patience=0)
        wait_until_it_waits(asking.thread, FOR_THE_SETTLING)
        queue.settling.may_end.set()

        assert results([asking]) == ["a"]


@contextmanager
def interrupted(script: Callable[[int], object], how: Callable[[], object]) -> Iterator[None]:
    """Interrupt the main thread in whatever it does in the block.

    :param script: says when: it is run in a thread of its own, and given the main thread; SIGUSR1 is sent at its end.
    :param how: what the main thread does then, in the middle of it all.
    """
    ident = get_ident()
    assert ident == main_thread().ident

    def direct() -> None:
        script(ident)
        signal.pthread_kill(ident, signal.SIGUSR1)

    def handle(*_: Any) -> None:
        how()

    before = signal.signal(signal.SIGUSR1, handle)
    director = Thread(target=direct)
    director.start()
    try:
        yield
    finally:
        director.join(A_LONG_TIME)
        signal.signal(signal.SIGUSR1, before)


def once_it_waits_for_its_turn(thread: int) -> None:
    """Say when."""
    wait_until_it_waits(thread, FOR_ITS_TURN)


def press_ctrl_c() -> None:
    """Do what Python does when Ctrl-C is pressed."""
    raise KeyboardInterrupt


class TestInterruptions:
    """The main thread alone is ever interrupted, and it is the one that runs these tests."""

    def test_one_that_waits_for_its_turn_leaves_the_queue(self, queue: Queue) -> None:
        with queue.held() as holder:
            with interrupted(once_it_waits_for_its_turn, press_ctrl_c), pytest.raises(KeyboardInterrupt):
                queue.take("interrupted")
            [after] = queue.line_up("after")

        assert results([holder, after]) == ["holder", "after"]
        assert queue.settling.rounds == [["holder"], ["after"]]

    def test_one_whose_turn_has_just_come_passes_it_on(self, queue: Queue) -> None:
        holder, may_end = queue.hold()
        after: list[Asking] = []

        def let_the_turn_come() -> None:
            after.extend(queue.line_up("after"))
            may_end.set()
            results([holder])  # the main thread has been called, and does not know it yet
            press_ctrl_c()

        with interrupted(once_it_waits_for_its_turn, let_the_turn_come), pytest.raises(KeyboardInterrupt):
            queue.take("interrupted")

        assert results(after) == ["after"]
        assert queue.take("main", patience=0) == "main"
        assert queue.settling.rounds == [["holder"], ["after"], ["main"]]

    def test_one_whose_turn_has_just_come_and_who_is_the_last_of_its_round_ends_that(
        self, queue: Queue
    ) -> None:
        holder, may_end = queue.hold()

        def let_the_turn_come() -> None:
            may_end.set()
            results([holder])
            press_ctrl_c()

        with interrupted(once_it_waits_for_its_turn, let_the_turn_come), pytest.raises(KeyboardInterrupt):
            queue.take("interrupted")

        assert queue.take("main", patience=0) == "main"

    def test_a_turn_that_has_come_when_patience_runs_out_is_taken(self, queue: Queue) -> None:
        holder, may_end = queue.hold()
        over: list[float] = []

        def let_the_turn_come_late() -> None:
            while time.monotonic() < deadline:
                time.sleep(0.01)
            over.append(deadline)
            may_end.set()
            results([holder])

        # A machine may be so slow that patience runs out before the signal comes; then it takes more of it.
        patience = 0.2
        while not over:
            deadline = time.monotonic() + 2 * patience
            with interrupted(once_it_waits_for_its_turn, let_the_turn_come_late):
                try:
                    queue.take("main", patience=patience)
                except TurnDidNotComeError:
                    assert not over
            patience *= 4

        assert queue.settling.rounds == [["holder"], ["main"]]

    def test_one_that_waits_for_the_end_of_its_round_harms_nobody(self, queue: Queue) -> None:
        holder, holder_may_end = queue.hold()
        may_end = Event()
        others: list[Asking] = []

        def once_it_waits_for_the_end_of_its_round(thread: int) -> None:
            wait_until_it_waits(thread, FOR_ITS_TURN)
            others.append(queue.ask("last", during=lambda: may_end.wait(A_LONG_TIME), why=FOR_ITS_TURN))
            holder_may_end.set()
            wait_until_it_waits(thread, FOR_THE_END)

        with (
            interrupted(once_it_waits_for_the_end_of_its_round, press_ctrl_c),
            pytest.raises(KeyboardInterrupt),
        ):
            queue.take("interrupted")
        may_end.set()

        assert results([holder, *others]) == ["holder", "last"]
        assert queue.settling.rounds == [["holder"], ["interrupted", "last"]]
        assert queue.take("main", patience=0) == "main"

    def test_an_interrupted_settling_is_told_to_the_others_and_the_queue_goes_on(self, queue: Queue) -> None:
        queue.settling.failures = [None, KeyboardInterrupt()]
        with queue.held():
            first, last = queue.line_up("first", "last")

        told = first.result.exception(A_LONG_TIME)
        assert isinstance(told, RoundFailedError)
        assert isinstance(told.__cause__, InterruptedError)
        assert isinstance(last.result.exception(A_LONG_TIME), KeyboardInterrupt)
        assert queue.take("main", patience=0) == "main"
