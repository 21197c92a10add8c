"""The blueprint at a prefix of a plain Flask application, which has its own settings and error pages."""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Callable
from decimal import Decimal
from operator import attrgetter, methodcaller
from typing import Any

import pytest
from flask import Flask, Request, Response, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benefits_core import (
    InconsistentChangeError,
    MemoryStore,
    OfferProducts,
    Product,
    StorageUnavailableError,
    UseCases,
)
from benefits_http import benefits_blueprint
from benefits_http.wire import MAX_BODY_BYTES

ORDER = b'{"order":{"items":["netflix"],"user_id":"johndoe"}}'


@pytest.fixture
def store() -> MemoryStore:
    """Return a store with two products."""
    store = MemoryStore()
    OfferProducts(store)(
        [Product("netflix", "Netflix", Decimal("75.99")), Product("bike", "Bike", Decimal("500.01"))]
    )
    return store


@pytest.fixture
def client(store: MemoryStore) -> FlaskClient:
    """Return a client of an application that is not ours."""
    return _application(store).test_client()


def _application(store: MemoryStore) -> Flask:
    application = Flask("not_ours")
    application.register_blueprint(benefits_blueprint(UseCases.over(store)), url_prefix="/perks/v1")

    @application.get("/")
    def home() -> str:
        return "Welcome"

    return application


def _request(client: FlaskClient, path: str, method: str = "GET", **options: Any) -> TestResponse:
    # A server decodes the path and passes its bytes on as Latin-1. The test client would normalise some of these paths.
    decoded = f"/perks/v1{path}" if not path.startswith("//") else path
    return client.open(
        method=method, environ_overrides={"PATH_INFO": decoded.encode().decode("latin-1")}, **options
    )


def _post(client: FlaskClient, body: bytes, content_type: str | None = "application/json") -> TestResponse:
    return _request(client, "/orders", "POST", data=body, content_type=content_type)


def _refusal(response: TestResponse) -> tuple[int, str]:
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    return response.status_code, response.json["error"] if response.json else ""


def test_the_three_endpoints_answer_under_the_prefix(client: FlaskClient) -> None:
    order = _request(client, "/orders", "POST", data=ORDER, content_type="application/json;charset=UTF-8")
    assert (order.status_code, order.data) == (
        200,
        b'{"order":{"order_id":"1","data":{"items":["netflix"],"total":75.99}}}',
    )
    user = _request(client, "/users/johndoe")
    assert user.data == b'{"user":{"user_id":"johndoe","data":{"balance":424.01,"product_ids":["netflix"]}}}'
    assert user.headers["Cache-Control"] == "no-store"
    products = _request(client, "/products")
    assert (products.data, products.mimetype) == (
        b'{"products":[{"id":"netflix","name":"Netflix","price":75.99},{"id":"bike","name":"Bike","price":500.01}]}',
        "application/json",
    )
    assert _request(client, "/healthz").json == {"status": "ok"}


def test_the_application_chooses_the_opening_balance(store: MemoryStore) -> None:
    application = Flask("not_ours")
    application.register_blueprint(benefits_blueprint(UseCases.over(store, opening_balance=Decimal(7))))
    client = application.test_client()
    assert client.get("/users/johndoe").json["user"]["data"]["balance"] == 7  # type: ignore[index] # it is JSON
    client.post("/orders", json={"order": {"items": ["netflix"], "user_id": "jane"}})
    assert store.users.get("jane") is None


def test_the_rest_of_the_application_is_unchanged(client: FlaskClient) -> None:
    assert client.get("/").text == "Welcome"
    assert client.get("/nowhere").mimetype == "text/html"


def test_the_application_may_change_a_response(store: MemoryStore) -> None:
    application = _application(store)

    @application.after_request
    def condition(response: Response) -> Response:
        if request.args.get("empty"):
            response.status_code = 204
            return response
        if request.args.get("shout"):
            response.set_data(response.get_data().upper())
            return response
        response.add_etag()
        response.make_conditional(request)
        return response

    client = application.test_client()
    first = client.get("/perks/v1/products")
    again = client.get("/perks/v1/products", headers={"If-None-Match": first.headers["ETag"]})
    empty = client.get("/perks/v1/users/johndoe?empty=1")
    shouted = client.get("/perks/v1/users/johndoe?shout=1")

    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")
    assert not {"Content-Type", "Content-Length"} & {name for name, _ in again.headers}
    assert "Content-Length" not in empty.headers
    assert int(shouted.headers["Content-Length"]) == len(shouted.data)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "//products"),
        ("GET", "/products/"),
        ("GET", "/products//"),
        ("POST", "/orders/"),
        ("GET", "/healthz/"),
        ("GET", "/users//"),
        ("GET", "/users//johndoe"),
        ("GET", "/users/johndoe/"),
        ("GET", "/users/john//doe"),
        ("GET", "/users/a/b/"),
    ],
)
def test_a_doubled_or_trailing_slash_is_not_found_and_never_redirected(
    client: FlaskClient, store: MemoryStore, method: str, path: str
) -> None:
    response = _request(client, path, method, data=ORDER, content_type="application/json")
    assert response.status_code == 404
    assert store.users.get("johndoe") is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/perks//v1/products"),
        ("GET", "/perks/v1//products"),
        ("GET", "/perks/v1//users/johndoe"),
        ("POST", "/perks//v1/orders"),
        ("POST", "/perks/v1//orders"),
    ],
)
def test_a_doubled_slash_around_the_prefix_is_not_found_either(
    client: FlaskClient, method: str, path: str
) -> None:
    assert client.open(path, method=method, data=ORDER, content_type="application/json").status_code == 404


