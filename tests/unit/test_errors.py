"""The errors of the core: every one has its answer over HTTP, and survives the way to another process."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import pytest

from benefits_core import (
    BenefitsError,
    InconsistentChangeError,
    InsufficientBalanceError,
    InvalidUserIdError,
    InvalidValueError,
    OrderRefusedError,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    StorageUnavailableError,
)
from benefits_http.errors import ANSWERS, answer_to


def _errors_of_the_core(root: type[BenefitsError] = BenefitsError) -> set[type[BenefitsError]]:
    below = {error for kind in root.__subclasses__() for error in _errors_of_the_core(kind)}
    return {error for error in {root, *below} if error.__module__.startswith("benefits_core")}


def test_every_error_of_the_core_has_its_own_answer() -> None:
    """A new one, that nobody thought of here, would be answered as an internal error."""
    # An order is always refused for one of three reasons; the word for all of them is never raised itself.
    assert set(ANSWERS) == _errors_of_the_core() - {OrderRefusedError}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ProductsNotFoundError(("yacht",)), 400, "products_not_found"),
        (ProductsAlreadyPurchasedError(("netflix",)), 400, "products_already_purchased"),
        (InsufficientBalanceError(Decimal(1), Decimal(2)), 400, "insufficient_balance"),
        (InvalidUserIdError("user_id", "", "a name"), 400, "invalid_user_id"),
        (InvalidValueError("price", 7.5, "a Decimal"), 500, "internal_error"),
        (InconsistentChangeError("lost"), 500, "internal_error"),
        (StorageUnavailableError("disk full"), 503, "storage_unavailable"),
        (BenefitsError("anything else"), 500, "internal_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_is_answered_with_its_status_and_code(error: BenefitsError, status: int, code: str) -> None:
    answer = answer_to(error)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("base", ANSWERS, ids=lambda kind: kind.__name__)
def test_an_error_that_a_store_derives_is_answered_as_its_base_is(base: type[BenefitsError]) -> None:
    derived = type("DerivedError", (base,), {"__module__": "some_store"})
    further: Any = type("FurtherError", (derived,), {"__module__": "some_store"})
    assert answer_to(further.__new__(further)) is ANSWERS[base]


def test_a_client_is_told_when_to_come_back_to_a_store_that_could_not_serve() -> None:
    assert answer_to(StorageUnavailableError("locked")).headers == {"Retry-After": "1"}


EXAMPLES = [
    BenefitsError("anything else"),
    InvalidValueError("price", 7.5, "a Decimal"),
    InvalidUserIdError("user_id", "", "a name"),
    OrderRefusedError("for a reason"),
    ProductsNotFoundError(("yacht", "jet")),
    ProductsAlreadyPurchasedError(("netflix",)),
    InsufficientBalanceError(Decimal(1), Decimal("2.50")),
    InconsistentChangeError("lost"),
    StorageUnavailableError("disk full"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: BenefitsError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - it was made here

    assert type(copy) is type(error)
    assert copy.args == error.args
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_there_is_an_example_of_each() -> None:
    assert {type(error) for error in EXAMPLES} == _errors_of_the_core()
