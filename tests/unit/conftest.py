"""Fixtures for the tests of one part at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.command import Command


@pytest.fixture
def benefits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Return the command."""
    return Command(capsys, monkeypatch, tmp_path)
