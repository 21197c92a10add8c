"""Storms of orders: clients that order without a pause, whatever is done to the services and to the database meanwhile."""

from __future__ import annotations

import http.client
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from itertools import chain, count
from pathlib import Path
from threading import Event, Lock
from typing import Final

import attrs
import pytest

from benefits_core import Order, User
from benefits_core.reporting import pages
from benefits_service.databases import database_at
from contract.running import Service
from waiting import A_LONG_TIME

ITEMS = ("netflix", "spotify", "amazon-prime", "gym-membership", "museum-pass", "flu-vaccination")

# So that no storm repeats the orders of another one. Clients of two services that have the same number order the same.
_seeds: Final = count()


@attrs.define
class Storm:
    """Clients that order without a pause, and what they were answered.

    :param placed: the body of every answer with status 200, with the user it was for.
    :param refused: how often each other status was answered.
    :param lost: how many requests ended without an answer.
    """

    placed: list[tuple[str, dict[str, object]]] = attrs.field(factory=list)
    refused: Counter[int] = attrs.field(factory=Counter)
    lost: int = 0

    def verify(self, database: Path | str) -> None:
        """Assert that every order that was answered is there, whole, and debited once.

        :param database: a file, or the URL of a database.
        """
        opened = database_at(str(database))
        assert opened.audit().findings == ()
        with opened.open(print) as store:
            user_pages = pages(store.users.page, lambda user: user.user_id)
            users = {user.user_id: user for user in chain.from_iterable(user_pages)}
            order_pages = pages(store.orders.page, lambda order: order.order_id)
            orders = {order.order_id: order for order in chain.from_iterable(order_pages)}
        for user_id, answer in self.placed:
            self._verify_order(users, orders, user_id, answer)

    @staticmethod
    def _verify_order(
        users: Mapping[str, User], orders: Mapping[str, Order], user_id: str, answer: dict[str, object]
    ) -> None:
        order = orders.get(str(answer["order_id"]))
        assert order is not None, f"{answer} is lost"
        assert answer["data"] == {"items": list(order.items), "total": pytest.approx(float(order.total))}
        assert order.user_id == user_id
        assert Counter(users[user_id].product_ids)[order.items[0]] == 1


@contextmanager
def storming(
    services: Sequence[Service], clients: int, storm: Storm | None = None, *, users: int = 10_000
) -> Iterator[Storm]:
    """Let clients order, each on connections of its own, while the block runs.

    :param services: which the clients divide among themselves. The block may put another one in the place of one.
    :param users: for how many users they order: six orders each can be placed.
    """
    storm, seed = storm or Storm(), next(_seeds)
    over, mutex = Event(), Lock()

    def client(number: int) -> None:
        dice = random.Random(f"{seed} {number // len(services)}")  # noqa: S311 - which product is no secret
        while not over.is_set():
            user_id = f"user-{dice.randrange(users)}"
            try:
                answer = services[number % len(services)].order(user_id, dice.choice(ITEMS))
            except (OSError, http.client.HTTPException):
                with mutex:
                    storm.lost += 1
                over.wait(0.05)
                continue
            with mutex:
                if answer.status == HTTPStatus.OK:
                    storm.placed.append((user_id, answer.json["order"]))
                else:
                    storm.refused[answer.status] += 1

    with ThreadPoolExecutor(clients) as pool:
        running_clients = [pool.submit(client, number) for number in range(clients)]
        try:
            yield storm
        finally:
            over.set()
            for one in running_clients:
                one.result(A_LONG_TIME)
