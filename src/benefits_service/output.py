"""Makes writes to standard output and standard error never raise, so that a full disk stops no command.

Standard error never blocks either: a log that no process reads would stop every request. What can't be written is lost.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_Write = Callable[[bytes], int]


class Output(io.FileIO):
    """A file descriptor, to write to.

    :param descriptor: it stays open.
    :param wait: whether a write waits as long as a pipe is full, instead of being lost.
    """

    def __init__(self, descriptor: int, *, wait: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._wait = wait
        self._write: _Write = partial(os.write, descriptor)
        if not wait:
            self.stop_waiting()
        self._rest = b""  # of a write that could only begin
        self.failure: OSError | None = None
        """Why the last write that was lost was lost."""
        self.lost = 0
        """How many writes were lost."""

    def stop_waiting(self) -> None:
        """From now on, lose a write for which a full pipe or a stopped terminal has no room."""
        self._wait = False
        self._write = _non_blocking_write(self.fileno())

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it, or lose it. Return its length, in any case."""
        whole = bytes(data)
        if self._write_rest():
            self._rest = whole
            self._write_rest()
            if self._rest != whole:  # it has begun at least; the next write finishes it
                return len(whole)
            self._rest = b""
        self.lost += 1
        return len(whole)

    def _write_rest(self) -> bool:
        while self._rest:
            try:
                self._rest = self._rest[self._write(self._rest) :]
            except OSError as error:
                if self._wait and isinstance(error, BlockingIOError):
                    select.select([], [self.fileno()], [])  # another program has made the pipe non-blocking
                    continue
                self.failure = error
                return False
        return True


def _non_blocking_write(descriptor: int) -> _Write:
    """Return a function that writes what can be written at once, and raises BlockingIOError if that is nothing."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return partial(_send, socket.socket(fileno=os.dup(descriptor)))
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        # O_NONBLOCK belongs to the open file, which other processes share: so open it once more.
        try:
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:  # no /proc, or another user's terminal
            return partial(_write_if_ready, descriptor)
        return partial(os.write, own)
    return partial(os.write, descriptor)


def _write_if_ready(descriptor: int, data: bytes) -> int:
    if not select.select([], [descriptor], [], 0)[1]:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.write(descriptor, data[: select.PIPE_BUF])  # for so much there is room


def _send(connection: socket.socket, data: bytes) -> int:
    return connection.send(data, socket.MSG_DONTWAIT)


_installed: dict[str, Output] = {}


def protect() -> None:
    """Replace the standard streams of this process. It does nothing to one that the calling program has replaced already."""
    _open_missing_descriptors()
    for name, descriptor, wait in (("stdout", 1, True), ("stderr", 2, False)):
        stream = getattr(sys, name)
        if name in _installed or stream is not getattr(sys, f"__{name}__"):
            continue
        _installed[name] = raw = Output(descriptor, wait=wait)
        encoding = "utf-8" if stream is None else codecs.lookup(stream.encoding).name
        text = io.TextIOWrapper(
            io.BufferedWriter(raw),
            "utf-8" if encoding == "ascii" else encoding,
            errors="backslashreplace",  # the name of a file may be anything
            line_buffering=True,
        )
        setattr(sys, name, text)


def stop_waiting() -> None:
    """From now on, lose what standard output has no room for. For a service: it must go on although no program reads it."""
    if "stdout" in _installed:
        _installed["stdout"].stop_waiting()


def _open_missing_descriptors() -> None:
    # Whatever is opened next would be standard output: the database, say, and what is printed would go there.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - which is the lowest that is free


def standard_output_failure() -> OSError | None:
    """Return why standard output could not be written; None if it could, or if its reader wanted no more of it."""
    failure = _failure()
    return None if failure is None or failure.errno == errno.EPIPE else failure


def _failure() -> OSError | None:
    output = _installed.get("stdout")
    return None if output is None else output.failure


def is_lost() -> bool:
    """Return whether standard output could not be written, for example because its reader has gone."""
    return _failure() is not None


def standard_error() -> Output:
    """Return standard error as it is now."""
    return _installed.get("stderr") or Output(sys.stderr.fileno(), wait=False)


def printable(text: str) -> str:
    """Return a text as one line that any terminal can show, with a backslash notation for what it can't."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
