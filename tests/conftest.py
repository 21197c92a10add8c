"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from postgres_schemas import shared_server

# One profile for every test, on every machine. Examples have no deadline and may be slow to generate, since a busy machine
# is no failure. Every run explores other examples; a failure prints the line that reproduces it. Hypothesis by itself would
# repeat the same examples for ever where the environment variable CI is set.
settings.register_profile(
    "benefits",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=False,
    print_blob=True,
)
settings.load_profile("benefits")


@pytest.fixture(autouse=True, scope="session")
def no_settings_from_outside() -> None:
    """Remove settings, and those of the Makefile, from the environment: one of them may name a real database."""
    for name in [name for name in os.environ if name.startswith("BENEFITS_") or name in {"DATABASE", "PORT"}]:
        del os.environ[name]


@pytest.fixture(scope="session")
def postgres_server(no_settings_from_outside: None) -> Iterator[None]:  # noqa: ARG001 - its environment variable would go
    """Run the server in which ``postgres_schemas.schema_url`` finds a schema for each folder of a test."""
    with shared_server():
        yield
