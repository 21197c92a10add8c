"""How many processors a process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from benefits_service.processors import usable_processors
from contract.faults import require
from waiting import A_LONG_TIME

ONE = min(os.sched_getaffinity(0))
MANY = 10_000

QUESTION = [
    sys.executable,
    "-c",
    "from benefits_service.processors import usable_processors; print(usable_processors())",
]


def write(root: Path, files: dict[str, str]) -> None:
    """Write the files of a system."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have many processors, so that limits count."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)), raising=False)


@pytest.mark.parametrize(
    ("limit", "processors"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("250000 100000", 3),
        ("1000 100000", 1),
        ("max 100000", MANY),
        ("", MANY),
        ("100000 0", MANY),
        ("nonsense", MANY),
    ],
)
def test_a_limit_of_version_2_counts_and_a_part_of_a_processor_is_one(
    tmp_path: Path, limit: str, processors: int
) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": limit})

    assert usable_processors(tmp_path) == processors


@pytest.mark.parametrize(("quota", "processors"), [("50000", 1), ("300000", 3), ("-1", MANY), ("", MANY)])
def test_a_limit_of_version_1_counts(tmp_path: Path, quota: str, processors: int) -> None:
    lines = "4:memory:/\n2:cpu,cpuacct:/docker/1\n0::/"
    folder = "sys/fs/cgroup/cpu/docker/1"
    write(
        tmp_path,
        {
            "proc/self/cgroup": lines,
            f"{folder}/cpu.cfs_quota_us": quota,
            f"{folder}/cpu.cfs_period_us": "100000",
        },
    )

    assert usable_processors(tmp_path) == processors


def test_the_smallest_limit_of_the_groups_around_it_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/container",
            "sys/fs/cgroup/pod/cpu.max": "200000 100000",
            "sys/fs/cgroup/pod/container/cpu.max": "400000 100000",
        },
    )

    assert usable_processors(tmp_path) == 2


def test_a_container_finds_its_limit_although_its_path_is_that_of_the_host(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/docker/1", "sys/fs/cgroup/cpu.max": "200000 100000"})

    assert usable_processors(tmp_path) == 2


def test_without_control_groups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_processors(tmp_path) == MANY
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_processors(tmp_path) == os.cpu_count()


def ask(*before: str) -> int:
    """Return what another process answers."""
    done = subprocess.run(
        [*before, *QUESTION], capture_output=True, text=True, timeout=A_LONG_TIME, check=True
    )
    return int(done.stdout)


def test_a_process_that_is_bound_to_one_processor_uses_one() -> None:
    assert ask("taskset", "--cpu-list", str(ONE)) == 1


@pytest.fixture
def group() -> Iterator[Path]:
    """Return a control group with a limit of half a processor."""
    found = [folder for folder in map(Path, ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup")) if folder.is_dir()]
    require(found and os.access(found[0], os.W_OK), "this test needs the right to make control groups")
    made = found[0] / f"benefits-test-{uuid4().hex}"
    try:
        made.mkdir()
        if (made / "cpu.cfs_quota_us").exists():
            (made / "cpu.cfs_quota_us").write_text("50000")
        else:
            (made / "cpu.max").write_text("50000 100000")
    except OSError as error:
        require(condition=False, reason=f"this test needs the right to make control groups: {error}")
    yield made
    made.rmdir()


def test_a_process_with_half_a_processor_uses_one(group: Path) -> None:
    join = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'
    assert ask("sh", "-c", join, "sh", str(group)) == 1
