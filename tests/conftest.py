"""What holds for all tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_settings_from_outside() -> None:
    """Forget the settings of whoever runs the tests: one of them may name a database of theirs."""
    for name in [name for name in os.environ if name.startswith("BENEFITS_")]:
        del os.environ[name]
