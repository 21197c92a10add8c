"""Logs: one JSON object a line on standard error, each with the id of its request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final

import msgspec
from pythonjsonlogger.msgspec import MsgspecFormatter

from benefits_service.output import standard_error

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


class Formatter(MsgspecFormatter):
    """Formats a record as JSON, whatever its text contains: the name of a file need not be UTF-8."""

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Return the line of a record."""
        for name, value in log_data.items():
            if isinstance(value, str):
                log_data[name] = value.encode(errors="backslashreplace").decode()
        return super().jsonify_log_record(log_data)


class Handler(logging.Handler):
    """Writes records to standard error without waiting for its reader."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or lose it."""
        standard_error().write(f"{self.format(record)}\n".encode())


CONFIG: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": _RequestId}},
    "formatters": {
        "json": {
            "()": "benefits_service.logs.Formatter",
            "fmt": "%(levelname)s %(name)s %(message)s %(request_id)s",
            "rename_fields": {"levelname": "level", "name": "logger", "exc_info": "exception"},
            "timestamp": "time",
        }
    },
    "handlers": {
        "stderr": {"class": "benefits_service.logs.Handler", "formatter": "json", "filters": ["request_id"]},
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {},
}
"""How everything except requests is logged, for ``logging.config.dictConfig``."""

# POSIX: no other process can write into the middle of a write to a pipe that is no longer than this.
_PIPE_BUF: Final = 4096

_log = logging.getLogger(__name__)

_encode_lines: Final = msgspec.json.Encoder().encode_lines


def log_requests(lines: Sequence[RequestLine]) -> None:
    """Write the lines of requests, without the logging package, which would take eight times as long.

    Lines of several workers do not mix in a pipe as long as each is at most 4096 bytes long. The caller ensures that no
    client can make one longer. (A traceback may be longer, but no client can cause one at will.) Lines that can't be written
    at once are lost: requests go on when the disk is full, or when no process reads the pipe.
    """
    text = _encode_lines(lines)
    output = standard_error()
    lost = output.lost
    while text:
        end = len(text) if len(text) <= _PIPE_BUF else text.rindex(b"\n", 0, _PIPE_BUF) + 1
        output.write(text[:end])
        text = text[end:]
    if lost and output.lost == lost:
        output.lost = 0
        _log.warning("%s writes to the log were lost before this line: %s", lost, output.failure)
