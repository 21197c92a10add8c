"""``make watch``: the tests run at once, and again when a file has changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from waiting import wait_for

ROOT = Path(__file__).parents[2]
TEST = """
from pathlib import Path

def test_it_runs():  # version {}
    with Path("runs").open("a") as file:
        file.write("{}")
"""


def test_an_edited_file_makes_the_tests_run_again(tmp_path: Path) -> None:
    """With the environment's own pytest: there is no other one on the path here."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path)
    edited, runs, output = tmp_path / "tests/unit/test_it.py", tmp_path / "runs", tmp_path / "output"
    edited.parent.mkdir(parents=True)
    runs.touch()
    last_edit = 0.0
    make = shutil.which("make")
    assert make is not None

    def edit(version: int) -> None:
        nonlocal last_edit
        edited.write_text(TEST.format(version, version), encoding="utf-8")
        last_edit = time.monotonic()

    def has_run_again() -> bool:
        if time.monotonic() > last_edit + 5:  # the watcher misses an edit in the moment in which a run ends
            edit(2)
        return runs.read_text().endswith("2")

    edit(1)
    with output.open("wb") as file:
        watch = subprocess.Popen(
            # The environment is as it is, even if pyproject.toml was edited since: nothing is to be installed here.
            [make, "--old-file=pyproject.toml", "watch", f"VENV={sys.prefix}"],
            cwd=tmp_path,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: runs.read_text() == "1" or watch.poll() is not None)
        assert watch.poll() is None, output.read_text()
        edit(2)
        wait_for(has_run_again)
    finally:
        os.killpg(watch.pid, signal.SIGTERM)
        watch.wait()
