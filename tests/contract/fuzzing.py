"""A check of our own, which Schemathesis loads: of a valid order, a 400 is a refusal and nothing else."""

from __future__ import annotations

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
