"""The running service: several worker processes, real sockets."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from contract.running import Service, benefits, running
from waiting import A_LONG_TIME

CLIENTS = 32


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that the tests of this module share, each with users of its own."""
    origins = ("--cors-origin", "https://one.example", "--cors-origin", "https://two.example")
    with running(
        tmp_path_factory.mktemp("service") / "benefits.db", *origins, workers=3, traced=True
    ) as started:
        yield started


def test_it_says_where_it_serves(service: Service) -> None:
    assert service.log.read_text().startswith(
        f"Serving {service.database} at http://127.0.0.1:{service.port} with 3 worker processes; Ctrl-C stops.\n"
    )


def test_it_has_as_many_workers_as_it_says(service: Service) -> None:
    assert len(service.workers()) == 3


def test_each_of_its_processes_is_scheduled_as_batch(service: Service) -> None:
    processes = {service.process.pid, *service.workers()}
    assert {os.sched_getscheduler(process) for process in processes} == {os.SCHED_BATCH}


def test_of_32_simultaneous_identical_orders_one_is_placed(service: Service) -> None:
    barrier = Barrier(CLIENTS)

    def order() -> tuple[int, str]:
        barrier.wait(A_LONG_TIME)
        answer = service.order("twin", "netflix")
        return answer.status, answer.json.get("error", "placed")

    with ThreadPoolExecutor(CLIENTS) as pool:
        outcomes = Counter(answer.result() for answer in [pool.submit(order) for _ in range(CLIENTS)])

    assert outcomes == {(200, "placed"): 1, (400, "products_already_purchased"): CLIENTS - 1}
    assert service.user("twin") == {"balance": 424.01, "product_ids": ["netflix"]}


def test_different_orders_at_once_never_overdraw_the_balance(service: Service) -> None:
    items = [product["id"] for product in service.request("GET", "/products").json["products"]]

    with ThreadPoolExecutor(len(items)) as pool:
        answers = list(pool.map(lambda item: service.order("spender", item), items))

    placed = [answer.json["order"]["data"] for answer in answers if answer.status == 200]
    assert {answer.status for answer in answers} == {200, 400}
    user = service.user("spender")
    assert sorted(user["product_ids"]) == sorted(order["items"][0] for order in placed)
    assert user["balance"] == pytest.approx(500 - sum(order["total"] for order in placed))
    assert user["balance"] >= 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/users/a/b", 200),
        ("/api/users/Jos%C3%A9", 200),
        ("/users/%FF", 400),
        ("/users/%", 200),
        ("/users/", 400),
        ("/users/a%0Ab", 400),
        ("/users/a//b", 404),
        ("//products", 404),
        ("/nothing", 404),
    ],
)
def test_awkward_paths_survive_the_web_server(service: Service, path: str, status: int) -> None:
    answer = service.request("GET", path)

    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://one.example", "https://one.example"),
        ("https://two.example", "https://two.example"),
        ("http://localhost:3000", None),
    ],
)
def test_only_the_configured_origins_may_call_it(service: Service, origin: str, allowed: str | None) -> None:
    answer = service.request("GET", "/products", Origin=origin)

    assert answer.headers.get("access-control-allow-origin") == allowed


def test_a_chunked_order_is_read(service: Service) -> None:
    assert chunked(service, b'{"order":{"items":["netflix"],"user_id":"chunked"}}').startswith(
        b"HTTP/1.1 200"
    )


def test_a_chunked_body_over_the_limit_is_refused_and_not_cut_there(service: Service) -> None:
    body = b'{"order":{"items":["netflix"],"user_id":"cut"}}'.ljust(64 * 1024 + 1)

    assert chunked(service, body).startswith(b"HTTP/1.1 413")


def chunked(service: Service, body: bytes) -> bytes:
    """Send an order without a length, in two chunks, and return the beginning of the answer."""
    half = len(body) // 2
    with socket.create_connection(("127.0.0.1", service.port), timeout=A_LONG_TIME) as connection:
        connection.sendall(
            b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        for chunk in (body[:half], body[half:], b""):
            connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        return connection.recv(100)


def test_http_2_is_not_spoken(service: Service) -> None:
    """One connection of it could hold as many threads as it has streams."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=A_LONG_TIME) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        assert connection.recv(100)[:8] in {b"", b"HTTP/1.1"}


def test_a_second_service_at_the_same_port_is_refused_in_one_line(service: Service) -> None:
    second = benefits("serve", "--port", str(service.port), "--database", service.database)

    assert second.returncode == 2
    assert second.stderr == (
        f"benefits: can't listen at 127.0.0.1 port {service.port}: Address already in use; see --host and --port\n"
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order_and_what_was_ordered_is_there_again(tmp_path: Path, how: signal.Signals) -> None:
    database = tmp_path / "benefits.db"
    with running(database, "--opening-balance", "100.5") as service:
        placed = service.order("jo", "netflix").json["order"]
        assert service.stop(how) == 0

    with running(database) as service:
        assert service.user("jo") == {"balance": 24.51, "product_ids": ["netflix"]}
        assert service.order("jo", "flu-vaccination").json["order"]["order_id"] != placed["order_id"]


def test_a_built_frontend_is_served_from_the_origin_of_the_api(tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    (build / "index.html").write_text("<h1>Benefits</h1>")
    with running(tmp_path / "benefits.db", "--frontend", str(build), traced=True) as service:
        assert service.request("GET", "/").body == b"<h1>Benefits</h1>"
        assert service.request("GET", "/products").status == 200
        assert service.request("GET", "/elsewhere").json == {"error": "not_found"}
