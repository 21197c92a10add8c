"""``GET /orders``: what users see of their own orders, over every store and at both places where the API is mounted."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benefits_core import (
    CancelOrders,
    EraseUser,
    OfferProducts,
    OrdersNotFoundError,
    PlaceOrder,
    Product,
    RetireProducts,
    Store,
)
from benefits_http.errors import INVALID_REQUEST, error_spec
from benefits_sqlite import SqliteStore
from contract.builders import NETFLIX, SIGNED, add_user, order, with_two_orders
from contract.running import running
from waiting import wait_for

FREE_PRODUCTS = [Product(f"free-{number}", f"Free {number}", Decimal(0)) for number in range(101)]


def get(client: FlaskClient, query: str, prefix: str = "", method: str = "GET") -> TestResponse:
    """Request orders with a query string as a client sends it. Its characters stand for bytes."""
    return client.open(f"{prefix}/orders", method=method, environ_overrides={"QUERY_STRING": query})


def listed(client: FlaskClient, query: str, prefix: str = "") -> list[dict[str, Any]]:
    """Return the orders in a response."""
    response = get(client, query, prefix)
    assert response.status_code == 200, response.data
    orders: list[dict[str, Any]] = response.get_json()["orders"]
    return orders


def ids(client: FlaskClient, query: str) -> list[str]:
    """Return the ids of the orders in a response."""
    return [listed_order["order_id"] for listed_order in listed(client, query)]


def refusal(response: TestResponse) -> dict[str, str]:
    """Return the body of a 400, which must be JSON and not be cached."""
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/json")
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, str] = response.get_json()
    return body


def with_orders(store: Store, count: int) -> None:
    """Let jo place so many orders. The first one has the id 1."""
    OfferProducts(store)(FREE_PRODUCTS)
    for product in FREE_PRODUCTS[:count]:
        order(store, "jo", product.product_id)


class TestOrders:
    def test_an_order_is_listed_as_in_the_contract(
        self, client: FlaskClient, store: Store, prefix: str
    ) -> None:
        moment = datetime(2026, 11, 27, 9, 12, 3, tzinfo=UTC)
        PlaceOrder(store, now=lambda: moment)("jo", ["netflix"])

        response = get(client, "user_id=jo", prefix)

        assert response.status_code == 200
        assert response.data == (
            b'{"orders":[{"order_id":"1","data":{"items":["netflix"],"total":75.99,'
            b'"placed_at":"2026-11-27T09:12:03Z","cancelled_at":null,'
            b'"lines":[{"id":"netflix","name":"Netflix","price":75.99}]}}]}'
        )
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"

    def test_the_items_and_lines_of_an_order_come_in_the_order_sent(
        self, client: FlaskClient, store: Store
    ) -> None:
        order(store, "jo", "spotify", "flu-shot", "netflix")

        [found] = listed(client, "user_id=jo")
        assert found["data"]["items"] == ["spotify", "flu-shot", "netflix"]
        assert found["data"]["total"] == 121.98
        assert found["data"]["lines"] == [
            {"id": "spotify", "name": "Spotify", "price": 45.99},
            {"id": "flu-shot", "name": "Flu vaccination", "price": 0},
            {"id": "netflix", "name": "Netflix", "price": 75.99},
        ]

    def test_the_order_placed_last_comes_first_whatever_the_clock_said(
        self, client: FlaskClient, store: Store, prefix: str
    ) -> None:
        noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
        for number, product_id in enumerate(("netflix", "spotify", "flu-shot")):
            moment = noon - timedelta(hours=number)
            PlaceOrder(store, now=lambda moment=moment: moment)("jo", [product_id])  # type: ignore[misc] # no other way

        found = listed(client, "user_id=jo", prefix)
        assert [one["order_id"] for one in found] == ["3", "2", "1"]
        assert [one["data"]["placed_at"][11:] for one in found] == ["10:00:00Z", "11:00:00Z", "12:00:00Z"]

    def test_times_are_whole_seconds_in_utc(self, client: FlaskClient, store: Store) -> None:
        tokyo = timezone(timedelta(hours=9))
        placed = datetime(2026, 12, 1, 0, 30, 59, 999_999, tzinfo=tokyo)
        cancelled = datetime(2026, 12, 2, 1, 2, 3, 900_000, tzinfo=tokyo)
        PlaceOrder(store, now=lambda: placed)("jo", ["netflix"])
        CancelOrders(store)(["1"], attrs.evolve(SIGNED, at=cancelled))

        [found] = listed(client, "user_id=jo")
        assert found["data"]["placed_at"] == "2026-11-30T15:30:59Z"
        assert found["data"]["cancelled_at"] == "2026-12-01T16:02:03Z"

    def test_a_cancelled_order_is_listed_with_the_time_of_that_and_nothing_else_of_it(
        self, client: FlaskClient, store: Store, prefix: str
    ) -> None:
        with_two_orders(store)
        before = {one["order_id"]: one["data"] for one in listed(client, "user_id=jo", prefix)}
        CancelOrders(store)(["1"], SIGNED)

        after = {one["order_id"]: one["data"] for one in listed(client, "user_id=jo", prefix)}
        assert after == {"1": {**before["1"], "cancelled_at": "2026-07-01T12:00:00Z"}, "2": before["2"]}
        assert SIGNED.by.encode() not in get(client, "user_id=jo", prefix).data

    def test_a_product_that_is_ordered_again_is_in_both_orders(
        self, client: FlaskClient, store: Store
    ) -> None:
        order(store, "jo", "netflix")
        CancelOrders(store)(["1"], SIGNED)
        order(store, "jo", "netflix")

        found = listed(client, "user_id=jo")
        assert [(one["order_id"], one["data"]["items"]) for one in found] == [
            ("2", ["netflix"]),
            ("1", ["netflix"]),
        ]
        assert [one["data"]["cancelled_at"] is None for one in found] == [True, False]

    def test_names_and_prices_are_those_of_the_purchase(self, client: FlaskClient, store: Store) -> None:
        order(store, "jo", "netflix")
        order(store, "jo", "spotify")
        OfferProducts(store)([attrs.evolve(NETFLIX, name="Netflix 4K", price=Decimal(90))])
        RetireProducts(store)(["spotify"], SIGNED)

        assert [one["data"]["lines"] for one in listed(client, "user_id=jo")] == [
            [{"id": "spotify", "name": "Spotify", "price": 45.99}],
            [{"id": "netflix", "name": "Netflix", "price": 75.99}],
        ]
        assert [one["data"]["total"] for one in listed(client, "user_id=jo")] == [45.99, 75.99]

    def test_only_the_orders_of_the_user_are_listed(self, client: FlaskClient, store: Store) -> None:
        order(store, "al", "netflix")
        order(store, "jo", "netflix")
        order(store, "al", "spotify")

        assert ids(client, "user_id=jo") == ["2"]
        assert ids(client, "user_id=al") == ["3", "1"]
        assert ids(client, "user_id=al&limit=1&before=3") == ["1"]

    def test_an_order_that_the_api_has_placed_is_listed(self, client: FlaskClient, prefix: str) -> None:
        draft = {"order": {"items": ["spotify", "netflix", "spotify"], "user_id": "jo"}}
        placed = client.post(f"{prefix}/orders", json=draft).get_json()["order"]

        [found] = listed(client, "user_id=jo", prefix)
        assert found["order_id"] == placed["order_id"]
        assert {name: found["data"][name] for name in ("items", "total")} == placed["data"]


class TestUsers:
    @pytest.mark.parametrize("user_id", ["jo", "nobody"])
    def test_a_user_without_orders_and_an_unknown_one_have_an_empty_list(
        self, client: FlaskClient, store: Store, prefix: str, user_id: str
    ) -> None:
        add_user(store, "jo")

        response = get(client, f"user_id={user_id}", prefix)

        assert (response.status_code, response.data) == (200, b'{"orders":[]}')
        assert store.users.get("nobody") is None

    def test_an_erased_user_has_no_orders(self, client: FlaskClient, store: Store) -> None:
        order(store, "jo", "netflix")
        EraseUser(store)("jo")

        assert listed(client, "user_id=jo") == []
        assert refusal(get(client, "user_id=jo&before=1")) == {"error": "invalid_request"}

    @pytest.mark.parametrize(
        ("query", "user_id"),
        [
            ("user_id=Jos%C3%A9", "José"),
            ("user_id=Jose%CC%81", "José"),
            ("user_id=" + "José".encode().decode("latin-1"), "José"),
            ("user_id=%20%09Jos%C3%A9%E2%80%83", "José"),
            ("user_id=John%20Doe", "John Doe"),
            ("user_id=John+Doe", "John Doe"),
            ("user_id=a%2Bb", "a+b"),
            ("user_id=a%26limit%3D0", "a&limit=0"),
            ("user_id=a=b", "a=b"),
            ("user_id=a;b", "a;b"),
            ("user_id=a/b", "a/b"),
            ("user_id=/", "/"),
            ("user_id=%", "%"),
            ("user_id=%25", "%"),
            ("user_id=%EF%BF%BD", "\ufffd"),
            ("user_id=%F0%9F%91%A9%E2%80%8D%F0%9F%9A%80", "\U0001f469\u200d\U0001f680"),
            ("user%5Fid=jo", "jo"),
            ("user_id=" + "x" * 64, "x" * 64),
        ],
    )
    def test_a_user_id_is_decoded_and_normalised(
        self, client: FlaskClient, store: Store, query: str, user_id: str
    ) -> None:
        order(store, user_id, "netflix")

        assert ids(client, query) == ["1"]

    def test_case_matters(self, client: FlaskClient, store: Store) -> None:
        order(store, "jo", "netflix")

        assert ids(client, "user_id=Jo") == []

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "+",
            "%20",
            "%00",
            "a%0Ab",
            "a%7Fb",
            "%C2%85b%C2%85c",
            "x" * 65,
            "%CC%81" * 9_000,
            "%FF",
            "\xff",
            "jos%E9",
            "jos\xe9",
            "%ED%A0%80",
            "%C0%AF",
        ],
        ids=lambda value: repr(value[:20]),
    )
    def test_a_text_that_is_no_user_id_is_refused(
        self, client: FlaskClient, store: Store, prefix: str, value: str
    ) -> None:
        assert refusal(get(client, f"user_id={value}", prefix)) == {"error": "invalid_user_id"}
        assert store.users.get("\ufffd") is None

    def test_a_user_id_without_a_value_is_empty(self, client: FlaskClient) -> None:
        assert refusal(get(client, "user_id")) == {"error": "invalid_user_id"}

    @pytest.mark.parametrize(
        "query", ["", "limit=5", "user=jo", "USER_ID=jo", "user_id[]=jo", "&&", "%FF=jo"]
    )
    def test_a_request_without_a_user_id_is_refused(
        self, client: FlaskClient, prefix: str, query: str
    ) -> None:
        assert refusal(get(client, query, prefix)) == {
            "error": "invalid_request",
            "detail": "Missing required parameter `user_id`",
        }


class TestPages:
    @pytest.mark.parametrize(
        ("query", "count"), [("", 50), ("&limit=100", 100), ("&limit=99", 99), ("&limit=1", 1)]
    )
    def test_no_more_orders_than_the_limit_are_listed_and_50_without_one(
        self, client: FlaskClient, store: Store, query: str, count: int
    ) -> None:
        with_orders(store, 101)

        assert ids(client, f"user_id=jo{query}") == [str(number) for number in range(101, 101 - count, -1)]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    def test_pages_by_before_list_each_order_once(
        self, client: FlaskClient, store: Store, limit: int
    ) -> None:
        with_orders(store, 7)
        order(store, "al", "netflix")

        found = page = ids(client, f"user_id=jo&limit={limit}")
        while page:
            page = ids(client, f"user_id=jo&limit={limit}&before={page[-1]}")
            found = found + page

        assert found == ["7", "6", "5", "4", "3", "2", "1"]

    def test_an_order_that_is_placed_between_two_pages_moves_nothing(
        self, client: FlaskClient, store: Store
    ) -> None:
        with_orders(store, 3)
        assert ids(client, "user_id=jo&limit=1") == ["3"]
        order(store, "jo", "netflix")

        assert ids(client, "user_id=jo&limit=1&before=3") == ["2"]

    def test_the_order_before_which_a_page_ends_may_be_cancelled(
        self, client: FlaskClient, store: Store
    ) -> None:
        with_two_orders(store)
        CancelOrders(store)(["1", "2"], SIGNED)

        assert ids(client, "user_id=jo&before=2") == ["1"]

    def test_order_ids_are_compared_as_numbers(self, client: FlaskClient, store: Store) -> None:
        with_orders(store, 10)

        assert ids(client, "user_id=jo&limit=2&before=10") == ["9", "8"]

    @pytest.mark.parametrize(
        "before",
        [
            "3",
            "4",
            "0",
            "-1",
            "",
            "02",
            "+2",
            "2.0",
            "%D9%A2",
            "x",
            "2%00",
            "%20",
            "%FF",
            "9" * 30,
            "9" * 6_000,
        ],
        ids=lambda before: repr(before[:20]),
    )
    @pytest.mark.parametrize("user_id", ["jo", "nobody"])
    def test_before_must_be_an_order_of_the_user(
        self, client: FlaskClient, store: Store, user_id: str, before: str
    ) -> None:
        with_two_orders(store)
        order(store, "al", "netflix")

        assert refusal(get(client, f"user_id={user_id}&before={before}")) == {"error": "invalid_request"}
        assert store.users.get("nobody") is None

    @pytest.mark.parametrize(
        "limit",
        [
            "0",
            "101",
            "",
            "+5",
            "%2B5",
            "-5",
            "%D9%A3",
            "1e2",
            "5.0",
            "05",
            "1_0",
            "0x5",
            "%205",
            "5%20",
            "5%0A",
            "%FF",
            "null",
            "1000",
            "9" * 30,
            "9" * 6_000,
        ],
        ids=lambda limit: repr(limit[:20]),
    )
    def test_a_limit_is_a_number_from_1_to_100_in_ascii_digits(
        self, client: FlaskClient, prefix: str, limit: str
    ) -> None:
        assert refusal(get(client, f"user_id=jo&limit={limit}", prefix)) == {
            "error": "invalid_request",
            "detail": "Expected a whole number from 1 to 100 - at `limit`",
        }


class TestParameters:
    @pytest.mark.parametrize(
        "query",
        [
            "user_id=jo&colour=red&limits=0&LIMIT=0&%FF=%FF&\xff&=&&;",
            "user_id=jo" + "&a" * 99,
            "user_id=jo&note=" + "x" * 50_000,
        ],
        ids=lambda query: query[:20],
    )
    def test_unknown_parameters_are_ignored(self, client: FlaskClient, store: Store, query: str) -> None:
        with_two_orders(store)

        assert ids(client, query) == ["2", "1"]

    @pytest.mark.parametrize(
        ("query", "order_ids"),
        [
            ("user_id=al&user_id=&user_id=jo", ["3", "2", "1"]),
            ("limit=0&user_id=jo&limit=x&limit=2", ["3", "2"]),
            ("user_id=jo&before=x&before=3", ["2", "1"]),
        ],
    )
    def test_the_last_of_a_parameter_given_twice_counts(
        self, client: FlaskClient, store: Store, query: str, order_ids: list[str]
    ) -> None:
        with_orders(store, 3)

        assert ids(client, query) == order_ids
        assert refusal(get(client, query + "&user_id=")) == {"error": "invalid_user_id"}

    @pytest.mark.parametrize(
        "more", ["&a" * 100, "&" * 100, "&user_id=jo" * 30_000], ids=lambda more: more[:10]
    )
    def test_too_many_parameters_are_refused(self, client: FlaskClient, more: str) -> None:
        assert refusal(get(client, f"user_id=jo{more}")) == {
            "error": "invalid_request",
            "detail": "Expected at most 100 parameters",
        }

    @pytest.mark.parametrize(
        ("query", "error"),
        [
            ("user_id=%FF&limit=0&before=9", "invalid_request"),
            ("limit=0&before=9", "invalid_request"),
            ("user_id=%FF&before=9", "invalid_user_id"),
            ("user_id=&limit=100", "invalid_user_id"),
        ],
    )
    def test_of_several_errors_the_first_of_the_contract_is_reported(
        self, client: FlaskClient, query: str, error: str
    ) -> None:
        assert refusal(get(client, query))["error"] == error


class TestHttp:
    def test_head_is_get_without_the_body(self, client: FlaskClient, store: Store, prefix: str) -> None:
        with_two_orders(store)

        for query in ("user_id=jo", "user_id=nobody", "user_id=jo&limit=0", "user_id="):
            answer, head = get(client, query, prefix), get(client, query, prefix, method="HEAD")
            assert (head.status_code, head.data) == (answer.status_code, b"")
            assert head.headers == answer.headers
        assert store.users.get("nobody") is None

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "BREW"])
    def test_other_methods_get_the_allowed_ones(self, client: FlaskClient, prefix: str, method: str) -> None:
        response = get(client, "user_id=", prefix, method=method)

        assert (response.status_code, response.get_json()) == (405, {"error": "method_not_allowed"})
        assert response.allow.as_set(preserve_casing=True) == {"GET", "HEAD", "OPTIONS", "POST"}

    @pytest.mark.parametrize("path", ["/orders/", "//orders", "/orders/1"])
    def test_other_paths_are_not_found(self, client: FlaskClient, prefix: str, path: str) -> None:
        for _ in range(2):  # the application remembers rules
            assert get(client, "user_id=jo", prefix).status_code == 200
            response = client.get(
                "/", environ_overrides={"PATH_INFO": prefix + path, "QUERY_STRING": "user_id=jo"}
            )
            assert (response.status_code, response.get_json()) == (404, {"error": "not_found"})

    def test_a_page_of_an_allowed_origin_may_read_it(self, client: FlaskClient, prefix: str) -> None:
        response = client.get(f"{prefix}/orders?user_id=jo", headers={"Origin": "http://localhost:3000"})

        assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert response.headers.getlist("Vary") == ["Origin"]

    def test_a_body_of_the_request_is_ignored(self, client: FlaskClient) -> None:
        response = client.get("/orders?user_id=jo", data=b"x" * 70_000, content_type="text/plain")

        assert response.status_code == 200

    def test_an_unknown_order_is_an_invalid_request_in_the_error_table(self) -> None:
        assert error_spec(OrdersNotFoundError(("7",))) is INVALID_REQUEST


HEADER = "X-Forwarded-User"


def test_behind_an_identity_users_list_their_own_orders_only(database: Path) -> None:
    """The service as a process: its server hands on the query string as it came, and its log does not hold it."""
    options = ("--identity-header", HEADER, "--identity-case-insensitive")
    with running(database, *options, workers=1) as service:
        ordered = service.request(
            "POST", "/orders", {"order": {"items": ["netflix"], "user_id": "JDoe"}}, **{HEADER: "jdoe"}
        )
        assert ordered.status == 200
        for prefix in ("", "/api"):
            for name in ("JDoe", "jdoe", "%4ADOE", "+jdoe%20"):
                own = service.request("GET", f"{prefix}/orders?user_id={name}", **{HEADER: "JDOE"})
                assert [one["order_id"] for one in own.json["orders"]] == ["1"]
        another = service.request("GET", "/orders?user_id=JDoe&before=1", **{HEADER: "boss"})
        nobody = service.request("GET", "/orders?user_id=JDoe&limit=0")
        not_utf_8 = service.request(
            "GET", "/orders?user_id=%FF", **{HEADER: "\ufffd".encode().decode("latin-1")}
        )
        wait_for(lambda: '"status":400,' in service.log.read_text())
        log = service.log.read_text()
        metrics = service.request("GET", "/metrics").body

    assert (another.status, another.json) == (403, {"error": "forbidden"})
    assert (nobody.status, nobody.json) == (401, {"error": "unauthenticated"})
    assert (not_utf_8.status, not_utf_8.json) == (400, {"error": "invalid_user_id"})
    assert '"method":"GET","route":"/orders","status":200,' in log
    assert "doe" not in log.lower()
    assert b'benefits_http_requests_total{method="GET",route="/api/orders",status="200"} 4.0' in metrics
    with closing(SqliteStore(database)) as store:
        assert [account.user_id for account in store.users.page(9)] == ["jdoe"]
