"""Faults, caused for real: services in another environment, mounts that one command sees alone, system calls that fail.

Where the rights or the programs for it are missing, such a test is skipped, or fails if REQUIRE_FAULTS is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from contract.running import Service, seed, start
from waiting import A_LONG_TIME

# A program that makes a backup, and is killed at its given use of the unfinished file: the first, the second, and so on.
KILLED_AT_A_STEP = """
import os, signal, sys
from pathlib import Path
from benefits_sqlite import back_up_database

source, target, overwrite, steps_left = sys.argv[1], Path(sys.argv[2]), bool(sys.argv[3]), int(sys.argv[4])

def count(event, arguments):
    global steps_left
    if any(".unfinished" in str(argument) for argument in arguments):
        steps_left -= 1
        if steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
back_up_database(source, target, overwrite=overwrite)
"""


@contextmanager
def serving(
    database: Path, *options: str, variables: dict[str, str] | None = None, **start_options: Any
) -> Iterator[Service]:
    """Run a service over a database that has a catalogue; kill what is left of it in the end.

    :param variables: those that it has besides those of this process.
    :param start_options: see ``start``. It is traced unless they say otherwise: no other service takes these paths.
    """
    seed(database)
    start_options.setdefault("traced", True)
    if variables is not None:
        start_options["env"] = os.environ | variables
    service = start(database, *options, **start_options)
    try:
        service.wait_until_it_answers()
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()
        service.kill()


def descendants(process: int) -> set[int]:
    """Return the ids of the processes that a process has started, and that they have started."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    except OSError:
        return set()
    found = {int(child) for child in children}
    return found.union(*map(descendants, found))


def run_as(user: int) -> Sequence[str]:
    """Return a command that runs another one as a user without rights. It needs root."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def in_mount_namespace(script: str) -> Sequence[str]:
    """Return a command that runs another one with mounts that no other process sees.

    :param script: what mounts them, in the language of the shell.
    """
    require(may_mount(), "this test needs the right to mount: be root, in a container with CAP_SYS_ADMIN")
    return ["unshare", "--mount", "sh", "-e", "-c", f'{script}\nexec "$@"', "sh"]


def with_mounts(script: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that sees further mounts; no other process sees them.

    :param script: what mounts them, in the language of the shell.
    """
    return _run([*in_mount_namespace(script), *command])


def with_failing(
    injections: Sequence[str], *command: str | Path, only: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in which system calls fail.

    :param injections: what strace injects, such as ``link,linkat:error=EPERM``.
    :param only: if given, only the calls that concern this path fail.
    """
    require(shutil.which("strace"), "this test needs strace")
    options = [option for injection in injections for option in ("-e", f"inject={injection}")]
    if only is not None:
        options += ["--trace-path", str(only)]
    traces = ["strace", "--follow-forks", "--output", "/dev/null", *options]
    return _run([*traces, *command])


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=A_LONG_TIME, check=False)


def impatient(**limits: float) -> list[str]:
    """Return the command ``benefits`` with other limits than those of ``liveness``, to wait for less.

    :param limits: in seconds, by name.
    """
    change = f"from benefits_service.runtime import liveness; vars(liveness).update({limits})"
    return [sys.executable, "-c", f"{change}; from benefits_service import main; main()"]


@cache
def may_mount() -> bool:
    """Return whether this user may mount file systems."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and _run(command).returncode == 0


def require(condition: object, reason: str) -> None:
    """Skip the test unless a condition holds; fail it if REQUIRE_FAULTS is set."""
    if not condition:
        (pytest.fail if "REQUIRE_FAULTS" in os.environ else pytest.skip)(reason)
