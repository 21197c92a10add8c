"""Counts of all worker processes, in memory that they share and that no file system can run out of.

Each worker adds to a part of its own, so none waits for another. A worker that replaces one that has died continues its
part, so no count is lost. All memory is reserved before the first worker starts: to reserve more while counting could fail.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from mmap import mmap
from typing import Final, TypeAlias

import attrs
import msgspec

from benefits_service.runtime.inheritance import InheritedDescriptor

VALUES: Final = 15
"""How many numbers a row has."""

Row: TypeAlias = "memoryview[float]"
"""The numbers of one key, as 64-bit floats."""

# A part begins with the number of its rows. A row is its key as JSON, padded with zero bytes, and its numbers.
_NUMBER_BYTES: Final = 8
_HEADER_BYTES: Final = 256
_KEY_BYTES: Final = 136
_ROW_BYTES: Final = _KEY_BYTES + VALUES * _NUMBER_BYTES
_ROWS: Final = 1023
PART_BYTES: Final = _HEADER_BYTES + _ROWS * _ROW_BYTES
"""How much memory one worker needs."""

MEMORY_FILE: Final = "benefits-metrics"
"""What the memory of all workers is called among the open files of a process, on Linux."""

# More parts than workers: one that is killed may still be ending when the next one starts.
_SPARE_PARTS: Final = 2

_log = logging.getLogger(__name__)


class Counts:
    """The counts of one worker, and a view of those of all.

    :param memory: the memory of all workers; by default, there is one worker.
    :param part: which part of it is this worker's.
    """

    def __init__(self, memory: mmap | bytearray | bytes | None = None, part: int = 0) -> None:
        self._memory = memoryview(bytearray(PART_BYTES) if memory is None else memory)
        self._parts = [
            _Part(self._memory[at : at + PART_BYTES]) for at in range(0, len(self._memory), PART_BYTES)
        ]
        self._own = self._parts[part]
        self._rows = dict(self._own.rows())
        self._is_full = False

    def row(self, *key: str) -> Row:
        """Return the numbers of a key, to add to; they begin with 0. If there is no room, nothing is kept of them."""
        encoded = msgspec.json.encode(key)
        row = self._rows.get(encoded)
        if row is None:
            row = self._rows[encoded] = self._own.add(encoded) or self._lost(encoded)
        return row

    def _lost(self, key: bytes) -> Row:
        if not self._is_full:
            self._is_full = True
            _log.warning("the metrics are incomplete: there is no room for %s", key.decode())
        return memoryview(bytearray(VALUES * _NUMBER_BYTES)).cast("d")

    def totals(self) -> dict[tuple[str, ...], list[float]]:
        """Return the sums of all workers, by key."""
        totals: dict[bytes, list[float]] = {}
        for part in self._parts:
            for key, row in part.rows():
                sums = totals.setdefault(key, [0.0] * VALUES)
                for index, number in enumerate(row):
                    sums[index] += number
        return {msgspec.json.decode(key, type=tuple[str, ...]): sums for key, sums in totals.items()}


class _Part:
    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._length = memory[:_HEADER_BYTES].cast("q")

    def rows(self) -> Iterator[tuple[bytes, Row]]:
        for index in range(self._length[0]):
            key, row = self._at(index)
            yield bytes(key).rstrip(b"\0"), row

    def add(self, encoded_key: bytes) -> Row | None:
        index = self._length[0]
        if index == _ROWS or len(encoded_key) > _KEY_BYTES:
            return None
        key, row = self._at(index)
        key[:] = encoded_key.ljust(_KEY_BYTES, b"\0")
        self._length[0] = index + 1  # last: until then the row does not exist, should this process be killed
        return row

    def _at(self, index: int) -> tuple[memoryview, Row]:
        begin = _HEADER_BYTES + index * _ROW_BYTES
        numbers = begin + _KEY_BYTES
        return self._memory[begin:numbers], self._memory[numbers : begin + _ROW_BYTES].cast("d")


@attrs.frozen
class ReservedCounts:
    """Memory for the counts of all workers. A worker process that is started with it can join it."""

    _descriptor: InheritedDescriptor
    _parts: int

    def join(self) -> Counts | None:
        """Return the counts of this process; None if there are more processes than parts."""
        for part in range(self._parts):
            try:
                # The lock ends with this process, however it ends.
                fcntl.lockf(self._descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, part)
            except OSError:
                continue
            return Counts(mmap(self._descriptor.number, self._parts * PART_BYTES), part)
        return None


def reserve_counts(workers: int) -> ReservedCounts:
    """Reserve memory for the counts of so many workers.

    :raises OSError: there is none.
    """
    parts = workers + _SPARE_PARTS
    return ReservedCounts(InheritedDescriptor(_reserve(parts * PART_BYTES)), parts)


def _reserve(size: int) -> int:
    # Without this, the system would look for memory only when it is written to, and kill a process if there is none.
    descriptor = _memory_file()
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.write(descriptor, bytes(size))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(MEMORY_FILE)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
