"""Fixtures: every store in turn, a client of the API over it, and a database with a catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from benefits_core import Store, UseCases
from benefits_http import create_app
from contract.builders import stocked
from contract.running import seed
from contract.stores import STORES, StoreKind


@pytest.fixture(scope="session", autouse=True)
def _postgres_server(postgres_server: None) -> None:
    """Start the server before any process of a test can need it."""


@pytest.fixture(params=STORES, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    """Return each kind of store in turn."""
    found: StoreKind = request.param
    return found


@pytest.fixture
def store(kind: StoreKind, tmp_path: Path) -> Iterator[Store]:
    """Return an empty store of each kind."""
    with kind.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database with the catalogue of seed.json."""
    path = tmp_path / "benefits.db"
    seed(path)
    return path


@pytest.fixture(params=["", "/api"])
def prefix(request: pytest.FixtureRequest) -> str:
    """Return where the API is called: the React frontend uses the root."""
    found: str = request.param
    return found


@pytest.fixture
def client(store: Store) -> Iterator[FlaskClient]:
    """Return a client of the application over a stocked store."""
    with create_app(UseCases.over(stocked(store))).test_client() as opened:
        yield opened
