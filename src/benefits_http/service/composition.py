"""The composition root: the one place that knows every part, and puts them together by plain calls."""

from __future__ import annotations

from flask import Flask

from benefits_http.app import create_app
from benefits_http.service.settings import Settings
from benefits_sqlite import SqliteStore, audit_database, back_up_database

__all__ = ["audit_database", "back_up_database", "build_app", "open_store"]


def open_store(database: str) -> SqliteStore:
    """Return the store over a database file, which is created as needed.

    :raises StorageUnavailableError: the file can't be used; the message says why.
    """
    return SqliteStore(database)


def build_app(settings: Settings) -> Flask:
    """Return the application that a worker process serves."""
    return create_app(
        open_store(settings.database),
        opening_balance=settings.opening_balance,
        cors_origins=settings.cors_origins,
    )
