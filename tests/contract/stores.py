"""The stores that the contract is run against. A new store adds one line to STORES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import attrs

from benefits_core import MemoryStore, Store
from benefits_sqlite import SqliteStore


@attrs.frozen
class StoreKind:
    """A way to open a store.

    :param name: what tests are called by.
    :param open: opens the store that a folder holds; what was kept there before is there again, if it is lasting.
    :param lasting: whether what it keeps outlives it, and several processes can share it.
    """

    name: str
    open: Callable[[Path], AbstractContextManager[Store]]
    lasting: bool


@contextmanager
def _memory(_: Path) -> Iterator[Store]:
    yield MemoryStore()


@contextmanager
def _sqlite(folder: Path) -> Iterator[Store]:
    with SqliteStore(folder / "benefits.db") as store:
        yield store


STORES = [
    StoreKind("memory", _memory, lasting=False),
    StoreKind("sqlite", _sqlite, lasting=True),
]

LASTING = [kind for kind in STORES if kind.lasting]
