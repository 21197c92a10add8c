"""The error table: every error of the core has a status and a code over HTTP."""

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
    PriceChangedError,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    StorageUnavailableError,
)
from benefits_http.errors import ERROR_SPECS, INTERNAL_ERROR, error_spec

EXAMPLES = [
    (ProductsNotFoundError(("yacht", "jet")), 400, "products_not_found"),
    (ProductsAlreadyPurchasedError(("netflix",)), 400, "products_already_purchased"),
    (InsufficientBalanceError(Decimal(1), Decimal("2.50")), 400, "insufficient_balance"),
    (PriceChangedError(Decimal(1), Decimal("2.50")), 409, "price_changed"),
    (InvalidUserIdError("user_id", "", "a name"), 400, "invalid_user_id"),
    (InvalidValueError("price", 7.5, "a Decimal"), 500, "internal_error"),
    (InconsistentChangeError("lost"), 500, "internal_error"),
    (StorageUnavailableError("disk full"), 503, "storage_unavailable"),
    (BenefitsError("anything else"), 500, "internal_error"),
]


def name(value: object) -> str | None:
    """Return the name of an error or of its class, for the id of a test."""
    if isinstance(value, type):
        return value.__name__
    return type(value).__name__ if isinstance(value, Exception) else None


def errors_of_the_core(root: type[BenefitsError] = BenefitsError) -> set[type[BenefitsError]]:
    """Return every class of error that the core defines."""
    below = {error for kind in root.__subclasses__() for error in errors_of_the_core(kind)}
    return {error for error in {root, *below} if error.__module__.startswith("benefits_core")}


def spec_of_kind(kind: Any) -> object:
    """Return the entry of the table for an error of this class."""
    return error_spec(kind.__new__(kind))


def test_no_error_of_the_core_is_an_internal_error_unless_the_table_says_so() -> None:
    """An error that the table forgets would inherit the status 500 of its base class."""
    inherited = {
        kind for kind in errors_of_the_core() - set(ERROR_SPECS) if spec_of_kind(kind) is INTERNAL_ERROR
    }

    assert inherited == {OrderRefusedError}  # the common base of the refusals, which is never raised itself


@pytest.mark.parametrize(("error", "status", "code"), EXAMPLES, ids=name)
def test_an_error_has_its_status_and_code(error: BenefitsError, status: int, code: str) -> None:
    spec = error_spec(error)

    assert (spec.status, spec.code) == (status, code)


@pytest.mark.parametrize("base", ERROR_SPECS, ids=name)
def test_an_error_of_a_store_is_answered_as_its_nearest_base_class(base: type[BenefitsError]) -> None:
    derived = type("DerivedError", (base,), {"__module__": "some_store"})
    further = type("FurtherError", (derived,), {"__module__": "some_store"})

    assert spec_of_kind(further) is ERROR_SPECS[base]


def test_storage_unavailable_tells_a_client_when_to_retry() -> None:
    assert error_spec(StorageUnavailableError("locked")).headers == {"Retry-After": "1"}


@pytest.mark.parametrize("error", [error for error, _, _ in EXAMPLES], ids=name)
def test_an_error_survives_pickling(error: BenefitsError) -> None:
    """Programs raise it in one process and catch it in another: ``concurrent.futures.ProcessPoolExecutor``."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - it was made here

    assert type(copy) is type(error)
    assert copy.args == error.args
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
