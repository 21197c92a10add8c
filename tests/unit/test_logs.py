"""Logs: one JSON object a line, from requests and from the logging package."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benefits_service import logs

LINE = logs.RequestLine(datetime.now(UTC), "INFO", "request", "GET", "/products", 200, 1.5, "abc")


def written(capfd: pytest.CaptureFixture[str]) -> list[Any]:
    """Return the lines that were logged."""
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_a_request_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    logs.log_requests([LINE])

    [line] = written(capfd)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "message": "request",
        "method": "GET",
        "route": "/products",
        "status": 200,
        "duration_ms": 1.5,
        "request_id": "abc",
    }


def test_many_lines_are_written_in_parts_that_a_pipe_writes_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    parts: list[int] = []
    write = os.write

    def writing(file: int, part: bytes) -> int:
        parts.append(len(part))
        assert part.endswith(b"\n")
        return write(file, part)

    monkeypatch.setattr(os, "write", writing)
    logs.log_requests([LINE] * 100)

    assert len(written(capfd)) == 100
    assert max(parts) <= select.PIPE_BUF
    assert len(parts) < 10


def test_a_log_on_a_full_disk_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full)
        logs.log_requests([LINE])


def logged_by(program: str) -> Any:
    """Return the one line that a program logs with the service's configuration. A process can't undo that configuration."""
    configure = (
        "import logging.config\n"
        "from benefits_service import logs\n"
        "logging.config.dictConfig(logs.CONFIG)\n"
        "log = logging.getLogger('somewhere')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", configure + program], capture_output=True, text=True, check=True
    )
    [line] = done.stderr.splitlines()
    return json.loads(line)


def test_an_error_is_one_line_with_its_traceback_and_request_id() -> None:
    line = logged_by(
        "logs.request_id.set('abc')\nlog.error('it %s', 'failed', exc_info=LookupError('on\\ntwo lines'))"
    )

    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "somewhere", "it failed")
    assert line["request_id"] == "abc"
    assert line["exception"] == "LookupError: on\ntwo lines"
    assert "time" in line


def test_outside_a_request_the_request_id_is_null() -> None:
    assert logged_by("log.warning('started')")["request_id"] is None
