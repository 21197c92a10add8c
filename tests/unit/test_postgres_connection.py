"""A connection to PostgreSQL: which servers it refuses, and what it does when it is lost within a transaction."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from benefits_core import StorageUnavailableError
from benefits_postgres import connection
from benefits_postgres.connection import ConnectionLostError, Database
from postgres_schemas import schema_url
from waiting import A_LONG_TIME


@pytest.fixture
def url(tmp_path: Path, postgres_server: None) -> str:  # noqa: ARG001 - the server must run
    return schema_url(tmp_path)


def end_session(url: str, database: Database) -> None:
    """End the session of a connection, as an administrator can."""
    [[[process]]] = database.run("SELECT pg_backend_pid()")
    with psycopg.connect(url, autocommit=True) as by_hand:
        by_hand.execute("SELECT pg_terminate_backend(%s, 10000)", [process])


def test_an_earlier_version_than_14_is_refused_by_its_number(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(url) as by_hand:
        number = by_hand.info.server_version // 10000
    monkeypatch.setattr(connection, "_OLDEST", (number + 1) * 10000)

    with (
        closing(Database(url, A_LONG_TIME)) as database,
        pytest.raises(StorageUnavailableError, match=f"^it is PostgreSQL {number}; version 14 or newer is "),
    ):
        database.run("SELECT 1")


def test_statements_after_a_loss_within_a_transaction_are_not_run_outside_of_it(url: str) -> None:
    with closing(Database(url, A_LONG_TIME)) as database:
        database.run("CREATE TABLE t (x int)")
        database.run("BEGIN; INSERT INTO t VALUES (1)")
        end_session(url, database)
        with pytest.raises(ConnectionLostError):
            database.run("INSERT INTO t VALUES (2)")

        assert database.run("SELECT * FROM t") == [[]]


def test_a_transaction_that_was_lost_is_rolled_back(url: str) -> None:
    with closing(Database(url, A_LONG_TIME)) as database:
        database.run("CREATE TABLE t (x int)")
        database.run("BEGIN; INSERT INTO t VALUES (1)")
        end_session(url, database)
        database.roll_back()

        assert database.run("SELECT * FROM t") == [[]]