@pytest.mark.parametrize(
    ("path", "user_id"),
    [
        ("/users/johndoe", "johndoe"),
        ("/users/a/b/c", "a/b/c"),
        ("/users/John Doe", "John Doe"),
        ("/users/ Jose\u0301\u3000", "José"),
        ("/users/👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("/users/%", "%"),
        ("/users/%FF", "%FF"),
        ("/users/\ufffd", "\ufffd"),
        ("/users/orders", "orders"),
        ("/users/..", ".."),
        ("/users/<script>", "<script>"),
    ],
)
def test_a_path_may_contain_any_valid_user_id(client: FlaskClient, path: str, user_id: str) -> None:
    response = _request(client, path)
    assert (response.status_code, response.json) == (
        200,
        {"user": {"user_id": user_id, "data": {"balance": 500, "product_ids": []}}},
    )


@pytest.mark.parametrize(
    "path",
    [
        "/users",
        "/users/",
        "/users/ ",
        "/users/\n",
        "/users/a\nb",
        "/users/a/\nb",
        "/users/a\x00",
        "/users/" + "x" * 65,
    ],
)
def test_an_invalid_user_id_is_refused_in_json(client: FlaskClient, path: str) -> None:
    assert _refusal(_request(client, path)) == (400, "invalid_user_id")


@pytest.mark.parametrize("path", ["/users/%FF", "/users/jos%E9", "/users/%ED%A0%80", "/users/%FF/b"])
def test_a_user_id_that_is_not_utf_8_is_refused_in_json(
    client: FlaskClient, store: MemoryStore, path: str
) -> None:
    raw = path.replace("%E9", "\xe9").replace("%ED%A0%80", "\xed\xa0\x80").replace("%FF", "\xff")
    response = client.get("/", environ_overrides={"PATH_INFO": f"/perks/v1{raw}"})
    assert _refusal(response) == (400, "invalid_user_id")
    assert store.users.get("\ufffd") is None


def test_an_encoded_slash_is_a_slash(client: FlaskClient) -> None:
    assert client.get("/perks/v1/users/a%2Fb").json["user"]["user_id"] == "a/b"  # type: ignore[index] # it is JSON


def test_a_head_request_is_answered_as_a_get_without_the_body(
    client: FlaskClient, store: MemoryStore
) -> None:
    response = _request(client, "/users/johndoe", "HEAD")
    assert (response.status_code, response.data) == (200, b"")
    assert store.users.get("johndoe") is not None


@pytest.mark.parametrize(
    ("items", "code"),
    [
        (["yacht", "bike"], "products_not_found"),
        ([], "products_not_found"),
        (["netflix", "bike"], "products_already_purchased"),
        (["bike"], "insufficient_balance"),
    ],
)
def test_a_refused_order_has_its_reason_as_the_only_field(
    client: FlaskClient, items: list[str], code: str
) -> None:
    assert _post(client, ORDER).status_code == 200
    response = _post(client, json.dumps({"order": {"items": items, "user_id": "johndoe"}}).encode())
    assert (response.status_code, response.data) == (
        400,
        json.dumps({"error": code}, separators=(",", ":")).encode(),
    )
    assert response.headers["Cache-Control"] == "no-store"


TOO_LARGE = b" " * (MAX_BODY_BYTES + 1)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (TOO_LARGE, "text/plain", 413, "request_too_large"),
        (TOO_LARGE, "application/json", 413, "request_too_large"),
        (b"\xff", "text/plain", 415, "unsupported_media_type"),
        (ORDER, None, 415, "unsupported_media_type"),
        (ORDER, "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (ORDER, "application/json-patch+json", 415, "unsupported_media_type"),
        (b"", "application/json", 400, "invalid_request"),
        (b'{"order":{"items":[7],"user_id":""}}', "application/json", 400, "invalid_request"),
        (b'{"order":{"items":["yacht"],"user_id":""}}', "application/json", 400, "invalid_user_id"),
        (b'{"order":{"items":["yacht"],"user_id":"j"}}', "application/json", 400, "products_not_found"),
    ],
)
def test_the_first_of_several_errors_is_reported(
    client: FlaskClient, body: bytes, content_type: str | None, status: int, code: str
) -> None:
    assert _refusal(_post(client, body, content_type)) == (status, code)


