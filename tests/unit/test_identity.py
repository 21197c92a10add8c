"""Identity: the header lines that name a user, and the responses with and without one."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benefits_core import MemoryStore, UseCases
from benefits_http import create_app
from benefits_http.openapi import Document
from benefits_service.middleware.identity import (
    add_identity_endpoint,
    authenticate,
    named_user,
    require_header_name,
    restrict_to_self,
)
from benefits_service.middleware.metrics import Metrics
from benefits_service.openapi import describe_service
from benefits_service.user_ids import folded_user_id, with_folded_user_ids
from contract.builders import NETFLIX, order, stocked

HEADER = "X-Forwarded-User"


@pytest.mark.parametrize(
    ("line", "user_id"),
    [
        ((b"x-forwarded-user", b"johndoe"), "johndoe"),
        ((b"X-FORWARDED-USER", b"johndoe"), "johndoe"),
        ((b"x-forwarded-user", "José".encode()), "José"),
        ((b"x-forwarded-user", "Jose\N{COMBINING ACUTE ACCENT}".encode()), "José"),
        ((b"x-forwarded-user", b" John Doe "), "John Doe"),
        ((b"x-forwarded-user", b"a/b"), "a/b"),
    ],
)
def test_the_header_names_the_user(line: tuple[bytes, bytes], user_id: str) -> None:
    other_lines = [(b"host", b"x"), (b"x-forwarded-user-email", b"a@b.example"), (b"x_forwarded_users", b"x")]

    assert named_user([*other_lines, line], HEADER) == user_id


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [(b"x-forwarded-user", b"")],
        [(b"x-forwarded-user", b"  ")],
        [(b"x-forwarded-user", b"johndoe"), (b"x-forwarded-user", b"johndoe")],
        [(b"x-forwarded-user", b"johndoe,admin")],
        [(b"x_forwarded_user", b"johndoe")],
        [(b"x-forwarded_user", b"johndoe")],
        [(b"X_Forwarded_User", b"admin"), (b"X-Forwarded-User", b"johndoe")],
        [(b"x-forwarded-user", b"johndoe"), (b"x_forwarded-user", b"")],
        [(b"x-forwarded-user", "José".encode("latin-1"))],
        [(b"x-forwarded-user", "José".encode("utf-16"))],
        [(b"x-forwarded-user", b"john\tdoe")],
        [(b"x-forwarded-user", b"x" * 65)],
        [(b"forwarded-user", b"johndoe")],
        [(b"remote-user", b"johndoe"), (b"authorization", b"Basic am9obmRvZTp4")],
    ],
    ids=repr,
)
def test_missing_ambiguous_and_invalid_headers_name_no_user(lines: list[tuple[bytes, bytes]]) -> None:
    assert named_user(lines, HEADER) is None


@pytest.mark.parametrize("name", ["X-Forwarded-User", "Remote-User", "remote", "X-2"])
def test_a_valid_header_name_is_returned_unchanged(name: str) -> None:
    assert require_header_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "X_Forwarded_User", "X-Forwarded-User:", "a b", "Nutzer-\N{LATIN SMALL LETTER U WITH DIAERESIS}"],
)
def test_an_ambiguous_or_invalid_header_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a header name"):
        require_header_name(name)


@pytest.mark.parametrize("name", ["Content-Length", "HOST", "authorization", "X-Request-ID", "Origin"])
def test_a_header_with_another_meaning_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="has another meaning"):
        require_header_name(name)


@pytest.fixture
def store() -> MemoryStore:
    filled = MemoryStore()
    stocked(filled)
    return filled


@pytest.fixture
def app(store: MemoryStore) -> Flask:
    application = create_app(restrict_to_self(UseCases.over(store)))
    authenticate(application, HEADER)
    return application


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def send(client: FlaskClient, method: str, path: str, *names: str, **options: Any) -> TestResponse:
    """Send a request with one header line for each name."""
    headers = [(b"x-forwarded-user", name.encode()) for name in names]
    return client.open(path, method=method, environ_overrides={"asgi.scope": {"headers": headers}}, **options)


def status_and_error(response: TestResponse) -> tuple[int, str]:
    body: dict[str, str] = response.get_json()
    return response.status_code, body["error"]


def test_a_user_id_in_another_unicode_form_is_the_same_user(client: FlaskClient) -> None:
    response = send(client, "GET", "/api/users/Jose%CC%81", "José")

    assert response.get_json()["user"]["user_id"] == "José"


def test_users_order_for_themselves(client: FlaskClient, store: MemoryStore) -> None:
    order = {"order": {"items": ["netflix"], "user_id": " johndoe "}}

    assert send(client, "POST", "/orders", "johndoe", json=order).status_code == 200
    [placed] = store.orders.of_user("johndoe")
    assert placed.total == NETFLIX.price


@pytest.mark.parametrize("names", [[], ["johndoe", "johndoe"]])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/users/johndoe"), ("HEAD", "/api/users/johndoe"), ("GET", "/users"), ("POST", "/orders")],
)
def test_without_an_identity_the_response_is_401_and_no_user_is_created(
    client: FlaskClient, store: MemoryStore, method: str, path: str, names: list[str]
) -> None:
    response = send(client, method, path, *names)

    assert response.status_code == 401
    assert response.data == (b"" if method == "HEAD" else b'{"error":"unauthenticated"}')
    assert "WWW-Authenticate" in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert store.users.get("johndoe") is None


def test_reading_another_user_is_403_and_creates_no_user(client: FlaskClient, store: MemoryStore) -> None:
    response = send(client, "GET", "/users/boss", "johndoe")

    assert (response.status_code, response.data) == (403, b'{"error":"forbidden"}')
    assert store.users.get("boss") is None
    assert store.users.get("johndoe") is None


def test_an_order_for_another_user_is_403_and_is_not_placed(client: FlaskClient, store: MemoryStore) -> None:
    order = {"order": {"items": ["netflix"], "user_id": "boss"}}
    response = send(client, "POST", "/orders", "johndoe", json=order)

    assert (response.status_code, response.data) == (403, b'{"error":"forbidden"}')
    assert store.users.get("boss") is None
    assert store.orders.of_user("boss") == ()


@pytest.mark.parametrize("path", ["/products", "/api/products", "/healthz", "/api/healthz"])
def test_public_endpoints_need_no_identity(client: FlaskClient, path: str) -> None:
    assert send(client, "GET", path).status_code == 200


def test_a_preflight_needs_no_identity(client: FlaskClient) -> None:
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    response = send(client, "OPTIONS", "/orders", headers=preflight)

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


def test_a_new_endpoint_needs_an_identity(app: Flask) -> None:
    app.add_url_rule("/reports", "reports", lambda: "all users")

    assert send(app.test_client(), "GET", "/reports").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "described"),
    [
        (method, path, operation)
        for path, methods in describe_service(HEADER)["paths"].items()
        for method, operation in methods.items()
    ],
)
def test_an_operation_needs_an_identity_if_and_only_if_its_description_says_so(
    app: Flask, method: str, path: str, described: Document
) -> None:
    Metrics().expose_on(app)
    add_identity_endpoint(app)

    status = send(app.test_client(), method, path.format(user_id="jo", file="docs.js")).status_code

    # No user is named in a request that asks who one is, so there is no other user to be refused.
    expected = {"401"} if path == "/identity" else {"401", "403"}
    assert ({"401", "403"} & described["responses"].keys()) == (expected if status == 401 else set())
    assert ("security" in described) == (status == 401)
    assert status in {200, 401}


@pytest.mark.parametrize("path", ["/api/identity", "/identity"])
class TestIdentity:
    def test_it_is_the_normalised_name_that_the_proxy_gives(self, app: Flask, path: str) -> None:
        add_identity_endpoint(app)
        response = send(app.test_client(), "GET", path, " Jose\N{COMBINING ACUTE ACCENT}")

        assert (response.status_code, response.get_json()) == (200, {"user_id": "José"})
        assert response.headers["Cache-Control"] == "no-store"

    def test_where_the_proxy_names_nobody_it_is_401(self, app: Flask, path: str) -> None:
        add_identity_endpoint(app)

        assert send(app.test_client(), "GET", path).status_code == 401

    def test_without_an_identity_it_is_null_whatever_a_client_sends(
        self, store: MemoryStore, path: str
    ) -> None:
        app = create_app(UseCases.over(store))
        add_identity_endpoint(app)

        assert send(app.test_client(), "GET", path, "jo").data == b'{"user_id":null}'


class TestPrecedence:
    """If several errors apply, the response is the first one in the contract's order."""

    @pytest.mark.parametrize(
        ("method", "path", "names", "answer"),
        [
            ("GET", "/nothing", [], (404, "not_found")),
            ("DELETE", "/users/boss", [], (405, "method_not_allowed")),
            ("GET", "/users/%FF", [], (401, "unauthenticated")),
            ("GET", "/users/", [], (401, "unauthenticated")),
            ("GET", "/users/%00", ["johndoe"], (400, "invalid_user_id")),
        ],
    )
    def test_precedence_of_the_errors_of_a_user(
        self, client: FlaskClient, method: str, path: str, names: list[str], answer: tuple[int, str]
    ) -> None:
        assert status_and_error(send(client, method, path, *names)) == answer

    @pytest.mark.parametrize(
        ("names", "body", "content_type", "answer"),
        [
            ([], b"x" * 65_537, "text/plain", (401, "unauthenticated")),
            (["johndoe"], b"x" * 65_537, "text/plain", (413, "request_too_large")),
            (["johndoe"], b"{", "text/plain", (415, "unsupported_media_type")),
            (["johndoe"], b"{", "application/json", (400, "invalid_request")),
            (
                ["johndoe"],
                b'{"order":{"items":["netflix",7],"user_id":""}}',
                "application/json",
                (400, "invalid_request"),
            ),
            (
                ["johndoe"],
                b'{"order":{"items":["yacht"],"user_id":""}}',
                "application/json",
                (400, "invalid_user_id"),
            ),
            (
                ["johndoe"],
                b'{"order":{"items":["yacht"],"user_id":"boss"}}',
                "application/json",
                (403, "forbidden"),
            ),
            (
                ["johndoe"],
                b'{"order":{"items":["yacht"],"user_id":"johndoe"}}',
                "application/json",
                (400, "products_not_found"),
            ),
        ],
    )
    def test_precedence_of_the_errors_of_an_order(
        self,
        client: FlaskClient,
        names: list[str],
        body: bytes,
        content_type: str,
        answer: tuple[int, str],
    ) -> None:
        response = send(client, "POST", "/orders", *names, data=body, content_type=content_type)

        assert status_and_error(response) == answer


