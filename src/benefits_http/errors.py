"""The error table: which code and status each error of the core has over HTTP."""

from __future__ import annotations

from typing import Final

import attrs

from benefits_core import (
    BenefitsError,
    InconsistentChangeError,
    InsufficientBalanceError,
    InvalidUserIdError,
    InvalidValueError,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    StorageUnavailableError,
)


@attrs.frozen
class Answer:
    """How something is said over HTTP: the status, the stable code that programs look at, and headers of its own."""

    status: int
    code: str
    headers: dict[str, str] = attrs.field(factory=dict)


INVALID_REQUEST: Final = Answer(400, "invalid_request")
TOO_LARGE: Final = Answer(413, "request_too_large")
UNSUPPORTED_MEDIA_TYPE: Final = Answer(415, "unsupported_media_type")
UNFORESEEN: Final = Answer(500, "internal_error")
# A unit of work has waited some seconds for its turn by then; one more, and it is worth another try.
UNAVAILABLE: Final = Answer(503, "storage_unavailable", {"Retry-After": "1"})

# What Flask raises by itself: a body that its client never finished, no such path, not that method.
HTTP_CODES: Final = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed"}

# A store may derive its own errors from these; a kind that isn't here is answered as its base is.
ANSWERS: Final[dict[type[BenefitsError], Answer]] = {
    BenefitsError: UNFORESEEN,
    ProductsNotFoundError: Answer(400, "products_not_found"),
    ProductsAlreadyPurchasedError: Answer(400, "products_already_purchased"),
    InsufficientBalanceError: Answer(400, "insufficient_balance"),
    InvalidUserIdError: Answer(400, "invalid_user_id"),
    InvalidValueError: UNFORESEEN,  # what clients send is checked before it gets that far
    InconsistentChangeError: UNFORESEEN,
    StorageUnavailableError: UNAVAILABLE,
}


def answer_to(error: BenefitsError) -> Answer:
    """Return what an error of the core, or one that a store derives from it, is over HTTP."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
