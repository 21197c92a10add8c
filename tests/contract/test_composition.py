"""What the runtime serves: any store that implements the ports, any use case, any error, without knowing them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from contract.running import Service, environment, reserve_port
from waiting import A_LONG_TIME


@contextmanager
def served(kind: str, folder: Path) -> Iterator[Service]:
    """Serve one of the compositions of ``served.py``."""
    port, log = reserve_port(), folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "contract.served", kind, str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment() | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
    service = Service(process, port, folder, log, 1, time.monotonic())
    try:
        service.wait_until_it_answers()
        yield service
    finally:
        if process.poll() is None:
            assert service.stop() == 0


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served("product", tmp_path_factory.mktemp("product")) as service:
        yield service


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served("extended", tmp_path_factory.mktemp("extended")) as service:
        yield service


class TestStoreThatOnlyImplementsThePorts:
    def test_users_products_and_orders_are_served(self, product: Service) -> None:
        assert product.user("al") == {"balance": 500, "product_ids": []}
        assert product.request("GET", "/products").json == {
            "products": [{"id": "netflix", "name": "Netflix", "price": 75.99}]
        }
        assert product.order("al", "netflix").json["order"]["data"] == {"items": ["netflix"], "total": 75.99}
        assert product.user("al") == {"balance": 424.01, "product_ids": ["netflix"]}
        refused = product.order("al", "nothing")
        assert (refused.status, refused.json) == (400, {"error": "products_not_found"})

    def test_of_32_simultaneous_identical_orders_one_is_placed(self, product: Service) -> None:
        barrier = Barrier(32)

        def order(_: int) -> int:
            barrier.wait(A_LONG_TIME)
            return product.order("jo", "netflix").status

        with ThreadPoolExecutor(32) as pool:
            assert Counter(pool.map(order, range(32))) == {200: 1, 400: 31}
        assert product.user("jo") == {"balance": 424.01, "product_ids": ["netflix"]}


class TestUseCaseAndErrorThatTheProductDoesNotHave:
    def test_the_use_case_changes_the_store(self, extended: Service) -> None:
        answer = extended.request("POST", "/gifts", {"from": "jo", "to": "al", "product": "netflix"})

        assert (answer.status, answer.body) == (200, b"al")

    @pytest.mark.parametrize(
        ("receiver", "product", "status", "code"),
        [("jo", "netflix", 409, "gift_refused"), ("al", "nothing", 400, "products_not_found")],
    )
    def test_an_error_raised_inside_its_change_is_answered_by_the_error_table(
        self, extended: Service, receiver: str, product: str, status: int, code: str
    ) -> None:
        answer = extended.request("POST", "/gifts", {"from": "jo", "to": receiver, "product": product})

        assert (answer.status, answer.json) == (status, {"error": code})
