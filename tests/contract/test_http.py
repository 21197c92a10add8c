"""The HTTP contract, row by row, over every store and at both places where the API is mounted."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import attrs
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benefits_core import OfferProducts, Store, UseCases
from benefits_http import create_app
from contract.builders import NETFLIX, order

NO_STORE = "no-store"


def post(
    client: FlaskClient, prefix: str, body: object, content_type: str = "application/json"
) -> TestResponse:
    """Post an order."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(f"{prefix}/orders", data=data, content_type=content_type)


def draft(user_id: Any, *items: Any) -> dict[str, Any]:
    """Return the body of an order."""
    return {"order": {"items": list(items), "user_id": user_id}}


def assert_error(response: TestResponse, status: int, code: str) -> None:
    """Assert that a response is this error, in JSON, and not to be cached."""
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/json")
    assert response.get_json()["error"] == code
    assert response.headers["Cache-Control"] == NO_STORE


class Chunks(io.RawIOBase):
    """A body that arrives in pieces and has no length, as a chunked one does."""

    def __init__(self, body: bytes) -> None:
        self._body = io.BytesIO(body)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._body.read(min(size, 1000))


class TestUsers:
    def test_a_user_who_does_not_exist_yet_is_created(self, client: FlaskClient, prefix: str) -> None:
        response = client.get(f"{prefix}/users/johndoe")

        assert response.status_code == 200
        assert response.data == b'{"user":{"user_id":"johndoe","data":{"balance":500,"product_ids":[]}}}'
        assert response.headers["Cache-Control"] == NO_STORE

    def test_a_user_is_shown_with_what_is_left_and_what_was_bought(
        self, client: FlaskClient, prefix: str, store: Store
    ) -> None:
        order(store, "johndoe", "spotify", "netflix")

        assert client.get(f"{prefix}/users/johndoe").data == (
            b'{"user":{"user_id":"johndoe","data":{"balance":378.02,"product_ids":["spotify","netflix"]}}}'
        )

    def test_head_is_get_without_the_body_and_creates_too(
        self, client: FlaskClient, prefix: str, store: Store
    ) -> None:
        response = client.head(f"{prefix}/users/johndoe")

        assert (response.status_code, response.data) == (200, b"")
        assert store.users.get("johndoe") is not None

    @pytest.mark.parametrize(
        ("path", "user_id"),
        [
            ("Jos%C3%A9", "José"),
            ("Jose%CC%81", "José"),
            ("John%20Doe", "John Doe"),
            ("%20%09John%E2%80%83", "John"),
            ("%0AJohn%0A", "John"),
            ("a/b", "a/b"),
            ("a%2Fb/c", "a/b/c"),
            ("%", "%"),
            ("%F0%9F%91%A9%E2%80%8D%F0%9F%9A%80", "\U0001f469\u200d\U0001f680"),
            ("%EF%BF%BD", "\ufffd"),
            ("x" * 64, "x" * 64),
            ("..", ".."),
            ("JOHN", "JOHN"),
        ],
    )
    def test_a_user_id_comes_back_normalised(
        self, client: FlaskClient, prefix: str, path: str, user_id: str
    ) -> None:
        assert client.get(f"{prefix}/users/{path}").get_json()["user"]["user_id"] == user_id

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "",
            "/%20",
            "/%00",
            "/a%0Ab",
            "/a%7Fb",
            "/%C2%85b%C2%85c",
            "/" + "x" * 65,
        ],
    )
    def test_an_invalid_user_id_is_refused(self, client: FlaskClient, prefix: str, path: str) -> None:
        assert_error(client.get(f"{prefix}/users{path}"), 400, "invalid_user_id")

    @pytest.mark.parametrize(
        "path", ["/users/a/", "/users//a", "/users/a//b", "/users//", "//users/a", "/users/a%2F"]
    )
    def test_other_trailing_and_doubled_slashes_are_not_found(
        self, client: FlaskClient, prefix: str, path: str
    ) -> None:
        assert_error(client.get(prefix + path), 404, "not_found")
        assert_error(client.post(prefix + path), 404, "not_found")


