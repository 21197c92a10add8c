"""File descriptors that worker processes inherit."""

from __future__ import annotations

from multiprocessing import reduction
from typing import Any

import attrs


@attrs.frozen
class InheritedDescriptor:
    """A file descriptor. A worker process that is started with this gets a duplicate of it."""

    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        """Duplicate it: it is pickled while a process is started, and only then."""
        return _from_duplicate, (reduction.DupFd(self.number),)


def _from_duplicate(duplicate: Any) -> InheritedDescriptor:  # noqa: ANN401 - a private class of multiprocessing
    return InheritedDescriptor(duplicate.detach())
