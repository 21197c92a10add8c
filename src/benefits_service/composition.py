"""The composition root: the one module that knows every part. It composes them by plain constructor calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

from benefits_core import Store, UseCases
from benefits_http.app import create_app
from benefits_service.middleware.frontend import with_frontend
from benefits_service.middleware.identity import authenticate, restrict_to_self
from benefits_service.middleware.metrics import Metrics
from benefits_service.middleware.request_log import with_request_log
from benefits_service.openapi import describe_service
from benefits_service.runtime.asgi import ASGIApplication, as_asgi
from benefits_service.runtime.event_loop import on_event_loop
from benefits_service.settings import Settings
from benefits_sqlite import SqliteStore, audit_database, back_up_database

__all__ = ["audit_database", "back_up_database", "build_app", "open_store", "store_opener"]


def open_store(database: str) -> SqliteStore:
    """Return the store over a database file, which is created as needed.

    :raises StorageUnavailableError: the file can't be used; the message says why.
    """
    return SqliteStore(database)


def store_opener(database: str) -> Callable[[], Store]:
    """Open the store once, and return how each worker process opens it: over the very same file, or not at all.

    :raises StorageUnavailableError: the file can't be used; the message says why.
    """
    with open_store(database) as store:
        return partial(SqliteStore, database, file_id=store.file_id)


def build_app(settings: Settings, open_store: Callable[[], Store]) -> ASGIApplication:
    """Return the application that a worker process serves.

    :param open_store: opens the store; :func:`store_opener` makes it.
    """
    store = on_event_loop(open_store())
    metrics = Metrics()
    use_cases = UseCases.over(store, opening_balance=settings.opening_balance)
    use_cases = attrs.evolve(use_cases, place_order=metrics.counting_orders(use_cases.place_order))
    if settings.identity_header is not None:
        use_cases = restrict_to_self(use_cases)
    document = describe_service(settings.identity_header)
    api = create_app(use_cases, cors_origins=settings.cors_origins, document=document)
    if settings.identity_header is not None:
        authenticate(api, settings.identity_header)
    metrics.expose_on(api)
    site = api if settings.frontend is None else with_frontend(api, settings.frontend)
    return as_asgi(with_request_log(site, metrics, log_paths=settings.log_paths))
