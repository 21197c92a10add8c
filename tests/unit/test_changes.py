"""What authors of stores build changes from: the clean-up that Ctrl-C can't skip, and the lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from benefits_core.changes import ChangeLock, LockTimeoutError, finally_do
from waiting import A_LONG_TIME


class DeliberateError(Exception):
    """Something that goes wrong."""


class TestFinallyDo:
    @pytest.fixture
    def cleaned(self) -> list[str]:
        """Return what was cleaned up."""
        return []

    def clean_up(self, cleaned: list[str], *errors: BaseException) -> Callable[[], None]:
        """Return a clean-up that raises these errors, each the first time."""
        left = list(errors)

        def clean() -> None:
            if left:
                raise left.pop(0)
            cleaned.append("clean")

        return clean

    def test_it_cleans_up_once_and_returns_what_the_function_returns(self, cleaned: list[str]) -> None:
        assert finally_do(self.clean_up(cleaned), lambda: 7) == 7
        assert cleaned == ["clean"]

    def test_it_cleans_up_and_raises_what_the_function_raises(self, cleaned: list[str]) -> None:
        error = DeliberateError()

        def fail() -> None:
            raise error

        with pytest.raises(DeliberateError) as raised:
            finally_do(self.clean_up(cleaned), fail)
        assert raised.value is error
        assert cleaned

    def test_a_clean_up_that_is_interrupted_is_done_again(self, cleaned: list[str]) -> None:
        with pytest.raises(KeyboardInterrupt):
            finally_do(self.clean_up(cleaned, KeyboardInterrupt()), lambda: 7)
        assert cleaned == ["clean"]

    def test_a_clean_up_that_fails_twice_raises(self, cleaned: list[str]) -> None:
        with pytest.raises(DeliberateError, match="second"):
            finally_do(self.clean_up(cleaned, DeliberateError("first"), DeliberateError("second")), lambda: 7)


class TestChangeLock:
    def held_elsewhere(self, lock: ChangeLock, block: Callable[[], object]) -> None:
        """Run a block while another thread runs a change."""
        has_begun, may_end = Event(), Event()

        def hold() -> bool:
            has_begun.set()
            return may_end.wait(A_LONG_TIME)

        with ThreadPoolExecutor() as pool:
            holder = pool.submit(lambda: lock.run(hold, timeout=0))
            assert has_begun.wait(A_LONG_TIME)
            try:
                block()
            finally:
                may_end.set()
            assert holder.result(A_LONG_TIME)

    def test_it_returns_what_the_change_returns(self) -> None:
        assert ChangeLock().run(lambda: 7, timeout=0) == 7

    def test_it_does_not_wait_if_the_timeout_is_0(self) -> None:
        lock = ChangeLock()

        def refused() -> None:
            with pytest.raises(LockTimeoutError):
                lock.run(lambda: pytest.fail("it ran"), timeout=0)

        self.held_elsewhere(lock, refused)
        assert lock.run(lambda: 7, timeout=0) == 7

    def test_it_waits_until_the_timeout(self) -> None:
        lock = ChangeLock()

        def refused() -> None:
            with pytest.raises(LockTimeoutError):
                lock.run(lambda: pytest.fail("it ran"), timeout=0.01)

        self.held_elsewhere(lock, refused)

    def test_it_waits_for_the_change_of_another_thread(self) -> None:
        lock, passed = ChangeLock(), Event()
        with ThreadPoolExecutor() as pool:

            def submit() -> None:
                waiting.append(pool.submit(lambda: lock.run(passed.set, timeout=A_LONG_TIME)))
                assert not passed.wait(0.1)

            waiting: list[object] = []
            self.held_elsewhere(lock, submit)
            assert passed.wait(A_LONG_TIME)

    def test_it_is_released_after_an_error(self) -> None:
        lock = ChangeLock()

        def fail() -> None:
            raise DeliberateError

        with pytest.raises(DeliberateError):
            lock.run(fail, timeout=0)
        with ThreadPoolExecutor() as pool:
            assert pool.submit(lambda: lock.run(lambda: 7, timeout=0)).result(A_LONG_TIME) == 7

    def test_a_change_inside_a_change_raises_and_the_outer_one_keeps_the_lock(self) -> None:
        lock = ChangeLock()

        def nest() -> None:
            with pytest.raises(RuntimeError, match="inside a change"):
                lock.run(lambda: pytest.fail("it ran"), timeout=A_LONG_TIME)
            with pytest.raises(RuntimeError, match="inside a change"):
                lock.require_outside()
            with ThreadPoolExecutor() as pool, pytest.raises(LockTimeoutError):
                pool.submit(lambda: lock.run(lambda: 7, timeout=0)).result(A_LONG_TIME)

        lock.run(nest, timeout=0)
        lock.require_outside()
