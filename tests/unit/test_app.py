"""The application around the blueprint: unexpected errors, CORS, and routing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import pytest
from flask import abort, url_for
from werkzeug.test import create_environ, run_wsgi_app

from benefits_core import MemoryStore, UseCases
from benefits_http import create_app
from benefits_http.app import _Application
from benefits_http.blueprint import REQUEST_ID


def fail() -> str:
    """Raise an unexpected error."""
    raise ZeroDivisionError("secret cause")


def brew() -> str:
    """Abort with a status that the error table does not contain."""
    abort(418)


@pytest.mark.parametrize("view", [fail, brew])
def test_an_unexpected_error_is_logged_with_its_request_and_hidden_from_the_client(
    view: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(UseCases.over(MemoryStore()))
    app.add_url_rule("/surprise/<name>", view_func=lambda name: view())  # noqa: ARG005 - it is not for the log

    response = app.test_client().get("/surprise/jo", environ_overrides={REQUEST_ID: "request-7"})

    assert (response.status_code, response.data) == (500, b'{"error":"internal_error"}')
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.getMessage() == "request request-7 failed: GET /surprise/<name>"


@pytest.mark.parametrize("view", [fail, brew])
def test_an_error_has_cors_headers_too(view: Callable[[], str]) -> None:
    app = create_app(UseCases.over(MemoryStore()))
    app.add_url_rule("/surprise", view_func=view)

    response = app.test_client().get("/surprise", headers={"Origin": "http://localhost:3000"})

    assert response.status_code == 500
    assert response.headers.getlist("Access-Control-Allow-Origin") == ["http://localhost:3000"]
    assert response.headers.getlist("Vary") == ["Origin"]
    assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"]


def test_a_body_over_the_limit_of_the_flask_setting_is_too_large() -> None:
    app = create_app(UseCases.over(MemoryStore()))
    app.config["MAX_CONTENT_LENGTH"] = 20

    response = app.test_client().post("/orders", json={"order": {"items": ["netflix"], "user_id": "jo"}})

    assert (response.status_code, response.json) == (413, {"error": "request_too_large"})


class TestOrigins:
    @staticmethod
    def allowed(origins: Iterable[str], origin: str) -> str | None:
        """Return the origin that the response allows to read it, for a request from an origin."""
        client = create_app(UseCases.over(MemoryStore()), cors_origins=origins).test_client()
        response = client.get("/products", headers={"Origin": origin})
        assert response.status_code == 200
        assert response.headers.getlist("Vary") == ["Origin"]
        allowed: str | None = response.headers.get("Access-Control-Allow-Origin")
        return allowed

    @pytest.mark.parametrize("origin", ["https://benefits.example.com", "http://localhost:3000"])
    def test_each_of_several_origins_is_allowed(self, origin: str) -> None:
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
            "",
        ],
    )
    def test_any_other_origin_is_not_allowed(self, origin: str) -> None:
        assert self.allowed(["https://benefits.example.com", "http://localhost:3000"], origin) is None

    def test_a_star_allows_every_origin(self) -> None:
        assert self.allowed(["*"], "https://anywhere.example") == "*"

    def test_an_empty_list_allows_no_origin(self) -> None:
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
    def test_an_invalid_origin_is_refused(self, origins: Iterable[str], named: str) -> None:
        """A string instead of a list is an easy mistake: each of its characters would be an origin."""
        with pytest.raises(ValueError, match=f"{named}.* is not an origin"):
            create_app(UseCases.over(MemoryStore()), cors_origins=origins)

    @pytest.mark.parametrize("path", ["/orders", "/api/products", "/users/jo"])
    def test_a_preflight_allows_exactly_the_methods_and_headers_of_the_api(self, path: str) -> None:
        client = create_app(UseCases.over(MemoryStore())).test_client()

        response = client.options(
            path,
            headers={
                "Origin": "http://localhost:3000",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type, x-secret",
            },
        )

        assert response.status_code == 200
        methods = response.headers["Access-Control-Allow-Methods"].split(", ")
        assert sorted(methods) == ["GET", "HEAD", "POST"]
        assert response.headers["Access-Control-Allow-Headers"] == "content-type"
        assert response.headers.getlist("Vary") == ["Origin"]
        assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"]


class TestRouting:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Connection": "Upgrade", "Upgrade": "websocket"},
            {"Host": "elsewhere.example"},
            {"Host": "not a host"},
        ],
        ids=["a WebSocket handshake", "another host", "an invalid host"],
    )
    def test_neither_the_host_nor_a_websocket_handshake_changes_the_route(
        self, headers: dict[str, str]
    ) -> None:
        app = create_app(UseCases.over(MemoryStore()))
        app.config["SERVER_NAME"] = "benefits.example.com"

        response = app.test_client().get("/products", headers=headers)

        assert (response.status_code, response.json) == (200, {"products": []})

    @pytest.mark.parametrize("prefix", ["", "/api"])
    def test_a_program_can_add_a_route_below_one_of_the_api(self, prefix: str) -> None:
        app = create_app(UseCases.over(MemoryStore()))
        with app.test_request_context("/api/users/me"):
            pass  # the rules of the API are in use already
        app.add_url_rule(f"{prefix}/users/me", view_func=lambda: "theirs", endpoint="me")
        client = app.test_client()

        assert client.get(f"{prefix}/users/me").text == "theirs"
        assert client.get(f"{prefix}/users/jo").json == {
            "user": {"user_id": "jo", "data": {"balance": 500, "product_ids": []}}
        }

    @pytest.mark.parametrize("prefix", ["", "/api"])
    def test_a_path_leads_to_the_same_rule_again(self, prefix: str) -> None:
        client = create_app(UseCases.over(MemoryStore())).test_client()
        for name in ("jo", "a/b", "%C3%A9", "jo"):
            read = client.get(f"{prefix}/users/{name}")
            assert read.get_json()["user"]["user_id"] == {"%C3%A9": "\xe9"}.get(name, name)
            assert client.get(f"{prefix}/products").json == {"products": []}
            assert client.post(f"{prefix}/users/{name}").json == {"error": "method_not_allowed"}
            for path in (f"{prefix}/users/a//{name}", f"{prefix}/users//{name}", f"{prefix}/users/{name}/"):
                assert client.get(path).json == {"error": "not_found"}

    def test_the_rules_that_are_remembered_are_few(self) -> None:
        app = create_app(UseCases.over(MemoryStore()))
        assert isinstance(app, _Application)
        for number in range(20):
            app.test_client().get(f"/users/user-{number}")
            app.test_client().get(f"/nothing/{number}")
            app.test_client().get("/products")

        assert (set(app.fixed_rules), set(app.user_rules)) == ({("GET", "/products")}, {"/users/"})

    def test_a_path_of_a_program_is_not_taken_for_a_user(self) -> None:
        app = create_app(UseCases.over(MemoryStore()))
        app.add_url_rule("/users/me", view_func=lambda: "theirs", endpoint="me")
        client = app.test_client()

        assert client.get("/users/jo").get_json()["user"]["user_id"] == "jo"
        assert client.get("/users/me").text == "theirs"

    def test_a_rule_of_a_program_keeps_its_defaults(self) -> None:
        app = create_app(UseCases.over(MemoryStore()))

        def friend(user_id: str, greeting: str) -> str:
            return f"{greeting}, {user_id}"

        app.add_url_rule("/friends/<benefits_user:user_id>", view_func=friend, defaults={"greeting": "Hello"})

        assert [app.test_client().get("/friends/jo").text for _ in "ab"] == ["Hello, jo"] * 2

    def test_a_router_matches_other_paths_than_that_of_its_request(self) -> None:
        app = create_app(UseCases.over(MemoryStore()))
        with app.test_request_context("/products") as context:
            adapter = context.url_adapter

        assert adapter is not None
        assert adapter.match("/users/jo") == ("benefits_at_root.user", {"user_id": "jo"})

    def test_urls_start_with_the_path_that_a_server_mounts_the_application_at(self) -> None:
        app = create_app(UseCases.over(MemoryStore()))
        app.add_url_rule("/link", view_func=lambda: url_for("benefits.user", user_id="jo"), endpoint="link")

        response = app.test_client().get("/link", environ_overrides={"SCRIPT_NAME": "/perks"})

        assert response.text == "/perks/api/users/jo"

    def test_a_request_without_a_path_is_not_found(self) -> None:
        """WSGI allows a server to omit an empty ``PATH_INFO``."""
        environ = create_environ(method="GET")
        del environ["PATH_INFO"]

        _, status, _ = run_wsgi_app(create_app(UseCases.over(MemoryStore())), environ)

        assert status == "404 NOT FOUND"