class TestProducts:
    def test_products_are_listed_as_in_the_catalogue(self, client: FlaskClient, prefix: str) -> None:
        response = client.get(f"{prefix}/products")

        assert response.status_code == 200
        assert response.data == (
            b'{"products":[{"id":"netflix","name":"Netflix","price":75.99},'
            b'{"id":"spotify","name":"Spotify","price":45.99},'
            b'{"id":"gym","name":"Gym","price":400},'
            b'{"id":"flu-shot","name":"Flu vaccination","price":0}]}'
        )

    def test_an_unchanged_catalogue_is_not_sent_again(
        self, client: FlaskClient, prefix: str, store: Store
    ) -> None:
        first = client.get(f"{prefix}/products")
        tag = first.headers["ETag"]

        again = client.get(f"{prefix}/products", headers={"If-None-Match": f'"other", W/{tag}'})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == tag
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "no-cache"

        OfferProducts(store)([attrs.evolve(NETFLIX, price=Decimal(1))])
        changed = client.get(f"{prefix}/products", headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.get_json()["products"][0]["price"] == 1
        assert changed.headers["ETag"] != tag


class TestOrders:
    def test_an_order_is_placed(self, client: FlaskClient, prefix: str, store: Store) -> None:
        response = post(client, prefix, draft("johndoe", "spotify", "netflix", "spotify"))

        assert response.status_code == 200
        assert response.get_json() == {
            "order": {"order_id": "1", "data": {"items": ["spotify", "netflix"], "total": 121.98}}
        }
        assert response.headers["Cache-Control"] == NO_STORE
        placed = store.orders.get("1")
        assert placed is not None
        assert placed.user_id == "johndoe"

    def test_an_order_that_costs_exactly_the_balance_leaves_nothing(
        self, client: FlaskClient, prefix: str, store: Store
    ) -> None:
        stingy = create_app(UseCases.over(store, opening_balance=NETFLIX.price)).test_client()

        assert post(stingy, prefix, draft("jo", "netflix")).status_code == 200
        assert client.get(f"{prefix}/users/jo").get_json()["user"]["data"]["balance"] == 0

    @pytest.mark.parametrize(
        ("items", "code"),
        [
            ([], "products_not_found"),
            ([""], "products_not_found"),
            (["nothing"], "products_not_found"),
            (["spotify", "nothing"], "products_not_found"),
            (["netflix", "nothing"], "products_not_found"),
            (["netflix"], "products_already_purchased"),
            (["gym", "spotify", "netflix"], "products_already_purchased"),
            (["gym", "spotify"], "insufficient_balance"),
        ],
    )
    def test_a_refused_order_says_why_and_changes_nothing(
        self, client: FlaskClient, prefix: str, store: Store, items: list[str], code: str
    ) -> None:
        order(store, "jo", "netflix")
        before = store.users.get("jo")

        response = post(client, prefix, draft("jo", *items))

        assert response.status_code == 400
        assert response.data == b'{"error":"%s"}' % code.encode()
        assert store.users.get("jo") == before
        assert len(store.orders.of_user("jo")) == 1

    def test_a_refused_order_creates_no_user(self, client: FlaskClient, prefix: str, store: Store) -> None:
        assert_error(post(client, prefix, draft("jo", "nothing")), 400, "products_not_found")
        assert store.users.get("jo") is None

    def test_the_user_id_of_an_order_is_normalised(
        self, client: FlaskClient, prefix: str, store: Store
    ) -> None:
        assert post(client, prefix, draft(" Jose\u0301 ", "netflix")).status_code == 200
        assert len(store.orders.of_user("José")) == 1

    @pytest.mark.parametrize("user_id", ["", "  ", "a\x00b", "x" * 65, "a\nb"])
    def test_an_order_with_an_invalid_user_id_is_refused(
        self, client: FlaskClient, prefix: str, user_id: str
    ) -> None:
        assert_error(post(client, prefix, draft(user_id, "nothing")), 400, "invalid_user_id")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"order",
            b"null",
            b"[]",
            b"{}",
            b'{"order":null}',
            b'{"order":{"items":["netflix"]}}',
            b'{"order":{"user_id":"jo"}}',
            b'{"order":{"items":"netflix","user_id":"jo"}}',
            b'{"order":{"items":[1],"user_id":"jo"}}',
            b'{"order":{"items":[1.5],"user_id":"jo"}}',
            b'{"order":{"items":[null],"user_id":"jo"}}',
            b'{"order":{"items":["netflix"],"user_id":7}}',
            b'{"order":{"items":["\xff"],"user_id":"jo"}}',
            b'{"order":{"items":["netflix"],"user_id":"jo"},"more":"\xff"}',
            b'\xef\xbb\xbf{"order":{"items":["netflix"],"user_id":"jo"}}',
            '{"order":{"items":["netflix"],"user_id":"jo"}}'.encode("utf-16"),
            b'{"order":{"items":["\\ud800"],"user_id":"jo"}}',
            b'{"order":{"items":["netflix"],"user_id":"jo"}}}',
            b"[" * 60_000,
            b'{"order":' * 7_000,
            json.dumps(draft("jo", *["netflix"] * 101)).encode(),
        ],
        ids=lambda body: repr(body[:60]),
    )
    def test_an_invalid_body_is_refused(
        self, client: FlaskClient, prefix: str, store: Store, body: bytes
    ) -> None:
        response = post(client, prefix, body)

        assert_error(response, 400, "invalid_request")
        assert response.get_json()["detail"]
        assert store.users.get("jo") is None

    def test_the_detail_names_the_field(self, client: FlaskClient, prefix: str) -> None:
        assert post(client, prefix, draft("jo", 1)).get_json() == {
            "error": "invalid_request",
            "detail": "Expected `str`, got `int` - at `$.order.items[0]`",
        }

    @pytest.mark.parametrize(
        "body",
        [
            b'{"order":{"items":["netflix"],"user_id":"jo","colour":1},"more":[1e999]}',
            b'{"order":5,"order":{"items":[1],"items":["netflix"],"user_id":"jo"}}',
            json.dumps(draft("jo", *["netflix"] * 100)).encode(),
        ],
        ids=["unknown fields", "keys given twice", "a hundred items"],
    )
    def test_unknown_fields_and_repeated_keys_are_accepted(
        self, client: FlaskClient, prefix: str, body: bytes
    ) -> None:
        assert post(client, prefix, body).status_code == 200

    @pytest.mark.parametrize(
        "content_type", ["application/json;charset=UTF-8", "Application/JSON", "application/json ; q=1"]
    )
    def test_parameters_of_the_content_type_do_not_matter(
        self, client: FlaskClient, prefix: str, content_type: str
    ) -> None:
        assert post(client, prefix, draft("jo", "netflix"), content_type).status_code == 200

    @pytest.mark.parametrize(
        "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
    )
    def test_another_content_type_is_refused(
        self, client: FlaskClient, prefix: str, content_type: str
    ) -> None:
        assert_error(
            post(client, prefix, draft("jo", "netflix"), content_type), 415, "unsupported_media_type"
        )

    def test_a_body_of_64_kib_is_read(self, client: FlaskClient, prefix: str) -> None:
        body = json.dumps(draft("jo", "netflix")).encode()

        assert post(client, prefix, body.ljust(64 * 1024)).status_code == 200

    def test_a_larger_body_is_refused_before_its_type_is_checked(
        self, client: FlaskClient, prefix: str
    ) -> None:
        body = json.dumps(draft("jo", "netflix")).encode().ljust(64 * 1024 + 1)

        assert_error(post(client, prefix, body), 413, "request_too_large")
        assert_error(post(client, prefix, body, "text/plain"), 413, "request_too_large")

    def test_a_larger_body_without_a_length_is_refused_too(self, client: FlaskClient, prefix: str) -> None:
        body = json.dumps(draft("jo", "netflix")).encode().ljust(64 * 1024 + 1)

        response = client.post(
            f"{prefix}/orders",
            content_type="application/json",
            environ_overrides={
                "CONTENT_LENGTH": "",
                "wsgi.input": Chunks(body),
                "wsgi.input_terminated": True,
            },
        )

        assert_error(response, 413, "request_too_large")