def test_an_invalid_request_has_a_detail(client: FlaskClient) -> None:
    response = _post(client, b'{"order":{"items":[7],"user_id":"johndoe"}}')
    assert response.json == {
        "error": "invalid_request",
        "detail": "Expected `str`, got `int` - at `$.order.items[0]`",
    }


def test_a_body_of_exactly_64_kib_is_read(client: FlaskClient) -> None:
    assert _post(client, ORDER.ljust(MAX_BODY_BYTES)).status_code == 200


def _post_raw(client: FlaskClient, body: object, **environ: object) -> TestResponse:
    """Post a body with the WSGI environment that a server would set for it."""
    return client.post(
        "/perks/v1/orders",
        content_type="application/json",
        environ_overrides={"wsgi.input": body, "CONTENT_LENGTH": "", **environ},
    )


CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


@pytest.mark.parametrize(
    ("length", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413), (10**6, 413)]
)
def test_a_chunked_body_has_the_same_limit(client: FlaskClient, length: int, status: int) -> None:
    assert _post_raw(client, io.BytesIO(ORDER.ljust(length)), **CHUNKED).status_code == status


class EndlessBody:
    """A chunked body without an end. It counts the bytes that were read."""

    def __init__(self) -> None:
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        assert 0 <= size <= MAX_BODY_BYTES + 1
        self.bytes_read += size
        return b" " * size


def test_no_more_of_a_chunked_body_is_read_than_its_limit_needs(client: FlaskClient) -> None:
    body = EndlessBody()

    assert _post_raw(client, body, **CHUNKED).status_code == 413
    assert body.bytes_read == MAX_BODY_BYTES + 1


class OpenBody:
    """A body on an open connection: a server would block if more bytes were read than the client has sent."""

    def __init__(self, body: bytes = b"") -> None:
        self._left = body

    def read(self, size: int = -1) -> bytes:
        if not 0 < size <= len(self._left):
            raise AssertionError(size)
        read, self._left = self._left[:size], self._left[size:]
        return read


def test_a_body_whose_content_length_is_too_large_is_not_read(client: FlaskClient) -> None:
    response = _post_raw(client, OpenBody(), CONTENT_LENGTH=str(10**9))
    assert _refusal(response) == (413, "request_too_large")


@pytest.mark.parametrize("length", ["", "many", "-1"])
def test_a_body_without_a_length_is_empty_if_the_server_does_not_terminate_it(
    client: FlaskClient, length: str
) -> None:
    response = _post_raw(client, OpenBody(ORDER), CONTENT_LENGTH=length)
    assert _refusal(response) == (400, "invalid_request")


def _client_that_reads_first(store: MemoryStore, read: Callable[[Request], object]) -> FlaskClient:
    """Return a client of an application that reads every request before the view does."""
    application = _application(store)

    @application.before_request
    def before() -> None:
        read(request)

    return application.test_client()


def _read_json_and_form(sent: Request) -> None:
    sent.get_json()
    sent.form.get("csrf_token")  # Flask's stream then returns the cached body again


def _unzip(sent: Request) -> None:
    sent.stream = gzip.GzipFile(fileobj=sent.stream)  # type: ignore[assignment] # it reads like one


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (attrgetter("method"), ORDER),
        (methodcaller("get_data"), ORDER),
        (methodcaller("get_json"), ORDER),
        (_read_json_and_form, ORDER),
        (_unzip, gzip.compress(ORDER)),
    ],
    ids=["nothing", "data", "json", "json and form", "unzipped"],
)
def test_the_application_may_read_an_order_before_the_view(
    store: MemoryStore, read: Callable[[Request], object], body: bytes
) -> None:
    client = _client_that_reads_first(store, read)
    response = _post_raw(client, OpenBody(body), CONTENT_LENGTH=str(len(body)))
    assert response.status_code == 200
    assert len(store.orders.of_user("johndoe")) == 1


def test_a_body_that_the_application_has_read_has_the_same_limit(store: MemoryStore) -> None:
    client = _client_that_reads_first(store, methodcaller("get_data"))
    body = io.BytesIO(ORDER.ljust(MAX_BODY_BYTES + 1))
    assert _refusal(_post_raw(client, body, **CHUNKED)) == (413, "request_too_large")


