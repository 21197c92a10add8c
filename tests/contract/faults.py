"""Faults, caused for real: mounts that one command sees alone, and system calls that fail.

As root, these tests run or fail. Other users may lack the rights or the programs; for them they are skipped, with a reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

A_LONG_TIME = 60


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=A_LONG_TIME, check=False
    )


def _require(condition: object, reason: str) -> None:
    if condition:
        return
    if os.geteuid() == 0:
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _can_mount() -> bool:
    return shutil.which("unshare") is not None and _run(["unshare", "--mount", "true"]).returncode == 0


def with_mounts(mounts: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that sees further mounts; nothing else sees them.

    :param mounts: a shell script that mounts.
    """
    _require(_can_mount(), "this test needs the right to mount: be root, in a container with CAP_SYS_ADMIN")
    script = f'set -e\n{mounts}\nexec "$@"'
    return _run(["unshare", "--mount", "sh", "-c", script, "sh", *command])


def with_failing(
    injections: Sequence[str], *command: str | Path, only: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in which system calls fail.

    :param injections: what strace injects, such as ``link,linkat:error=EPERM``.
    :param only: if given, only the calls that concern this path fail.
    """
    _require(shutil.which("strace"), "this test needs strace")
    options = [option for injection in injections for option in ("-e", f"inject={injection}")]
    if only is not None:
        options += ["--trace-path", str(only)]
    return _run(["strace", "--follow-forks", "--output", "/dev/null", *options, *command])
