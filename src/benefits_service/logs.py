"""Logs: one JSON object a line on standard error, each with the id of its request."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final

import msgspec

request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The id of the current request; every request runs in a context of its own."""


class RequestLine(msgspec.Struct, omit_defaults=True):
    """The log line of a request. Only ``path`` may contain a user name; it is optional."""

    time: datetime
    level: str
    message: str
    method: str
    route: str
    status: int
    duration_ms: float
    request_id: str
    path: str | None = None


class _RequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


CONFIG: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": _RequestId}},
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.msgspec.MsgspecFormatter",
            "fmt": "%(levelname)s %(name)s %(message)s %(request_id)s",
            "rename_fields": {"levelname": "level", "name": "logger", "exc_info": "exception"},
            "timestamp": "time",
        }
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "json", "filters": ["request_id"]},
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {},
}
"""How everything except requests is logged, for ``logging.config.dictConfig``."""

# POSIX: no other process can write into the middle of a write to a pipe that is no longer than this.
_PIPE_BUF: Final = 4096

_encode_lines: Final = msgspec.json.Encoder().encode_lines


def log_requests(lines: Sequence[RequestLine]) -> None:
    """Write the lines of requests, without the logging package, which would take eight times as long.

    Lines of several workers do not mix in a pipe as long as each is at most 4096 bytes long. The caller ensures that no
    client can make one longer. (A traceback may be longer, but no client can cause one at will.)
    """
    text = _encode_lines(lines)
    with suppress(OSError):  # requests go on when the log can't be written, for example on a full disk
        while text:
            end = len(text) if len(text) <= _PIPE_BUF else text.rindex(b"\n", 0, _PIPE_BUF) + 1
            os.write(sys.stderr.fileno(), text[:end])
            text = text[end:]
