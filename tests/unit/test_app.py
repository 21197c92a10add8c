"""The application around the blueprint: what nobody foresaw, pages of other origins, the wish for a WebSocket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import pytest
from flask import abort

from benefits_core import MemoryStore, UseCases
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
    app = create_app(UseCases.over(MemoryStore()))
    app.add_url_rule("/surprise", view_func=view)

    response = app.test_client().get("/surprise")

    assert (response.status_code, response.data) == (500, b'{"error":"internal_error"}')
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.getMessage().endswith("failed: GET /surprise")


def test_flask_cors_looks_at_no_error_of_a_request_that_comes_from_no_page() -> None:
    """By itself it puts its own functions in the place of these, and looks at every error twice."""
    assert (
        not {"handle_exception", "handle_user_exception"}
        & vars(create_app(UseCases.over(MemoryStore()))).keys()
    )


class TestOrigins:
    @staticmethod
    def allowed(origins: Iterable[str], origin: str) -> str | None:
        """Return which origin a browser is told may read the answer, if one sends this."""
        client = create_app(UseCases.over(MemoryStore()), cors_origins=origins).test_client()
        answer = client.get("/products", headers={"Origin": origin})
        assert answer.status_code == 200
        allowed: str | None = answer.headers.get("Access-Control-Allow-Origin")
        return allowed

    @pytest.mark.parametrize("origin", ["https://benefits.example.com", "http://localhost:3000"])
    def test_each_of_several_origins_may_call(self, origin: str) -> None:
        assert self.allowed(["https://benefits.example.com", "http://localhost:3000"], origin) == origin

    @pytest.mark.parametrize(
        "origin",
        [
            "https://elsewhere.example.com",
            "http://benefits.example.com",
            "https://benefits.example.com:8443",
            "https://benefits.example.com.elsewhere.example",
            "https://benefits-example.com",
            "null",
        ],
    )
    def test_no_other_may(self, origin: str) -> None:
        assert self.allowed(["https://benefits.example.com", "http://localhost:3000"], origin) is None

    def test_with_a_star_all_may(self) -> None:
        assert self.allowed(["*"], "https://anywhere.example") == "*"

    def test_with_none_nobody_may(self) -> None:
        assert self.allowed([], "http://localhost:3000") is None

    @pytest.mark.parametrize(
        ("origins", "named"),
        [
            ("https://benefits.example.com", "'h'"),
            (["https://.*"], r"'https://\.\*'"),
            ([r"https://benefits\.example\.com"], "https://benefits"),
            (["http://localhost:3000", "localhost:3000"], "'localhost:3000'"),
            (["https://benefits.example.com/"], "'https://benefits.example.com/'"),
            ([""], "''"),
        ],
    )
    def test_what_is_no_origin_is_refused(self, origins: Iterable[str], named: str) -> None:
        """A bare string is a mistake that is easily made; each of its letters would be an origin."""
        with pytest.raises(ValueError, match=f"{named}.* is not an origin"):
            create_app(UseCases.over(MemoryStore()), cors_origins=origins)

    @pytest.mark.parametrize("path", ["/orders", "/api/products", "/users/jo"])
    def test_a_browser_that_asks_is_told_exactly_the_methods_of_the_api(self, path: str) -> None:
        client = create_app(UseCases.over(MemoryStore())).test_client()

        answer = client.options(
            path, headers={"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
        )

        assert answer.status_code == 200
        methods = answer.headers["Access-Control-Allow-Methods"].split(", ")
        assert sorted(methods) == ["GET", "HEAD", "POST"]


def test_the_wish_for_a_websocket_is_ignored() -> None:
    client = create_app(UseCases.over(MemoryStore())).test_client()

    answer = client.get("/products", headers={"Connection": "Upgrade", "Upgrade": "websocket"})

    assert (answer.status_code, answer.json) == (200, {"products": []})
