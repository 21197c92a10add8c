"""A PostgreSQL server that all tests of a process and its children share: a folder of a test stands for a schema."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.errors import UniqueViolation

from postgres_server import MissingServerError, new_server

_URL: Final = "BENEFITS_TEST_SERVER"
_MISSING: Final = "BENEFITS_TEST_SERVER_MISSING"  # why there is none


@contextmanager
def shared_server() -> Iterator[None]:
    """Run the server whose schemas :func:`schema_url` gives to this process and its children, if there is one to run."""
    with ExitStack() as stack:
        try:
            os.environ[_URL] = stack.enter_context(new_server()).url()
        except MissingServerError as error:
            os.environ[_MISSING] = str(error)
        yield
        os.environ.pop(_URL, None)


def schema_url(folder: Path) -> str:
    """Return the URL of the schema of the shared server that stands for a folder. It is created if need be."""
    if _URL not in os.environ:
        pytest.skip(f"there is no PostgreSQL server: {os.environ[_MISSING]}")
    schema = f"folder_{sha256(bytes(folder)).hexdigest()[:32]}"
    # Of two that create it at the same moment, one finds it only when it has created it too.
    with psycopg.connect(os.environ[_URL], autocommit=True) as connection, suppress(UniqueViolation):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}".encode())
    return f"{os.environ[_URL]}&options=-csearch_path%3D{schema}"
