"""The composition root: the one module that knows every part. It composes them by plain constructor calls."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from benefits_core import Store, UseCases
from benefits_core.values import normal_user_id
from benefits_http.app import create_app
from benefits_service.middleware.counts import ReservedCounts
from benefits_service.middleware.frontend import PAGE, PAGE_HEADERS, with_frontend
from benefits_service.middleware.health import show_health
from benefits_service.middleware.identity import add_identity_endpoint, authenticate, restrict_to_self
from benefits_service.middleware.metrics import Metrics
from benefits_service.middleware.proxy import behind_proxy
from benefits_service.middleware.request_log import with_request_log
from benefits_service.openapi import describe_service
from benefits_service.runtime.asgi import ASGIApplication, as_asgi
from benefits_service.runtime.event_loop import on_event_loop
from benefits_service.settings import Settings
from benefits_service.user_ids import folded_user_id, with_folded_user_ids


def build_app(
    settings: Settings, open_store: Callable[[], Store], counts: ReservedCounts | None = None
) -> ASGIApplication:
    """Return the application that a worker process serves.

    :param open_store: opens the store; see :meth:`~benefits_service.databases.Database.opener`.
    :param counts: where the workers count together; without it, there are no metrics.
    """
    store = on_event_loop(open_store())
    joined = None if counts is None else counts.join()
    metrics = Metrics(joined, complete=joined is not None)
    use_cases = UseCases.over(store, opening_balance=settings.opening_balance)
    use_cases = attrs.evolve(use_cases, place_order=metrics.counting_orders(use_cases.place_order))
    if settings.identity_header is not None:
        use_cases = restrict_to_self(use_cases)
    if settings.identity_case_insensitive:
        use_cases = with_folded_user_ids(use_cases)
    document = describe_service(settings.identity_header, case_insensitive=settings.identity_case_insensitive)
    api = create_app(use_cases, cors_origins=settings.cors_origins, document=document)
    if settings.identity_header is not None:
        authenticate(
            api,
            settings.identity_header,
            folded_user_id if settings.identity_case_insensitive else normal_user_id,
        )
    metrics.expose_on(api)
    show_health(api, store.can_change)
    add_identity_endpoint(api)
    if settings.frontend is None:
        site = with_frontend(api, PAGE, PAGE_HEADERS)
    else:
        site = with_frontend(api, settings.frontend)
    logged = with_request_log(site, metrics, log_paths=settings.log_paths)
    return as_asgi(
        behind_proxy(logged, root_path=settings.root_path, trust_forwarded=settings.trust_forwarded)
    )
