"""The error table: how each error of the core is answered over HTTP."""

from __future__ import annotations

from typing import Final

import attrs

from benefits_core import (
    BenefitsError,
    GrantRefusedError,
    InconsistentChangeError,
    InsufficientBalanceError,
    InvalidUserIdError,
    InvalidValueError,
    OrdersNotFoundError,
    PriceChangedError,
    ProductsAlreadyPurchasedError,
    ProductsNotFoundError,
    StorageUnavailableError,
    UsersNotFoundError,
)


@attrs.frozen
class ErrorSpec:
    """How an error is answered: the HTTP status, the stable code for programs, and additional headers."""

    status: int
    code: str
    headers: dict[str, str] = attrs.field(factory=dict)


INVALID_REQUEST: Final = ErrorSpec(400, "invalid_request")
REQUEST_TOO_LARGE: Final = ErrorSpec(413, "request_too_large")
UNSUPPORTED_MEDIA_TYPE: Final = ErrorSpec(415, "unsupported_media_type")
INTERNAL_ERROR: Final = ErrorSpec(500, "internal_error")
# The store has waited for its whole patience already, so a client need not wait long before it tries again.
STORAGE_UNAVAILABLE: Final = ErrorSpec(503, "storage_unavailable", {"Retry-After": "1"})

# The codes of the errors that Flask raises itself: an incomplete body, an unknown path, a wrong method, and a body over
# the limit that a program sets by MAX_CONTENT_LENGTH.
HTTP_CODES: Final = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
}

# A class that is not in the table, such as one that a store derives, is answered as its nearest base class is.
ERROR_SPECS: Final[dict[type[BenefitsError], ErrorSpec]] = {
    BenefitsError: INTERNAL_ERROR,
    ProductsNotFoundError: ErrorSpec(400, "products_not_found"),
    ProductsAlreadyPurchasedError: ErrorSpec(400, "products_already_purchased"),
    PriceChangedError: ErrorSpec(409, "price_changed"),
    InsufficientBalanceError: ErrorSpec(400, "insufficient_balance"),
    InvalidUserIdError: ErrorSpec(400, "invalid_user_id"),
    OrdersNotFoundError: INVALID_REQUEST,  # `before` is not an order of the user; no other request names an order
    UsersNotFoundError: INTERNAL_ERROR,  # only what operators do raises this one
    GrantRefusedError: INTERNAL_ERROR,  # and this one
    InvalidValueError: INTERNAL_ERROR,  # every other value from a client is checked before the core receives it
    InconsistentChangeError: INTERNAL_ERROR,
    StorageUnavailableError: STORAGE_UNAVAILABLE,
}


def error_spec(error: BenefitsError) -> ErrorSpec:
    """Return how an error of the core, or of a class derived from one, is answered."""
    return next(ERROR_SPECS[kind] for kind in type(error).__mro__ if kind in ERROR_SPECS)
