"""The README is true: its Python runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.partition("\n")[0])
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=True)


def test_the_first_example_does_the_whole_job_in_under_20_lines() -> None:
    assert len(EXAMPLES[0].splitlines()) < 20
    assert "benefits_sqlite" not in EXAMPLES[0]
    assert "benefits_http" not in EXAMPLES[0]
