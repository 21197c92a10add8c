"""The stores that the contract is run against. A new store adds one line to STORES, and one to NON_BLOCKING if it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import attrs

from benefits_core import MemoryStore, NonBlockingStore, Store
from benefits_postgres import PostgresStore
from benefits_service.runtime.thread_pool import ThreadPoolStore
from benefits_sqlite import SqliteStore
from postgres_schemas import schema_url

_StoreT_co = TypeVar("_StoreT_co", bound=Store, covariant=True)

PATIENCE = 25.0
"""How long changes wait to begin, in seconds, where a test is not about that: longer than any of them takes."""


class Open(Protocol[_StoreT_co]):
    """Opens the store that a folder holds; what was kept there before is there again, if the store is lasting."""

    def __call__(self, folder: Path, /, *, patience: float = PATIENCE) -> AbstractContextManager[_StoreT_co]:
        """Return the store, as a context manager that closes it."""
        ...


@attrs.frozen
class Kind(Generic[_StoreT_co]):
    """A way to open a store.

    :param name: what tests are called by.
    :param lasting: whether what it keeps outlives it, and several processes can share it.
    """

    name: str
    open: Open[_StoreT_co]
    lasting: bool = False


StoreKind = Kind[Store]
NonBlockingKind = Kind[NonBlockingStore]


@contextmanager
def _memory(_: Path, *, patience: float = PATIENCE) -> Iterator[MemoryStore]:
    yield MemoryStore(patience=patience)


@contextmanager
def _sqlite(folder: Path, *, patience: float = PATIENCE) -> Iterator[SqliteStore]:
    with SqliteStore(folder / "benefits.db", patience=patience) as store:
        yield store


@contextmanager
def _postgres(folder: Path, *, patience: float = PATIENCE) -> Iterator[PostgresStore]:
    with PostgresStore(schema_url(folder), patience=patience) as store:
        yield store


@contextmanager
def _threads(_: Path, *, patience: float = PATIENCE) -> Iterator[ThreadPoolStore]:
    with closing(ThreadPoolStore(MemoryStore(patience=patience), patience=patience)) as store:
        yield store


STORES: list[StoreKind] = [
    Kind("memory", _memory),
    Kind("sqlite", _sqlite, lasting=True),
    Kind("postgres", _postgres, lasting=True),
]
NON_BLOCKING: list[NonBlockingKind] = [
    Kind("sqlite", _sqlite, lasting=True),
    Kind("postgres", _postgres, lasting=True),
    Kind("threads", _threads),
]

LASTING = [kind for kind in STORES if kind.lasting]