class TestEverythingElse:
    def test_the_service_is_healthy(self, client: FlaskClient, prefix: str) -> None:
        response = client.get(f"{prefix}/healthz")

        assert (response.status_code, response.data) == (200, b'{"status":"ok"}')

    @pytest.mark.parametrize("path", ["/products", "/users/jo", "/healthz", "/nothing"])
    def test_a_response_says_that_it_is_json_and_how_long_it_is(
        self, client: FlaskClient, prefix: str, path: str
    ) -> None:
        response = client.get(prefix + path)
        to_head = client.head(prefix + path)

        assert response.headers.getlist("Content-Type") == ["application/json"]
        assert response.headers.getlist("Content-Length") == [str(len(response.data))]
        assert to_head.headers == response.headers

    @pytest.mark.parametrize("path", ["//products", "//orders", "//api/orders", "//users/jo"])
    def test_leading_slashes_are_not_ignored(self, client: FlaskClient, path: str) -> None:
        for method in ("GET", "POST", "BREW"):
            assert_error(client.open(environ_overrides={"PATH_INFO": path}, method=method), 404, "not_found")

    @pytest.mark.parametrize(
        "path", ["/", "/nothing", "/products/", "//products", "/orders/", "/products/x", "/user"]
    )
    def test_an_unknown_path_is_not_found(self, client: FlaskClient, prefix: str, path: str) -> None:
        assert_error(client.get(prefix + path), 404, "not_found")
        assert_error(client.post(prefix + path), 404, "not_found")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", "/users/jo", {"GET", "HEAD", "OPTIONS"}),
            ("DELETE", "/products", {"GET", "HEAD", "OPTIONS"}),
            ("DELETE", "/orders", {"GET", "HEAD", "OPTIONS", "POST"}),
            ("BREW", "/orders", {"GET", "HEAD", "OPTIONS", "POST"}),
        ],
    )
    def test_a_wrong_method_gets_the_allowed_ones(
        self, client: FlaskClient, prefix: str, method: str, path: str, allowed: set[str]
    ) -> None:
        response = client.open(prefix + path, method=method)

        assert_error(response, 405, "method_not_allowed")
        assert response.allow.as_set(preserve_casing=True) == allowed

    def test_options_has_neither_a_body_nor_a_content_type(self, client: FlaskClient, prefix: str) -> None:
        response = client.options(f"{prefix}/orders")

        assert (response.status_code, response.data, response.mimetype) == (200, b"", None)

    def test_the_development_frontend_may_call_from_its_origin(
        self, client: FlaskClient, prefix: str
    ) -> None:
        response = client.options(
            f"{prefix}/orders",
            headers={
                "Origin": "http://localhost:3000",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
        )

        assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert response.headers["Access-Control-Allow-Headers"].lower() == "content-type"
        assert "Access-Control-Allow-Credentials" not in response.headers

    @pytest.mark.parametrize(
        "origin", [None, "https://evil.example", "null", "http://localhost:3000.evil.example"]
    )
    def test_no_other_origin_is_allowed(self, client: FlaskClient, prefix: str, origin: str | None) -> None:
        response = client.get(f"{prefix}/products", headers={"Origin": origin} if origin else {})

        assert "Access-Control-Allow-Origin" not in response.headers

    def test_a_page_may_read_the_headers_for_its_next_request(self, client: FlaskClient, prefix: str) -> None:
        response = client.get(f"{prefix}/products", headers={"Origin": "http://localhost:3000"})

        assert response.headers["Access-Control-Expose-Headers"] == "ETag, Retry-After, X-Request-ID"

    @pytest.mark.parametrize("headers", [{"Origin": "http://localhost:3000"}, {}])
    @pytest.mark.parametrize("path", ["/products", "/users/jo", "/nothing", "/healthz"])
    def test_every_response_has_the_headers_for_browsers_and_caches(
        self, client: FlaskClient, prefix: str, path: str, headers: dict[str, str]
    ) -> None:
        response = client.get(prefix + path, headers=headers)

        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers.getlist("Vary") == ["Origin"]
        assert "Access-Control-Allow-Credentials" not in response.headers
