"""Checks of our own, which Schemathesis loads: what a 400 may say about a request that is valid by its description."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import schemathesis

REFUSALS = [
    {"error": code}
    for code in (
        "products_not_found",
        "products_already_purchased",
        "price_changed",
        "insufficient_balance",
    )
]


@schemathesis.check
def a_valid_order_is_placed_or_refused(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Narrow down what test_openapi.py has to allow, so that no other 400 hides behind it."""
    valid = case.meta is not None and case.meta.generation.mode.is_positive
    if case.operation.label == "POST /orders" and response.status_code in {400, 409} and valid:
        assert response.json() in REFUSALS


@schemathesis.check
def a_valid_list_of_orders_is_refused_for_its_end_only(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Only ``before`` can be wrong in a valid request: it may name no order of the user. That refusal has no detail."""
    valid = case.meta is not None and case.meta.generation.mode.is_positive
    if case.operation.label == "GET /orders" and response.status_code == HTTPStatus.BAD_REQUEST and valid:
        assert response.json() == {"error": "invalid_request"}
        assert "before" in case.query
