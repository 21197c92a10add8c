"""Identity, tested over a socket: what a client may send beside the one header line that the proxy adds."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from benefits_core import Store
from benefits_sqlite import SqliteStore
from contract.running import Service, running
from waiting import A_LONG_TIME, wait_for

HEADER = "X-Forwarded-User"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service behind an identity."""
    with running(
        tmp_path_factory.mktemp("identity") / "benefits.db", "--identity-header", HEADER, traced=True
    ) as started:
        yield started


@pytest.fixture(scope="module")
def store(service: Service) -> Iterator[Store]:
    """Return what the service keeps, to be looked at."""
    with SqliteStore(service.database) as opened:
        yield opened


@attrs.frozen
class Reply:
    """What came back."""

    status: int
    json: Any


def send(service: Service, request_line: str, *lines: bytes, body: bytes = b"") -> Reply:
    """Send a request byte for byte; nothing is added but the host."""
    head = b"\r\n".join([f"{request_line} HTTP/1.1".encode(), b"Host: x", b"Connection: close", *lines])
    with socket.create_connection(("127.0.0.1", service.port), timeout=A_LONG_TIME) as connection:
        connection.sendall(head + b"\r\n\r\n" + body)
        reply = connection.makefile("rb").read()
    head, _, answer = reply.partition(b"\r\n\r\n")
    return Reply(int(head.split()[1]), json.loads(answer) if answer else None)


def order_lines(body: bytes) -> list[bytes]:
    """Return the lines that describe an order."""
    return [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]


def order_of(user_id: str, *items: str) -> bytes:
    """Return the body of an order."""
    return json.dumps({"order": {"items": items, "user_id": user_id}}).encode()


UNCERTAIN = {
    "no line": [],
    "an underscore": [b"X_Forwarded_User: ghost"],
    "one underscore of two": [b"X-Forwarded_User: ghost"],
    "an underscore before the proxy's": [b"X_Forwarded_User: ghost", b"X-Forwarded-User: other"],
    "an underscore after the proxy's": [b"X-Forwarded-User: other", b"X_Forwarded_User: ghost"],
    "an underscore of the same": [b"X-Forwarded-User: ghost", b"x_forwarded_user: ghost"],
    "twice": [b"X-Forwarded-User: ghost", b"X-Forwarded-User: ghost"],
    "the client's first": [b"X-Forwarded-User: ghost", b"x-forwarded-user: other"],
    "the client's last": [b"X-Forwarded-User: other", b"X-FORWARDED-USER: ghost"],
    "a comma": [b"X-Forwarded-User: ghost,other"],
    "a comma and a space": [b"X-Forwarded-User: other, ghost"],
    "nothing in it": [b"X-Forwarded-User:"],
    "white space": [b"X-Forwarded-User:  \t "],
    "not UTF-8": ["X-Forwarded-User: ghost\N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1")],
    "another header": [b"X-Forwarded-Users: ghost", b"Remote-User: ghost", b"Authorization: Bearer ghost"],
    "a cookie": [b"Cookie: X-Forwarded-User=ghost"],
}


@pytest.mark.parametrize("lines", UNCERTAIN.values(), ids=UNCERTAIN.keys())
def test_what_is_not_one_plain_header_line_never_authenticates(
    service: Service, store: Store, lines: list[bytes]
) -> None:
    order = order_of("ghost", "netflix")
    answers = [
        send(service, "GET /users/ghost", *lines),
        send(service, "GET /api/users/ghost", *lines),
        send(service, "POST /orders", *lines, *order_lines(order), body=order),
    ]

    assert answers == [Reply(401, {"error": "unauthenticated"})] * 3
    assert store.users.get("ghost") is None


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"X-Forwarded-User: jo", "/users/jo"),
        (b"x-FORWARDED-user: jo", "/api/users/jo"),
        (b"X-Forwarded-User:  jo ", "/users/%20jo"),
        ("X-Forwarded-User: José".encode(), "/users/Jos%C3%A9"),
        ("X-Forwarded-User: Jose\N{COMBINING ACUTE ACCENT}".encode(), "/users/Jos%C3%A9"),
        ("X-Forwarded-User: José".encode(), "/users/Jose%CC%81"),
        ("X-Forwarded-User: \N{WAVING HAND SIGN}".encode(), "/users/%F0%9F%91%8B"),
        (b"X-Forwarded-User: a/b", "/users/a/b"),
    ],
)
def test_users_see_themselves_in_utf_8(service: Service, line: bytes, path: str) -> None:
    assert send(service, f"GET {path}", line).status == 200


