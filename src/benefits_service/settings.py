"""The settings of the service, and their defaults."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

import attrs

from benefits_service.processors import usable_processors

HOST: Final = "127.0.0.1"
PORT: Final = 4000
DATABASE: Final = "benefits.db"


def default_workers() -> int:
    """Return the default number of worker processes: one for each usable processor, at most four.

    More workers serve more reads. They hardly serve more orders: only one process writes to the database at a time.
    """
    return min(usable_processors(), 4)


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a worker process. Each is an option of ``benefits serve`` and a variable ``BENEFITS_...``."""

    opening_balance: Decimal
    cors_origins: tuple[str, ...]
    frontend: Path | None
    identity_header: str | None
    identity_case_insensitive: bool = False
    log_paths: bool
    root_path: str = ""
    trust_forwarded: bool = False
