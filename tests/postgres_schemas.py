"""A PostgreSQL server that all tests of a process and its children share: a folder of a test stands for a schema."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import psycopg

from postgres_server import new_server

_URL: Final = "BENEFITS_TEST_SERVER"


@contextmanager
def shared_server() -> Iterator[None]:
    """Run the server whose schemas :func:`schema_url` gives to this process and its children."""
    with new_server() as server:
        os.environ[_URL] = server.url()
        yield
        del os.environ[_URL]


def schema_url(folder: Path) -> str:
    """Return the URL of the schema of the shared server that stands for a folder. It is created if need be."""
    schema = f"folder_{sha256(bytes(folder)).hexdigest()[:32]}"
    with psycopg.connect(os.environ[_URL], autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}".encode())
    return f"{os.environ[_URL]}&options=-csearch_path%3D{schema}"
