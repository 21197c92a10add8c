"""Logs: one JSON object a line, on standard error, each with the id of the request that it belongs to."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The id of the request that is answered; each is answered in a context of its own."""


class RequestLine(msgspec.Struct, omit_defaults=True):
    """What is logged of a request. Nothing in it names anybody, unless ``path`` is asked for."""

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
"""How everything but requests is logged, in the words of ``logging.config``."""

# How much a pipe takes at once.
_WHOLE: Final = 4096

_encode_lines: Final = msgspec.json.Encoder().encode_lines


def now() -> datetime:
    """Return the time as logs tell it."""
    return datetime.now(UTC)


def log_requests(lines: Sequence[RequestLine]) -> None:
    """Log requests. The logging package would take eight times as long, on every request.

    A pipe takes up to 4096 bytes whole, whatever other workers write to it, so the caller keeps clients from making a line
    longer. (A traceback may be, but no client can have one written at will.)
    """
    text = _encode_lines(lines)
    with suppress(OSError):  # a log that can't be written, on a full disk say, is no reason not to go on
        while text:
            end = len(text) if len(text) <= _WHOLE else text.rindex(b"\n", 0, _WHOLE) + 1
            os.write(sys.stderr.fileno(), text[:end])
            text = text[end:]
