"""The application around the blueprint: what it answers when something goes wrong that nobody foresaw."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from flask import abort

from benefits_core import MemoryStore
from benefits_http import create_app


def fail() -> str:
    """Fail in a way that nobody foresaw."""
    raise ZeroDivisionError("secret cause")


def brew() -> str:
    """Refuse with a status that the contract does not know."""
    abort(418)


@pytest.mark.parametrize("view", [fail, brew])
def test_what_nobody_foresaw_is_logged_under_an_id_and_not_told(
    view: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(MemoryStore())
    app.add_url_rule("/surprise", view_func=view)

    response = app.test_client().get("/surprise")

    assert (response.status_code, response.data) == (500, b'{"error":"internal_error"}')
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.getMessage().endswith("failed: GET /surprise")


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(ImportError, match="create_ap"):
        from benefits_http import create_ap  # noqa: F401, PLC0415 - it is not there
