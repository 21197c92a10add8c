"""How many processors this process may use: by its affinity, and by the limits of its control groups, as containers have."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_UNLIMITED: Final = "max"


def usable_processors(root: Path = Path("/")) -> int:
    """Return the number of processors, at least 1. A part of one counts as one.

    :param root: where the system's folders ``proc`` and ``sys`` are.
    """
    by_affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([by_affinity, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the limit of each control group of this process, and of each group around it, in processors."""
    control_groups = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        groups = [PurePosixPath(group), *PurePosixPath(group).parents]
        # A container sees its own group as the root, although its path may be that on the host.
        folders = {str(one).strip("/") for one in groups}
        if controllers == "":  # version 2
            limits = [_read(control_groups / folder / "cpu.max") for folder in folders]
        elif "cpu" in controllers.split(","):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            limits = [
                " ".join(_read(control_groups / "cpu" / folder / name) for name in names)
                for folder in folders
            ]
        else:
            continue
        yield from (quota for limit in limits if (quota := _quota(limit)) is not None)


def _quota(limit: str) -> float | None:
    """Return a limit in processors; it is given as microseconds in each period, and the period."""
    try:
        quota, period = limit.split()
        return None if quota == _UNLIMITED or int(quota) < 0 else int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # there is no such file, or nothing in it
        return None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
