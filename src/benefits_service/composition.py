"""The composition root: the one place that knows every part, and puts them together by plain calls."""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import Decimal
from functools import partial
from socket import socket

from benefits_core import UseCases
from benefits_http.app import create_app
from benefits_http.openapi import describe
from benefits_service.middleware.frontend import with_frontend
from benefits_service.middleware.identity import authenticate, describe_identity, restrict_to_self
from benefits_service.middleware.metrics import Metrics, describe_metrics
from benefits_service.middleware.request_log import describe_request_ids, observed
from benefits_service.runtime.asgi import ASGIApplication, as_asgi
from benefits_service.runtime.event_loop import on_event_loop
from benefits_service.runtime.writing import Connect, Writer, writing
from benefits_service.settings import Settings
from benefits_sqlite import SqliteStore, audit_database, back_up_database

__all__ = ["audit_database", "back_up_database", "build_app", "open_store", "writing_to"]


def open_store(database: str, *, file: tuple[int, int] | None = None) -> SqliteStore:
    """Return the store over a database file, which is created as needed.

    :param file: if given, the ``identity`` of the store whose very file this has to be.
    :raises StorageUnavailableError: the file can't be used; the message says why.
    """
    return SqliteStore(database, file=file)


def writing_to(store: SqliteStore, opening_balance: Decimal) -> AbstractContextManager[Connect]:
    """Return what writes to a store, for all workers."""
    return writing(UseCases.over(store, opening_balance=opening_balance), store)


def build_app(settings: Settings, end: socket) -> ASGIApplication:
    """Return the application that a worker process serves.

    :param end: the worker's end of its connection to the thread that writes.
    """
    store = open_store(settings.database, file=settings.file)
    metrics = Metrics()
    over = partial(UseCases.over, opening_balance=settings.opening_balance)
    use_cases = metrics.counting_orders(on_event_loop(over, store, Writer(end)))
    document = describe()
    describe_metrics(document)
    describe_request_ids(document)
    if settings.identity_header is not None:
        use_cases = restrict_to_self(use_cases)
        describe_identity(document, settings.identity_header)
    api = create_app(use_cases, cors_origins=settings.cors_origins, document=document)
    if settings.identity_header is not None:
        authenticate(api, settings.identity_header)
    metrics.expose_on(api)
    site = api if settings.frontend is None else with_frontend(api, settings.frontend)
    return as_asgi(observed(site, metrics, log_paths=settings.log_paths))