class TestOwnOrders:
    @pytest.fixture(autouse=True)
    def orders(self, store: MemoryStore) -> None:
        """Let two users order."""
        order(store, "johndoe", "netflix")
        order(store, "boss", "netflix")

    @pytest.mark.parametrize("path", ["/orders", "/api/orders"])
    @pytest.mark.parametrize("user_id", ["johndoe", "%20johndoe", "john%64oe"])
    def test_users_list_their_own_orders(self, client: FlaskClient, path: str, user_id: str) -> None:
        response = send(client, "GET", f"{path}?user_id={user_id}", "johndoe")

        assert [listed["order_id"] for listed in response.get_json()["orders"]] == ["1"]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("names", [[], [""], ["johndoe", "johndoe"]])
    def test_without_an_identity_the_response_is_401(
        self, client: FlaskClient, method: str, names: list[str]
    ) -> None:
        response = send(client, method, "/orders?user_id=johndoe", *names)

        assert response.status_code == 401
        assert response.data == (b"" if method == "HEAD" else b'{"error":"unauthenticated"}')
        assert "WWW-Authenticate" in response.headers

    @pytest.mark.parametrize("user_id", ["boss", "Johndoe", "johndoe/", "nobody"])
    def test_the_orders_of_another_user_are_403(
        self, client: FlaskClient, store: MemoryStore, user_id: str
    ) -> None:
        response = send(client, "GET", f"/api/orders?user_id={user_id}", "johndoe")

        assert (response.status_code, response.data) == (403, b'{"error":"forbidden"}')
        assert response.headers["Cache-Control"] == "no-store"
        assert store.users.get("nobody") is None

    def test_of_a_user_id_given_twice_the_last_one_is_checked_and_used(self, client: FlaskClient) -> None:
        own = send(client, "GET", "/orders?user_id=boss&user_id=johndoe", "johndoe")
        another = send(client, "GET", "/orders?user_id=johndoe&user_id=boss", "johndoe")

        assert [listed["order_id"] for listed in own.get_json()["orders"]] == ["1"]
        assert status_and_error(another) == (403, "forbidden")

    def test_the_case_of_names_is_ignored_if_user_ids_are_folded(self, store: MemoryStore) -> None:
        app = create_app(with_folded_user_ids(restrict_to_self(UseCases.over(store))))
        authenticate(app, HEADER, folded_user_id)

        for name in ("johndoe", "JohnDoe", "JOHNDOE"):
            response = send(app.test_client(), "GET", f"/orders?user_id={name}", "JOHNdoe")
            assert [listed["order_id"] for listed in response.get_json()["orders"]] == ["1"]
        another = send(app.test_client(), "GET", "/orders?user_id=BOSS", "johndoe")
        assert status_and_error(another) == (403, "forbidden")

    @pytest.mark.parametrize(
        ("method", "path", "names", "answer"),
        [
            ("DELETE", "/orders", [], (405, "method_not_allowed")),
            ("GET", "/orders/", [], (404, "not_found")),
            ("GET", "/orders", [], (401, "unauthenticated")),
            ("GET", "/orders?user_id=%FF&limit=0", [], (401, "unauthenticated")),
            ("GET", "/orders?user_id=boss&limit=0", ["johndoe"], (400, "invalid_request")),
            ("GET", "/orders?user_id=%FF&limit=0", ["johndoe"], (400, "invalid_request")),
            ("GET", "/orders?user_id=%FF&before=7", ["johndoe"], (400, "invalid_user_id")),
            ("GET", "/orders?user_id=&before=7", ["johndoe"], (400, "invalid_user_id")),
            ("GET", "/orders?user_id=boss&before=7", ["johndoe"], (403, "forbidden")),
            ("GET", "/orders?user_id=boss&before=2", ["johndoe"], (403, "forbidden")),
            ("GET", "/orders?user_id=johndoe&before=2", ["johndoe"], (400, "invalid_request")),
            ("GET", "/orders?user_id=%FF", ["\ufffd"], (400, "invalid_user_id")),
        ],
    )
    def test_precedence_of_the_errors_of_a_list(
        self, client: FlaskClient, method: str, path: str, names: list[str], answer: tuple[int, str]
    ) -> None:
        assert status_and_error(send(client, method, path, *names)) == answer
