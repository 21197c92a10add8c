"""Ctrl-C at every step of the code of the stores, for tests."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import sqlite_utils.db

import benefits_postgres.store
from benefits_core import calls, changes, memory
from benefits_postgres import worker
from benefits_sqlite import group_commit, store, transaction, waiting

# The code that is interrupted: what runs a change, and what that calls. Repositories and the model are interrupted by a
# function that raises KeyboardInterrupt.
_CODE: Final = frozenset(
    module.__file__
    for module in (
        calls,
        changes,
        memory,
        benefits_postgres.store,
        worker,
        group_commit,
        store,
        transaction,
        waiting,
        contextlib,
        threading,
        sqlite_utils.db,
    )
)

# Python 3.12 crashes while it traces instructions and measures coverage: there, every line is a step.
_STEP: Final = "line" if sys.version_info[:2] == (3, 12) else "opcode"


def interrupt_at(step: int, function: Callable[[], object]) -> bool:
    """Call a function, and raise KeyboardInterrupt in it.

    :param step: before how many-th instruction or line, counted in the code of the stores.
    :returns: whether it came to that step before it returned.
    """
    left = step

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in _CODE:
            return None
        frame.f_trace_opcodes = _STEP == "opcode"
        if event == _STEP:
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    # Python 3.13 traces instructions only if this was set before.
    sys._getframe().f_trace_opcodes = _STEP == "opcode"  # noqa: SLF001
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    assert left >= 0, "the interruption was swallowed"
    return False