def test_users_order_for_themselves_only(service: Service, store: Store) -> None:
    for user_id, status in [("José", 200), ("josé", 403), ("Jose", 403)]:
        order = order_of(user_id, "netflix")
        line = "X-Forwarded-User: José".encode()
        assert send(service, "POST /api/orders", line, *order_lines(order), body=order).status == status

    assert [order.items for order in store.orders.of_user("José")] == [("netflix",)]
    assert store.users.get("josé") is None


def test_a_query_may_hold_what_is_not_ascii(service: Service) -> None:
    assert send(service, "GET /users/jo?name=José&%FF", b"X-Forwarded-User: jo").status == 200


def test_a_chunked_order_is_read(service: Service) -> None:
    order = order_of("chunky", "netflix")
    lines = [b"X-Forwarded-User: chunky", b"Content-Type: application/json", b"Transfer-Encoding: chunked"]
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(order), order)

    assert send(service, "POST /orders", *lines, body=body).status == 200


def test_a_chunked_body_over_the_limit_is_refused_and_not_cut_there(service: Service) -> None:
    lines = [b"X-Forwarded-User: chunky", b"Content-Type: application/json", b"Transfer-Encoding: chunked"]
    order = order_of("chunky", "netflix").ljust(64 * 1024 + 1)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(order), order)

    assert send(service, "POST /orders", *lines, body=body).status == 413


def test_the_description_says_so(service: Service) -> None:
    document = service.request("GET", "/api/openapi.json").json

    for path, method in [("/users/{user_id}", "get"), ("/orders", "post")]:
        operation = document["paths"][path][method]
        assert operation["security"] == [{"proxy": []}]
        assert {"401", "403"} <= operation["responses"].keys()
    assert "401" not in document["paths"]["/products"]["get"]["responses"]
    assert document["components"]["securitySchemes"]["proxy"]["name"] == HEADER


def test_another_users_page_is_forbidden_and_creates_no_user(service: Service, store: Store) -> None:
    answer = send(service, "GET /users/boss", b"X-Forwarded-User: johndoe")

    assert answer == Reply(403, {"error": "forbidden"})
    assert store.users.get("boss") is None


def test_identity_is_settled_before_the_body_is_read(service: Service) -> None:
    """The body never arrives; a service that waited for it would not answer."""
    assert send(service, "POST /orders", *order_lines(b"x" * 1_000)).status == 401


def test_bytes_that_are_no_name_are_not_let_through_as_one(service: Service, store: Store) -> None:
    answer = send(service, "GET /users/%FF", "X-Forwarded-User: \N{REPLACEMENT CHARACTER}".encode())

    assert answer == Reply(400, {"error": "invalid_user_id"})
    assert store.users.get("\N{REPLACEMENT CHARACTER}") is None


@pytest.mark.parametrize(
    "path",
    ["/products", "/api/products", "/healthz", "/metrics", "/api/docs", "/api/docs/docs.js", "/openapi.json"],
)
def test_public_paths_need_no_identity(service: Service, path: str) -> None:
    assert service.request("GET", path).status == 200


def test_a_preflight_needs_none(service: Service) -> None:
    origin = "http://localhost:3000"
    answer = service.request("OPTIONS", "/orders", Origin=origin, **{"Access-Control-Request-Method": "POST"})

    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 99"])
def test_an_order_whose_client_leaves_before_its_end_is_not_placed(
    service: Service, store: Store, framing: bytes
) -> None:
    """All that came of it is an order, but its client had more to say."""
    order = order_of("leaver", "netflix")
    request_id = f"left-{framing[:3].decode()}"
    lines = [b"X-Forwarded-User: leaver", b"X-Request-ID: " + request_id.encode()]
    lines += [b"Content-Type: application/json", framing]
    with socket.create_connection(("127.0.0.1", service.port), timeout=A_LONG_TIME) as connection:
        connection.sendall(b"\r\n".join([b"POST /orders HTTP/1.1", b"Host: x", *lines, b"", b""]))
        connection.sendall(b"%x\r\n%s\r\n" % (len(order), order) if b"chunked" in framing else order)
    wait_for(lambda: f'"request_id":"{request_id}"' in service.log.read_text().splitlines()[-1])

    assert '"status":400,' in service.log.read_text().splitlines()[-1]
    assert store.users.get("leaver") is None


def test_serve_prints_the_header_that_it_trusts(service: Service) -> None:
    assert (
        "The service trusts X-Forwarded-User: only a proxy that sets this header may reach the address."
        in service.log.read_text()
    )
