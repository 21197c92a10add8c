"""What a socket can deliver: bodies, paths, headers and clients that no friend would send, to the running service."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from zlib import crc32

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benefits_core import InvalidUserIdError
from benefits_core.values import normal_user_id
from benefits_sqlite import SqliteStore, audit_database
from contract.running import Service, running
from waiting import A_LONG_TIME

ORDER = b'{"order":{"items":["netflix"],"user_id":"victim"}}'
JSON = "application/json"
LIMIT = 64 * 1024


def claimed_identity(path: str, body: Any) -> dict[str, str]:
    """Name the user that a request is about, as a proxy would that believes everybody."""
    user_id = body["order"]["user_id"] if isinstance(body, dict) else "victim"
    with suppress(UnicodeDecodeError, InvalidUserIdError):
        if path.startswith("/users/") and b"," not in unquote_to_bytes(path):
            user_id = normal_user_id(unquote_to_bytes(path.removeprefix("/users/")).decode())
    return {"X-Forwarded-User": user_id.encode().decode("latin-1")}  # as which http.client sends it


@pytest.fixture(scope="module", params=["alone", "behind a proxy"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service. After all the tests, its books balance, and there is no user called victim.

    Behind a proxy, it reads the identity before the body, and must withstand the same requests.
    """
    proxied = request.param == "behind a proxy"
    options = ["--identity-header", "X-Forwarded-User"] if proxied else []
    with running(tmp_path_factory.mktemp("hostile") / "benefits.db", *options) as started:
        yield attrs.evolve(started, proxy=claimed_identity) if proxied else started
        assert started.request("GET", "/healthz").status == 200
        log = started.log.read_text()
    assert "Traceback" not in log
    assert audit_database(str(started.database)).findings == ()
    with SqliteStore(started.database) as store:
        assert store.users.get("victim") is None


def assert_refused(answer: Any, status: int, code: str) -> None:
    """Assert that an answer is this error, in JSON."""
    assert (answer.status, answer.headers["content-type"]) == (status, JSON)
    assert answer.json["error"] == code


def nested(depth: int) -> bytes:
    """Return JSON of so many brackets."""
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("end", range(len(ORDER)))
def test_a_body_cut_anywhere_is_refused(service: Service, end: int) -> None:
    answer = service.request("POST", "/orders", ORDER[:end], **{"Content-Type": JSON})

    assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        nested(32_000),
        nested(100_000)[:LIMIT],
        b'{"order":' * 7_000,
        b"1e999",
        b"9" * 4_000,
        b'{"order":{"items":[1e999],"user_id":"victim"}}',
        b'{"order":{"items":[%s],"user_id":"victim"}}' % (b"9" * 5_000),
        b'{"order":{"items":["netflix"],"user_id":"victim"},"order":7}',
        b'{"order":{"items":["\\ud800"],"user_id":"victim"}}',
        b'{"order":{"items":["netflix"],"user_id":"\\udc00victim"}}',
        b"\x00" + ORDER,
        ORDER + b"\x00",
        ORDER.decode().encode("utf-16"),
        ORDER.decode().encode("utf-32"),
        b"\xef\xbb\xbf" + ORDER,
        ORDER.replace(b"netflix", b"\xff"),
        ORDER.replace(b"netflix", b"\xed\xa0\x80"),
        b'{"order":{"items":%s,"user_id":"victim"}}' % json.dumps(["netflix"] * 5_000).encode(),
        b"order=netflix",
        b"<order/>",
        b"'",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_can_not_be_understood_is_refused(service: Service, body: bytes) -> None:
    answer = service.request("POST", "/api/orders", body, **{"Content-Type": JSON})

    assert_refused(answer, 400, "invalid_request")


@settings(max_examples=200)
@given(body=st.binary(max_size=200) | st.from_regex(rb'\{"order":[\x00-\xff]{0,60}\}', fullmatch=True))
def test_random_bytes_are_refused(service: Service, body: bytes) -> None:
    answer = service.request("POST", "/orders", body, **{"Content-Type": JSON})

    assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "\xff",
    ],
)
def test_a_body_of_another_type_is_refused(service: Service, content_type: str) -> None:
    answer = service.request("POST", "/orders", ORDER, **{"Content-Type": content_type})

    assert_refused(answer, 415, "unsupported_media_type")


