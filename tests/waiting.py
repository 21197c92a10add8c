"""How tests wait for what must happen, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

A_LONG_TIME: Final = 300
"""When a test stops waiting, in seconds: a guard against waiting for ever, and never a measure of speed."""


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once a condition is true."""
    deadline = time.monotonic() + A_LONG_TIME
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
