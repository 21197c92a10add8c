"""The ``benefits`` command: its help, Ctrl-C, and packages that are not installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from benefits_service.commands import cli
from unit.command import Command, validate
from waiting import A_LONG_TIME


def test_without_arguments_the_command_shows_its_help(benefits: Command) -> None:
    status, _, err = benefits()

    assert status == 2
    assert "Commands:" in err


@pytest.mark.parametrize("command", [[], *([name] for name in cli.commands)])
def test_help_fits_into_80_columns_and_ends_with_examples_that_are_valid(
    benefits: Command, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    status, out, _ = benefits(*command, "--help")

    assert status == 0
    assert out.startswith("Usage: benefits")
    assert max(map(len, out.splitlines())) <= 80
    lines = [line.strip() for line in out.partition("\n  Examples:\n")[2].splitlines()]
    assert len(lines) >= 2
    Path("build").mkdir()
    Path("build/index.html").touch()  # an example names this folder
    for line in lines:
        assert " ".join(["benefits", *command]) in line
        validate(line)


@pytest.mark.parametrize(
    "line",
    [
        "benefits serve --prot 4001",
        "benefits backup",
        "BENEFITS_PROT=4001 benefits serve",
        "benefits restore a",
    ],
)
def test_an_example_that_is_not_valid_would_be_found(line: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        validate(line)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["undo"], "No such command 'undo'. See 'benefits --help'."),
        (["seed"], "Missing argument 'FILE'. See 'benefits seed --help'."),
        (
            ["seed", "none.json"],
            "none.json: No such file or directory; name a catalogue file such as seed.json",
        ),
        (
            ["check"],
            "benefits.db: there is no such file; name another with --database, or create it with benefits seed",
        ),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do_next(
    benefits: Command, arguments: list[str], error: str
) -> None:
    assert benefits(*arguments) == (2, "", f"benefits: {error}\n")


def test_version_is_the_one_of_the_package(benefits: Command) -> None:
    assert benefits("--version")[:2] == (0, "benefits, version 0.2.0\n")


def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    endless = tmp_path / "endless.json"
    os.mkfifo(endless)
    command = [sys.executable, "-m", "benefits_service", "seed", str(endless)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with endless.open("wb"):  # a pipe opens when both ends do: the command is reading
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=A_LONG_TIME)

    assert (process.returncode, err.strip()) == (130, "")


def run_without(module: str) -> tuple[int, str]:
    """Run the command where a module does not exist; return its exit status and its standard error."""
    hide = f"import sys; sys.modules[{module!r}] = None; from benefits_service import main; main()"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("package", ["click", "flask", "msgspec"])
def test_a_missing_package_is_named_in_one_line(package: str) -> None:
    message = f"benefits: the package {package} is not installed; run: pip install 'benefits[service]'\n"
    assert run_without(package) == (2, message)


def test_without_fcntl_the_command_names_the_systems_on_which_it_runs() -> None:
    """Windows has no module fcntl, and pip can't install one."""
    message = "benefits: it runs on Linux and macOS; on Windows, use WSL or a container\n"
    assert run_without("fcntl") == (2, message)


def test_without_fcntl_the_store_names_the_systems_on_which_it_runs() -> None:
    hide = "import sys; sys.modules['fcntl'] = None; import benefits_sqlite"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)

    assert done.stderr.endswith(
        "\nThe SQLite store runs on Linux and macOS; on Windows, use WSL or a container.\n"
    )


def test_a_module_that_python_itself_lacks_is_not_called_a_package() -> None:
    """Some builds of Python have no SQLite."""
    status, message = run_without("sqlite3")
    assert (status, message.count("\n")) == (2, 1)
    assert message.startswith("benefits: this Python has no module sqlite3,")


def test_ctrl_c_while_packages_are_imported_ends_it_without_a_traceback() -> None:
    program = """
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from benefits_service import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "")
