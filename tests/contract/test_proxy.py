"""Behind a proxy, a balancer or a page of another origin: paths, forwarded headers, idle connections, request ids."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from benefits_core import UseCases
from benefits_http import create_app
from benefits_service.middleware.identity import add_identity_endpoint
from benefits_service.middleware.metrics import Metrics
from benefits_service.middleware.proxy import OWN_PATHS
from benefits_service.openapi import describe_service
from benefits_sqlite import SqliteStore
from contract.faults import serving
from contract.running import Service

OK = HTTPStatus.OK


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service with a root path. It trusts no forwarded header."""
    folder = tmp_path_factory.mktemp("rooted")
    (folder / "index.html").write_text("page", encoding="utf-8")
    database = folder / "benefits.db"
    with serving(database, "--root-path", "/perks/", "--frontend", str(folder), workers=1) as service:
        yield service


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that trusts forwarded headers."""
    database = tmp_path_factory.mktemp("trusting") / "benefits.db"
    with serving(database, "--trust-forwarded", workers=1) as service:
        yield service


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that knows of no proxy."""
    database = tmp_path_factory.mktemp("plain") / "benefits.db"
    with serving(database, workers=1) as service:
        yield service


def server_of(service: Service, path: str, **headers: str) -> str:
    """Return the server that the OpenAPI document of a path names."""
    [server] = service.request("GET", path, **headers).json["servers"]
    return str(server["url"])


def metrics_of(service: Service, path: str, **headers: str) -> str:
    """Return where the OpenAPI document of a path says that the metrics are."""
    metrics = service.request("GET", path, **headers).json["paths"]["/metrics"]["get"]
    return str(metrics["servers"][0]["url"]) + "metrics"


def links(service: Service, path: str, **headers: str) -> set[str]:
    """Return the links of a page to other pages."""
    page = service.request("GET", path, **headers).body.decode()
    return {link for link in re.findall(r'(?:href|src)="([^"#]+)"', page) if "openapi" in link}


def test_with_a_root_path_the_description_names_it_whether_the_proxy_removes_it_or_not(
    rooted: Service,
) -> None:
    for prefix in ("", "/perks"):
        assert server_of(rooted, f"{prefix}/openapi.json") == "/perks"
        assert server_of(rooted, f"{prefix}/api/openapi.json") == "/perks/api"
        assert metrics_of(rooted, f"{prefix}/api/openapi.json") == "/perks/metrics"
        assert links(rooted, f"{prefix}/api/docs") == {"openapi.json"}  # relative to what the browser sees
        assert rooted.request("GET", f"{prefix}/users/jo").status == OK
        assert rooted.request("GET", f"{prefix}/").body == b"page"
    moved = rooted.request("GET", "/perks")
    assert (moved.status, moved.headers["location"]) == (HTTPStatus.PERMANENT_REDIRECT, "/perks/")
    assert rooted.request("GET", "/perks2/products").status == HTTPStatus.NOT_FOUND
    assert rooted.request("GET", "/perks//products").status == HTTPStatus.NOT_FOUND


def test_without_trust_a_forwarded_prefix_changes_nothing(rooted: Service, plain: Service) -> None:
    headers = {
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
    }
    assert server_of(rooted, "/api/openapi.json", **headers) == "/perks/api"
    assert server_of(plain, "/api/openapi.json", **headers) == "/api"


@pytest.mark.parametrize("prefix", ["/perks", "/perks/", "/other, /perks"])
def test_with_trust_the_prefix_is_the_one_that_the_last_proxy_names(trusting: Service, prefix: str) -> None:
    headers = {"X-Forwarded-Prefix": prefix}
    assert server_of(trusting, "/api/openapi.json", **headers) == "/perks/api"
    assert metrics_of(trusting, "/api/openapi.json", **headers) == "/perks/metrics"
    assert server_of(trusting, "/api/openapi.json") == "/api"
    assert metrics_of(trusting, "/api/openapi.json") == "/metrics"


@pytest.mark.parametrize("prefix", ["/users", "/users/jo", "/api"])
def test_a_forwarded_prefix_like_a_path_of_the_service_is_not_removed_again(
    trusting: Service, prefix: str
) -> None:
    headers = {"X-Forwarded-Prefix": prefix}
    assert trusting.request("GET", "/users/jo", **headers).status == OK
    assert trusting.request("GET", "/api/users/jo", **headers).status == OK
    assert server_of(trusting, "/api/openapi.json", **headers) == f"{prefix}/api"


def test_it_is_known_how_the_paths_of_the_service_begin(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "benefits.db") as store:
        app = create_app(UseCases.over(store), document=describe_service())
        Metrics().expose_on(app)
        add_identity_endpoint(app)
        assert {rule.rule.split("/")[1] for rule in app.url_map.iter_rules()} == OWN_PATHS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-Prefix", "//evil.example"),
        ("X-Forwarded-Prefix", "https://evil.example"),
        ("X-Forwarded-Prefix", "/a b"),
        ("X-Forwarded-Prefix", ","),
        ("X-Forwarded-Host", "evil.example:port:port"),
        ("X-Forwarded-Port", "much"),
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-For", "[::1"),
    ],
)
def test_a_forwarded_header_without_sense_is_no_error(trusting: Service, name: str, value: str) -> None:
    assert server_of(trusting, "/api/openapi.json", **{name: value}) == "/api"
    assert trusting.request("GET", "/users/jo", **{name: value}).status == OK


def test_a_header_with_underscores_is_not_the_one_of_the_proxy(trusting: Service) -> None:
    """WSGI has the same name for both, and joins their values."""
    headers = {"X-Forwarded-Prefix": "/perks", "X_Forwarded_Prefix": "/evil"}
    assert server_of(trusting, "/api/openapi.json", **headers) == "/perks/api"
    assert server_of(trusting, "/api/openapi.json", X_Forwarded_Prefix="/evil") == "/api"


def test_it_says_whom_it_trusts(trusting: Service) -> None:
    assert "The service trusts X-Forwarded-*: only a proxy" in trusting.log.read_text()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHo"]
)
def test_idle_connections_and_headers_that_do_not_come_are_ended_after_the_time_that_is_set(
    tmp_path: Path, sent: bytes
) -> None:
    with (
        serving(tmp_path / "benefits.db", "--keep-alive", "2", workers=1) as service,
        socket.create_connection(("127.0.0.1", service.port)) as connection,
    ):
        began = time.monotonic()
        connection.sendall(sent)
        while connection.recv(10_000):
            pass
        assert 1.5 < time.monotonic() - began < 20


@pytest.mark.slow
def test_an_idle_connection_stays_open_longer_than_a_balancer_keeps_it(plain: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", plain.port)
    for pause in (0, 65):
        time.sleep(pause)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}'
    assert (
        connection.sock is not None
    )  # the first one: http.client opens another only after it has closed one
    connection.close()


def test_pages_of_other_origins_may_send_and_read_request_ids(plain: Service) -> None:
    preflight = plain.request(
        "OPTIONS",
        "/orders",
        Origin="http://localhost:3000",
        **{
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, x-request-id",
        },
    )
    assert "x-request-id" in preflight.headers["access-control-allow-headers"].lower()
    answer = plain.request("GET", "/products", Origin="http://localhost:3000", **{"X-Request-ID": "page-7"})
    assert answer.headers["x-request-id"] == "page-7"
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