def test_the_application_may_read_a_form_before_the_view(store: MemoryStore) -> None:
    client = _client_that_reads_first(store, attrgetter("form"))
    response = client.post("/perks/v1/orders", data={"csrf_token": "7"})
    assert _refusal(response) == (415, "unsupported_media_type")


def test_the_application_may_read_a_body_after_the_view(store: MemoryStore) -> None:
    application = _application(store)

    @application.after_request
    def audit(response: Response) -> Response:
        request.get_data()
        return response

    response = _post_raw(application.test_client(), OpenBody(ORDER), CONTENT_LENGTH=str(len(ORDER)))
    assert response.status_code == 200


@pytest.mark.parametrize("framing", [{"CONTENT_LENGTH": str(len(ORDER))}, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("once", [False, True])
def test_a_smaller_limit_of_the_application_applies(
    store: MemoryStore, framing: dict[str, object], *, once: bool
) -> None:
    application = _application(store)

    @application.before_request
    def limit() -> None:
        if once:
            request.max_content_length = 20
        else:
            application.config["MAX_CONTENT_LENGTH"] = 20

    response = _post_raw(application.test_client(), io.BytesIO(ORDER), **framing)
    assert (response.status_code, response.mimetype) == (413, "text/html")
    assert store.users.get("johndoe") is None


class LockedStore(MemoryStore):
    """A store that is unavailable."""

    def ping(self) -> None:
        raise StorageUnavailableError("the database is locked")

    def change(self, do: object) -> Any:  # noqa: ARG002 - the name is the port's
        raise StorageUnavailableError("the database is locked")


def test_an_unavailable_store_gives_503_and_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    client = _application(LockedStore()).test_client()
    for response in (_request(client, "/healthz"), _request(client, "/users/johndoe"), _post(client, ORDER)):
        assert (response.status_code, response.data) == (503, b'{"error":"storage_unavailable"}')
        assert response.headers["Retry-After"] == "1"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3


class ContradictoryStore(MemoryStore):
    """A store with a bug."""

    def ping(self) -> None:
        raise InconsistentChangeError("secret cause")


def test_a_bug_is_logged_and_hidden_from_the_client(caplog: pytest.LogCaptureFixture) -> None:
    application = Flask("not_ours")
    application.register_blueprint(benefits_blueprint(UseCases.over(ContradictoryStore())))
    response = application.test_client().get("/healthz")
    assert (response.status_code, response.data) == (500, b'{"error":"internal_error"}')
    [record] = caplog.records
    assert "secret cause" in str(record.exc_info and record.exc_info[1])
    assert record.getMessage().endswith("failed: GET /healthz")


def test_it_can_be_registered_twice(store: MemoryStore) -> None:
    application = Flask("not_ours")
    blueprint = benefits_blueprint(UseCases.over(store))
    application.register_blueprint(blueprint, url_prefix="/api")
    application.register_blueprint(blueprint, name="benefits_at_root")
    client = application.test_client()
    assert client.post("/orders", data=ORDER, content_type="application/json").status_code == 200
    assert client.get("/api/users/johndoe").data == client.get("/users/johndoe").data
    assert client.post("/api/orders", data=ORDER, content_type="application/json").json == {
        "error": "products_already_purchased"
    }


def test_queries_need_no_change_of_the_store(store: MemoryStore) -> None:
    """While the store refuses every change, what is kept can be read, and an unknown user has no orders."""

    class FrozenStore(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.products, self.orders = store.users, store.products, store.orders

        def change(self, do: object) -> Any:  # noqa: ARG002 - the name is the port's
            raise AssertionError

    _post(_application(store).test_client(), ORDER)
    client = _application(FrozenStore()).test_client()

    assert client.get("/perks/v1/users/johndoe").json["user"]["data"]["product_ids"] == ["netflix"]  # type: ignore[index] # it is JSON
    assert len(client.get("/perks/v1/products").json["products"]) == 2  # type: ignore[index] # it is JSON
    [listed] = client.get("/perks/v1/orders?user_id=johndoe").json["orders"]  # type: ignore[index] # it is JSON
    assert (listed["order_id"], listed["data"]["items"]) == ("1", ["netflix"])
    assert client.get("/perks/v1/orders?user_id=johndoe&before=1").json == {"orders": []}
    assert client.get("/perks/v1/orders?user_id=nobody").json == {"orders": []}


def test_an_unavailable_store_gives_503_to_a_list_of_orders() -> None:
    class UnreadableStore(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            del self.orders

        def __getattr__(self, name: str) -> Any:
            raise StorageUnavailableError(f"{name} can't be read")

    response = _application(UnreadableStore()).test_client().get("/perks/v1/orders?user_id=johndoe")
    assert _refusal(response) == (503, "storage_unavailable")
    assert response.headers["Retry-After"] == "1"
