"""The ``benefits`` command, run in the process of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benefits_service import main


class Command:
    """Runs the command in this process, in an empty folder."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(folder)

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Return the exit status, the standard output and the standard error."""
        self._monkeypatch.setattr(sys, "argv", ["benefits", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        out, err = self._capsys.readouterr()
        status = exited.value.code or 0
        assert isinstance(status, int)
        return status, out, err
