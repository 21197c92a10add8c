"""The service over PostgreSQL: beside the same over SQLite, beside a peer, and over a large database beside an empty one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs

from benchmarks import files, peer
from benchmarks.load import ORDERS, USERS, Result, clients, take_turns
from benchmarks.parts import MANY, Found, Plan, Row, at_least, evenly
from benchmarks.servers import InvalidError, gunicorn, service
from benefits_postgres import PostgresStore
from postgres_server import MissingServerError, Server, new_server

_SETTINGS: Final = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
}

# The same data as in SQLite files; see files.py. No trigger runs, and so no foreign key is checked: that would take a minute
# for a million orders, which are consistent anyway.
_FILL: Final = """
    SET session_replication_role = replica;
    INSERT INTO products (product_id, name, price, position{retired_note})
    SELECT 'product-' || n, 'Benefit number ' || n, 100 + n * 37 % 4900, n - 1{note}
    FROM generate_series(1, {products}) AS n;

    INSERT INTO order_lines (order_number, user_number, product_id, position, name, price)
    SELECT n, buyer, 'product-' || bought, 0, 'Benefit number ' || bought, 100 + bought * 37 % 4900
    FROM (
        SELECT n, (n - 1) % {users} + 1 AS buyer, ((n - 1) % {users} + (n - 1) / {users}) % {products} + 1 AS bought
        FROM generate_series(1, {orders}) AS n
    ) AS sales;

    INSERT INTO orders (order_number, user_number, total, placed_at{cancelled_note})
    SELECT order_number, user_number, price, to_timestamp(1767225600.1265 + order_number){note} FROM order_lines;

    INSERT INTO users (user_number, user_id, granted, balance)
    SELECT n, 'employee-' || n, 50000, 50000 - coalesce(spent, 0)
    FROM generate_series(1, {users}) AS n
    LEFT JOIN (SELECT user_number AS n, sum(price) AS spent FROM order_lines GROUP BY 1) AS spent USING (n);

    INSERT INTO grants (user_number, reference, position, amount, given_by, given_at, note)
    SELECT user_number, 'opening', 0, granted, 'benefits', '2026-01-01T00:00:00Z', '' FROM users;

    SELECT setval('{user_numbers}', {users} + 1, false), setval('{order_numbers}', {orders} + 1, false);
    """
_OURS: Final = {
    "retired_note": ", retired_note",
    "cancelled_note": ", cancelled_note",
    "note": ", ''",
    "user_numbers": "user_numbers",
    "order_numbers": "order_numbers",
}
_OF_PEER: Final = {
    "retired_note": "",
    "cancelled_note": "",
    "note": "",
    "user_numbers": "users_user_number_seq",
    "order_numbers": "orders_order_number_seq",
}

_EMPTY: Final = files.Size(users=0, orders=0, products=files.SMALL.products)


@contextmanager
def _new_server() -> Iterator[Server]:
    try:
        with new_server(settings=_SETTINGS) as server:
            yield server
    except (MissingServerError, RuntimeError) as error:
        raise InvalidError(f"PostgreSQL: {error}") from error


def _make(server: Server, name: str, size: files.Size) -> str:
    """Make a database of the service with so much in it, and return its URL."""
    server.psql(f"CREATE DATABASE {name}")
    PostgresStore(server.url(name)).close()
    _fill(server, name, size, _OURS)
    return server.url(name)


def _make_for_peer(server: Server, size: files.Size) -> str:
    server.psql("CREATE DATABASE peer")
    peer.create_tables(server.url("peer"))
    _fill(server, "peer", size, _OF_PEER)
    return server.url("peer")


def _fill(server: Server, name: str, size: files.Size, dialect: dict[str, str]) -> None:
    server.psql(_FILL.format(**attrs.asdict(size), **dialect), name)
    server.psql("VACUUM (ANALYZE)", name)


def _settle(server: Server) -> None:
    """Write everything to the disk, so that no checkpoint is due while others are measured."""
    server.psql("CHECKPOINT")


def beside_sqlite_and_peer(plan: Plan) -> Found:
    """Read users and place orders over PostgreSQL, SQLite and by the peer; then place orders beside a million."""
    with _new_server() as server:
        compared = _compare(server, plan)
        grown = _grow(server, plan)
    return Found([*compared.rows, *grown.rows], [*compared.results, *grown.results], compared.memory)


def _compare(server: Server, plan: Plan) -> Found:
    url = _make(server, "benefits", files.SMALL)
    peer_url = _make_for_peer(server, files.SMALL)
    workers, users = plan.workers, files.SMALL.users
    with (
        # Beside the data of PostgreSQL, so that both are on the same disk.
        TemporaryDirectory(dir=server.folder.parent) as folder,
        service(files.make(Path(folder, "benefits.db"), files.SMALL), workers=workers) as (sqlite, _),
        service(url, workers=workers, postmaster=server.pid) as (ours, _),
        gunicorn(
            f"benchmarks.peer:create_app({peer_url!r})",
            "/api/products",
            workers=workers,
            threads=peer.THREADS,
            postmaster=server.pid,
        ) as its,
    ):
        contestants = {"PostgreSQL": ours, "SQLite": sqlite, "PostgreSQL by the peer": its}
        _settle(server)
        reads = take_turns(
            {
                f"users over {name}": clients(MANY, contestant, USERS, users=users)
                for name, contestant in contestants.items()
            },
            rounds=plan.rounds,
            seconds=plan.seconds,
        )
        _settle(server)
        orders = take_turns(
            {
                f"orders over {name}": clients(MANY, contestant, ORDERS)
                for name, contestant in contestants.items()
            },
            rounds=plan.rounds,
            seconds=plan.seconds,
        )
        memory = {
            "service over PostgreSQL": ours.peak_memory(),
            "service over SQLite, beside it": sqlite.peak_memory(),
            "peer": its.peak_memory(),
        }
        disk = Row(f"PostgreSQL {_version(server)} and SQLite: file system", _file_system(folder), met=True)
    our_users, sqlite_users, its_users = reads.values()
    our_orders, sqlite_orders, its_orders = orders.values()
    return Found(
        [
            disk,
            at_least(f"{our_orders.name}, to those over SQLite", our_orders, sqlite_orders, 0.60),
            at_least(f"{our_orders.name}, to those by the peer", our_orders, its_orders, 5),
            evenly(our_orders, 3),
            at_least(f"{our_users.name}, to those over SQLite", our_users, sqlite_users, 0.60),
            Row(
                f"{our_users.name}, to those by the peer",
                f"{our_users.rate:,.0f}/s",
                f"{our_users.beside(its_users):.2f}",
                met=True,
            ),
            _cost(our_orders, its_orders),
            _cost(our_users, its_users),
        ],
        [*reads.values(), *orders.values()],
        memory,
    )


def _grow(server: Server, plan: Plan) -> Found:
    empty = _make(server, "empty", _EMPTY)
    large = _make(server, "large", plan.large)
    with (
        service(empty, workers=plan.workers, postmaster=server.pid) as (light, _),
        service(large, workers=plan.workers, postmaster=server.pid) as (heavy, _),
    ):
        _settle(server)
        found = take_turns(
            {
                "orders, empty PostgreSQL database": clients(MANY, light, ORDERS),
                "orders, large PostgreSQL database": clients(MANY, heavy, ORDERS),
            },
            rounds=plan.rounds,
            seconds=plan.seconds,
        )
    light_orders, heavy_orders = found.values()
    figure = f"PostgreSQL, {plan.large.orders:,} orders of {plan.large.users:,} users: orders, to an empty database"
    return Found([at_least(figure, heavy_orders, light_orders, 0.90)], [*found.values()])


def _cost(mine: Result, its: Result) -> Row:
    return Row(
        f"{mine.name}: processor time a request, of service and PostgreSQL, to the peer's",
        f"{mine.cpu - mine.database_cpu:.0f} + {mine.database_cpu:.0f} µs",
        f"{mine.cpu / its.cpu:.2f}",
        met=True,
    )


def _version(server: Server) -> str:
    return server.psql("SHOW server_version")


def _file_system(folder: str) -> str:
    command = ["stat", "--file-system", "--format=%T", folder]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
