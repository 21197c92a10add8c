"""The ``benefits`` command, run in the process of the tests."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest

from benefits_service import main
from benefits_service.commands import cli


def validate(line: str) -> None:
    """Assert that a line of a shell is a valid use of the command: its variables, name, options and arguments.

    :raises click.UsageError: it is not.
    """
    words = shlex.split(line, comments=True)
    start = words.index("benefits")
    variables = {option.envvar for command in cli.commands.values() for option in command.params}
    assert {variable.partition("=")[0] for variable in words[:start]} <= variables
    name, command, arguments = cli.resolve_command(click.Context(cli), words[start + 1 :])
    assert command is not None
    with suppress(click.exceptions.Exit):  # by --help
        command.make_context(name, arguments)


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

    def rows(self, *arguments: object) -> list[dict[str, Any]]:
        """Return the rows that a command prints, with exact amounts."""
        status, out, err = self(*arguments, "--format", "jsonl")
        assert (status, err) == (0, "")
        return [json.loads(line, parse_float=Decimal) for line in out.splitlines()]

    def balances(self) -> dict[str, Decimal]:
        """Return the balance of each user."""
        return {row["user_id"]: row["balance"] for row in self.rows("users")}
