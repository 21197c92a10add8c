"""What whoever runs the service can decide."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Final

import attrs

HOST: Final = "127.0.0.1"
PORT: Final = 4000
DATABASE: Final = "benefits.db"


def default_workers() -> int:
    """Return how many worker processes suit this machine: one for each processor this process may use, up to four.

    One thread writes for all of them, so more workers help those who read.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 4)


@attrs.frozen(kw_only=True)
class Settings:
    """What a worker process is configured by. Each is an option of ``benefits serve`` and a variable ``BENEFITS_...``."""

    opening_balance: Decimal
    cors_origins: tuple[str, ...]
    frontend: Path | None
    identity_header: str | None
    log_paths: bool
