"""What the service is measured against: views that return a constant, and an order with neither HTTP nor a model."""

from __future__ import annotations

import sqlite3
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Final
from wsgiref.types import WSGIApplication

from flask import Flask, Response

from benchmarks.load import Round
from benefits_core import MemoryStore, UseCases, User
from benefits_http.app import create_app
from benefits_http.wire import user_body
from benefits_service.middleware.metrics import Metrics
from benefits_service.middleware.request_log import with_request_log
from benefits_service.runtime import server
from benefits_service.runtime.address import claim
from benefits_service.runtime.asgi import ASGIApplication, as_asgi

# As long as the answers about the users that are read.
_BODY: Final = user_body(User("employee-500", Decimal("490.34"), ("product-5", "product-6", "product-7")))


def _constant() -> Response:
    return Response(_BODY, mimetype="application/json")


def bare() -> WSGIApplication:
    """Return a Flask application with one view, and nothing else."""
    app = Flask("bare", static_folder=None)
    app.get("/constant")(_constant)
    return app


def dressed() -> WSGIApplication:
    """Return the same view in the coat that the service wears, put together as its composition root does."""
    metrics = Metrics()
    api = create_app(UseCases.over(MemoryStore()))
    metrics.expose_on(api)
    api.get("/constant")(_constant)
    return with_request_log(api, metrics, log_paths=False)


def build(kind: str) -> ASGIApplication:
    """Return one of them, in a worker process."""
    return as_asgi({"bare": bare, "dressed": dressed}[kind]())


def serve(kind: str, workers: int, port: int) -> None:
    """Serve one of them by the service's own server, with all of its settings."""
    with claim("127.0.0.1", port) as address:
        server.serve(partial(build, kind), address=address, workers=workers, keep_alive=server.KEEP_ALIVE)


class BareOrders:
    """Orders by ever-new users as SQLite alone can take them: a transaction each, in one thread.

    The statements are those that no order can do without: look at the product; keep the user with what is left, the
    opening grant, the order, and its line.

    :param database: a file with the service's tables, and so with write-ahead logging.
    """

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(database, isolation_level=None)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._placed = 0

    def place(self) -> None:
        """Place an order for a new user."""
        self._placed += 1
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        now = datetime.now(UTC).isoformat()
        [[name, price]] = execute("SELECT name, price FROM products WHERE product_id = ?", ("product-1",))
        user = execute(
            "INSERT INTO users (user_id, granted, balance) VALUES (?, ?, ?)",
            (f"bare-{self._placed}", 50000, 50000 - price),
        ).lastrowid
        execute(
            "INSERT INTO grants (user_number, reference, position, amount, given_by, given_at, note)"
            " VALUES (?, 'opening', 0, 50000, 'benefits', ?, '')",
            (user, now),
        )
        order = execute(
            "INSERT INTO orders (user_number, total, placed_at) VALUES (?, ?, ?)",
            (user, price, now),
        ).lastrowid
        execute(
            "INSERT INTO order_lines (order_number, user_number, position, product_id, name, price)"
            " VALUES (?, ?, 0, ?, ?, ?)",
            (order, user, "product-1", name, price),
        )
        execute("COMMIT")

    def run(self, seconds: int) -> Round:
        """Place orders, one after the other, for so long."""
        times = [time.perf_counter()]
        cpu = time.process_time()
        while times[-1] - times[0] < seconds:
            self.place()
            times.append(time.perf_counter())
        took = [1000 * (after - before) for before, after in pairwise(times)]
        percentiles = quantiles(took, n=100)
        return Round(
            requests=len(took),
            seconds=times[-1] - times[0],
            cpu=time.process_time() - cpu,
            p50=percentiles[49],
            p99=percentiles[98],
            slowest=max(took),
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
