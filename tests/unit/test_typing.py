"""The packages show their types to the programs that import them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_mypy_sees_the_public_types_in_another_project(tmp_path: Path) -> None:
    """``make lint`` checks the same module with this project's settings; here the packages are installed ones.

    An untyped name is ``Any``, and ``assert_type`` fails. So does the import of a package without ``py.typed``.
    """
    program = tmp_path / "public_types.py"
    program.write_bytes((ROOT / "tests" / "public_types.py").read_bytes())
    cache = ROOT / ".mypy_cache" / "another_project"

    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", program.name]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.stdout == "Success: no issues found in 1 source file\n"
