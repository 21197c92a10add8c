"""A client whose requests run on an event loop, as the service's do, and are logged and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from werkzeug.test import Client, TestResponse

from benefits_core import MemoryStore, UseCases
from benefits_http import create_app
from benefits_service.middleware.metrics import Metrics
from benefits_service.middleware.request_log import with_request_log
from contract.builders import stocked

_Result = TypeVar("_Result")


def run_on_loop(function: Callable[[], _Result]) -> _Result:
    """Call a function on an event loop, and run what it has scheduled there."""

    async def call() -> _Result:
        result = function()
        await asyncio.sleep(0)
        return result

    return asyncio.run(call())


class LoopClient(Client):
    """A client that sends each request on an event loop."""

    def open(self, *request: Any, **options: Any) -> TestResponse:
        return run_on_loop(lambda: super(LoopClient, self).open(*request, **options))


def logged_client(*, log_paths: bool = False, use_cases: UseCases | None = None) -> LoopClient:
    """Return a client of an API with its request log and metrics."""
    metrics = Metrics()
    inner = use_cases or UseCases.over(stocked(MemoryStore()))
    app = create_app(attrs.evolve(inner, place_order=metrics.counting_orders(inner.place_order)))
    metrics.expose_on(app)
    return LoopClient(with_request_log(app, metrics, log_paths=log_paths))