@settings(max_examples=200)
@given(path=st.binary(max_size=100))
def test_any_bytes_as_a_path_are_answered_in_json(service: Service, path: bytes) -> None:
    """Percent-encoded, so that the web server lets them through to the application."""
    answer = service.request("GET", "/users/" + "".join(f"%{byte:02X}" for byte in path))

    assert answer.status in {200, 400, 403, 404}
    assert answer.headers["content-type"] == JSON


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/users/%00", 400),
        ("/users/%FF", 400),
        ("/users/a%2Fb", 200),
        ("/users/a%2F", 404),
        ("/users/..", 200),
        ("/users/../products", 200),
        ("/../products", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/users/%C0%AE", 400),
        ("/users/" + "x" * 8_000, 400),
        ("/users/" + "%F0%9F%98%80" * 64, 200),
        ("/users/" + "%F0%9F%98%80" * 65, 400),
        ("/users/" + "%CC%81" * 2_500, 400),
        ("/products?" + "q" * 8_000, 200),
        ("/products?%FF%00", 200),
        ("/products%3F", 404),
        ("/products;x", 404),
        ("/PRODUCTS", 404),
    ],
)
def test_a_tricky_path_is_answered_as_the_contract_says(service: Service, path: str, status: int) -> None:
    answer = service.request("GET", path)

    assert (answer.status, answer.headers["content-type"]) == (status, JSON)


@pytest.mark.parametrize("path", ["/users/jo", "/products", "/orders", "/healthz", "/nothing"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
def test_every_method_everywhere_is_answered_without_html(service: Service, method: str, path: str) -> None:
    answer = service.request(method, path)

    assert answer.status in {200, 400, 404, 405}  # a list of orders needs the name of a user
    assert answer.headers.get("content-type") in {None, JSON}
    assert (answer.status == 405) == ("allow" in answer.headers and method != "OPTIONS")


def raw(service: Service, request: bytes) -> bytes:
    """Send bytes, and return the answer's first line."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=A_LONG_TIME) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline()


@pytest.mark.parametrize(
    "request_head",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /products HTTP/9.9\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    ],
    ids=lambda head: repr(head[:50]),
)
def test_what_is_not_http_is_never_a_success_nor_a_server_error(
    service: Service, request_head: bytes
) -> None:
    answer = raw(service, request_head)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))


def test_a_huge_body_is_refused_by_its_length_alone(service: Service) -> None:
    head = (
        b"POST /orders HTTP/1.1\r\nHost: x\r\nX-Forwarded-User: huge\r\n"
        b"Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    )

    assert raw(service, head).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "lie",
    [
        b"Content_Length: 0",
        b"Content_Length: 99999999",
        b"Content_Length: " + b"9" * 5000,
        b"Content_Type: text/plain",
    ],
    ids=lambda lie: repr(lie[:30]),
)
def test_what_only_looks_like_a_header_of_the_body_tells_nothing_of_it(service: Service, lie: bytes) -> None:
    name = b"liar-%d" % crc32(lie)
    order = b'{"order":{"items":["netflix"],"user_id":"%s"}}' % name
    request = (
        b"POST /orders HTTP/1.1\r\nHost: x\r\nX-Forwarded-User: %s\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n%s\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (name, lie, len(order), order)
    )

    assert raw(service, request).startswith(b"HTTP/1.1 200")


def test_nor_does_it_make_json_of_what_has_no_type(service: Service) -> None:
    head = b"POST /orders HTTP/1.1\r\nHost: x\r\nX-Forwarded-User: liar\r\nContent-Length: 2\r\n"

    assert raw(service, head + b"Content_Type: application/json\r\n\r\n{}").startswith(b"HTTP/1.1 415")


def test_hundreds_of_slow_clients_do_not_stop_the_others(service: Service) -> None:
    """Each has sent a part of its body and will never send the rest: the worst that a byte a second comes to."""
    head = (
        b"POST /orders HTTP/1.1\r\nHost: x\r\nX-Forwarded-User: slow\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with ExitStack() as slow:
        for _ in range(400):
            connection = slow.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            connection.sendall(head)
        for number in range(50):
            assert service.order(f"quick-{number}", "netflix").status == 200
            assert service.request("GET", "/products").status == 200


def test_memory_stays_flat_under_large_bodies(service: Service) -> None:
    def peak() -> int:
        statuses = [Path(f"/proc/{worker}/status").read_text().splitlines() for worker in service.workers()]
        return sum(int(line.split()[1]) for status in statuses for line in status if line.startswith("VmHWM"))

    for _ in range(20):
        service.request("POST", "/orders", b"x" * LIMIT, **{"Content-Type": JSON})
    before = peak()
    for _ in range(300):
        assert service.request("POST", "/orders", b"x" * LIMIT, **{"Content-Type": JSON}).status == 400

    assert peak() - before < 20 * 1024  # in KiB; 300 bodies kept would be 19,200
