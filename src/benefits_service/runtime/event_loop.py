"""Use cases on an event loop: reading waits for nobody, so the loop does it; what changes something is left to the writer.

It reads with one look at the file for all who have come meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import attrs

from benefits_core import Store, UnitOfWork, UseCases, User
from benefits_core.ports import OrderReader, ProductReader, UserReader, View
from benefits_service.runtime.writing import Writer


class Snapshot(View, Protocol):
    """A store as it stood at one moment."""

    def close(self) -> None:
        """Let the moment go."""
        ...


class SnapshotStore(Store, Protocol):
    """A store that can be read once for many."""

    def snapshot(self) -> Snapshot:
        """Return the store as it stands now."""
        ...


def on_event_loop(over: Callable[[Store], UseCases], store: SnapshotStore, writer: Writer) -> UseCases:
    """Return use cases for an event loop, to be called by what a ``Suspendable`` calls.

    :param over: returns use cases over a store.
    :param store: where to read.
    :param writer: who does what changes something.
    """
    here = over(_ReadOnly(store))

    def get_user(user_id: str) -> User:
        try:
            return here.get_user(user_id)
        except _ReadOnlyError:  # somebody new
            user: User = writer.do("get_user", user_id)
            return user

    def ping() -> None:
        writer.ping()
        here.ping()

    return attrs.evolve(here, get_user=get_user, place_order=partial(writer.do, "place_order"), ping=ping)


class _ReadOnlyError(Exception):
    """Something wants to change what can only be read here."""


class _ReadOnly:
    """A store as far as it waits for nobody, looked at once in each turn of the event loop."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._snapshot: Snapshot | None = None
        self.ping = store.ping

    @property
    def users(self) -> UserReader:
        return self._now().users

    @property
    def products(self) -> ProductReader:
        return self._now().products

    @property
    def orders(self) -> OrderReader:
        return self._now().orders

    def _now(self) -> Snapshot:
        if self._snapshot is None:
            # Before it is taken: so whoever is told what it holds stood before this in the loop's queue, had asked before it was
            # taken, and misses nothing that was kept when they asked.
            asyncio.get_running_loop().call_soon(self._let_go)
            self._snapshot = self._store.snapshot()
        return self._snapshot

    def _let_go(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()

    def unit_of_work(self) -> AbstractContextManager[UnitOfWork]:
        raise _ReadOnlyError
