"""Where threads stand in the queue of those that want to write: for tests that have to know, and don't guess."""

from __future__ import annotations

import linecache
import sys
import time
from collections.abc import Iterator
from types import FrameType

from benefits_sqlite import turns

A_LONG_TIME = 300

# The lines at which a thread waits.
FOR_ITS_TURN = "turn.signal.acquire(timeout=patience)"
FOR_THE_END = "turn.signal.acquire()"
FOR_THE_SETTLING = "self._settle()"


def lines_of(thread: int) -> Iterator[str]:
    """Yield the lines of ``turns`` that a thread is in."""
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001 - what else knows where a thread is
    while frame is not None:
        if frame.f_code.co_filename == turns.__file__:
            yield linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back


def wait_until_it_waits(thread: int, why: str) -> None:
    """Return once a thread has reached one of those lines; it is in its place in the queue then."""
    deadline = time.monotonic() + A_LONG_TIME
    while not any(why in line for line in lines_of(thread)):
        assert time.monotonic() < deadline, f"it never came to {why}"
        time.sleep(0.001)
