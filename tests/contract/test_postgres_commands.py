"""The ``benefits`` command over PostgreSQL: what each command prints, and one line for all that can be wrong.

The password is in no output, whatever the command does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from http import HTTPStatus
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs
import pytest

from benefits_core import GetUser, PlaceOrder, StorageUnavailableError, Store
from benefits_postgres import PostgresStore, audit_database, shown
from benefits_service import main
from benefits_service.databases import database_at
from contract.running import SEED, environment, reserve_port, running, seed
from postgres_server import Server, new_server
from unit.command import Command
from waiting import A_LONG_TIME

PASSWORD: Final = "p@rt/one:tw%o two"  # noqa: S105 - of this test; each character before "one" and "two" means something in a URL
ESCAPED: Final = quote(PASSWORD, safe="")
PARTS: Final = ("p@rt", "rt/one", "one:tw", "tw%o", "two", ESCAPED)

# What differs from one run to the next.
CHANGING: Final = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)|erased-[0-9a-f]{16}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server at which the role clerk has a password, and a database."""
    rules = ["local all clerk scram-sha-256", "host all clerk all scram-sha-256"]
    with new_server(tcp_port=reserve_port(), hba=rules) as server:
        server.psql(f"CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'")
        server.psql("CREATE DATABASE benefits OWNER clerk")
        server.psql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
        server.psql("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0; CREATE ROLE guest LOGIN")
        yield server


@attrs.frozen
class Database:
    """A schema of the server that is empty at first.

    :param url: with the password.
    :param url_without_password: one that leaves the password to the environment.
    :param name: what commands call it.
    """

    url: str
    url_without_password: str
    name: str

    def store(self) -> PostgresStore:
        return PostgresStore(self.url)

    def run(self, *arguments: str | Path, status: int = 0) -> str:
        """Run a command, and return what it prints; if its status is not 0, the error."""
        return run(*arguments, "--database", self.url, status=status)


@pytest.fixture
def database(server: Server, request: pytest.FixtureRequest) -> Iterator[Database]:
    schema = re.sub("[^a-z]", "_", request.node.name)[:60]
    server.psql(f"CREATE SCHEMA {schema} AUTHORIZATION clerk", "benefits")
    where = f"127.0.0.1:{server.port}/benefits"
    options = f"?options=-csearch_path%3D{schema}"
    url = f"postgresql://clerk:{ESCAPED}@{where}{options}"
    yield Database(url, f"postgresql://clerk@{where}{options}", f"postgresql://clerk@{where}")
    server.psql(f"DROP SCHEMA {schema} CASCADE", "benefits")


def run(*arguments: str | Path, status: int = 0) -> str:
    """Run a command to its end, in this process; return its output, or else the one line of its error."""
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        pytest.MonkeyPatch.context() as patched,
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as exited,
    ):
        patched.setattr(sys, "argv", ["benefits", *map(str, arguments)])
        main()
    printed, errors = (stream.buffer.getvalue().decode() for stream in (out, err))
    return checked(exited.value.code or 0, printed, errors, status)


def checked(status: object, out: str, err: str, expected: int) -> str:
    assert not [part for part in PARTS if part in out + err]
    assert (status, out == "" or err == "") == (expected, True), out + err
    if expected:
        assert re.fullmatch("benefits: .*\n", err), err
        return err
    return out


def order(store: Store) -> None:
    """Place orders, as employees do."""
    PlaceOrder(store)("jo", ["netflix", "spotify"])
    PlaceOrder(store)("jo", ["flu-vaccination"])
    PlaceOrder(store)("al", ["gym-membership"])


def grants_file(folder: Path) -> Path:
    path = folder / "grants.csv"
    path.write_text("user_id,amount\nal,7.50\nnew,1\n", encoding="utf-8")
    return path


# Each story is told by a command after the other. Before all but the first, a catalogue is there, and three orders.
STORIES: Final[dict[str, list[list[str]]]] = {
    "catalogue": [
        ["seed", str(SEED)],
        ["seed", "--if-empty", str(SEED)],
        ["retire", "gym-membership", "netflix", "--by", "Bo"],
        ["products", "--format", "csv"],
        ["check"],
    ],
    "money": [
        ["grant", "welcome", "50", "jo", "al", "--by", "Bo"],
        ["grant", "budget", "--from", "grants.csv", "--create", "--by", "Bo"],
        ["grant", "bonus", "10", "--all", "--by", "Bo", "--note", "well done"],
        ["grant", "bonus", "10", "--all"],
        ["users"],
        ["show", "jo", "--format", "csv"],
    ],
    "orders": [
        ["orders", "--lines", "--format", "jsonl"],
        ["cancel", "1", "--dry-run"],
        ["cancel", "1", "--by", "Bo"],
        ["cancel", "1", "3", "--by", "Bo"],
        ["orders"],
        ["report", "--format", "jsonl"],
    ],
    "people": [
        ["export-user", "jo", "--currency", "EUR"],
        ["erase", "jo", "--yes"],
        ["orders"],
        ["users", "--format", "jsonl"],
        ["check"],
    ],
}


def tell(story: str, location: str, name: str, command: Callable[[Sequence[str]], str]) -> list[str]:
    """Tell a story by commands; return what each of them has printed, but for what changes."""
    if story != "catalogue":
        seed(location)
        with database_at(location).open(print) as store:
            order(store)
    printed = [command(arguments).replace("\r\n", "\n") for arguments in STORIES[story]]
    return [CHANGING.sub("*", text.replace(name, "DATABASE")) for text in printed]


@pytest.mark.parametrize("story", STORIES)
def test_commands_print_what_they_print_over_sqlite(
    database: Database,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    story: str,
) -> None:
    in_this_process = Command(capsys, monkeypatch, tmp_path)
    grants_file(tmp_path)

    def over_sqlite(arguments: Sequence[str]) -> str:
        return checked(*in_this_process(*arguments, "--database", "benefits.db"), 0)

    printed = tell(story, database.url, database.name, lambda arguments: database.run(*arguments))

    assert printed == tell(story, "benefits.db", "benefits.db", over_sqlite)
    assert all(printed)
    assert audit_database(database.url).findings == ()


def test_backup_names_the_tools_of_postgresql(database: Database, tmp_path: Path) -> None:
    database.store().close()

    assert database.run("backup", tmp_path / "copy.db", status=2) == (
        f"benefits: {database.name}: PostgreSQL is backed up by its own tools: pg_dump, or pg_basebackup with an archive"
        " of its log\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_serve_names_the_database_without_the_password(database: Database, tmp_path: Path) -> None:
    with running(database.url, folder=tmp_path, workers=1) as service:
        assert service.order("jo", "netflix").status == HTTPStatus.OK
        assert service.user("jo")["product_ids"] == ["netflix"]
        assert service.request("GET", "/healthz").status == HTTPStatus.OK
        printed = service.log.read_text()

    assert f"Serving {database.name} at http://127.0.0.1:{service.port} with 1 worker process;" in printed
    checked(0, service.log.read_text(), "", 0)
    with database.store() as store:
        assert [one.items for one in store.orders.of_user("jo")] == [("netflix",)]


def test_serve_folds_the_stored_user_ids_and_refuses_twins(database: Database, tmp_path: Path) -> None:
    option = "--identity-case-insensitive"
    with database.store() as store:
        GetUser(store)("JDoe")
    with running(database.url, option, folder=tmp_path, workers=1, traced=True) as service:
        assert "User ids that were case-folded: 1.\n" in service.log.read_text()
        assert service.order("jdoe", "netflix").status == HTTPStatus.OK
        assert service.order("JDOE", "netflix").json == {"error": "products_already_purchased"}
    with database.store() as store:
        assert [user.user_id for user in store.users.page(9)] == ["jdoe"]
        GetUser(store)("JDOE")

    assert database.run("serve", option, "--port", str(reserve_port()), status=2) == (
        f"benefits: {database.name}: user ids differ only by case: 'JDOE' and 'jdoe'; rename all but one of each\n"
    )


def test_the_database_and_its_password_may_come_from_the_environment(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("seed", SEED)
    passfile = tmp_path / "pgpass"
    passfile.write_text("*:*:*:clerk:" + PASSWORD.replace(":", "\\:") + "\n", encoding="utf-8")
    passfile.chmod(0o600)

    with monkeypatch.context() as patched:
        patched.setenv("BENEFITS_DATABASE", database.url)
        assert "museum-pass" in run("products")
    with monkeypatch.context() as patched:
        patched.setenv("PGPASSFILE", str(passfile))
        assert "museum-pass" in run("products", "--database", database.url_without_password)
    missing = run("products", "--database", database.url_without_password, status=2)
    assert "no password supplied; name it in ~/.pgpass, or in the variable PGPASSWORD\n" in missing


def failure(url: str, *command: str) -> str:
    """Run a command over a database that it can't use; return why, after the name of the database."""
    line = run(*(command or ("products",)), "--database", url, status=2)
    prefix = f"benefits: {shown(url)}: "
    assert line.startswith(prefix)
    return line.removeprefix(prefix).removesuffix("\n")


def socket_of(server: Server) -> str:
    return f'connection to server on socket "{server.folder}/.s.PGSQL.{server.port}" failed: '


class TestErrors:
    """One line, exit status 2."""

    @pytest.mark.parametrize("command", [("products",), ("serve",)])
    def test_wrong_password(self, server: Server, command: tuple[str, ...]) -> None:
        if command == ("serve",):
            command = ("serve", "--port", str(reserve_port()))
        url = server.url(user="clerk", password=f"{PASSWORD} and more")

        assert failure(url, *command) == (
            f'{socket_of(server)}FATAL: password authentication failed for user "clerk"'
        )

    def test_no_such_database(self, server: Server) -> None:
        assert failure(server.url(database="none")) == (
            f'{socket_of(server)}FATAL: database "none" does not exist'
        )

    def test_no_such_role(self, server: Server) -> None:
        assert failure(server.url(user="none")) == f'{socket_of(server)}FATAL: role "none" does not exist'

    def test_too_many_connections(self, server: Server) -> None:
        assert failure(server.url(user="crowd")) == (
            f'{socket_of(server)}FATAL: too many connections for role "crowd"'
        )

    def test_connection_refused(self) -> None:
        port = reserve_port()
        url = f"postgresql://clerk:{ESCAPED}@127.0.0.1:{port}/benefits"

        assert failure(url) == f'connection to server at "127.0.0.1", port {port} failed: Connection refused'

    def test_each_server_of_several_is_named_once(self, server: Server) -> None:
        first, second = reserve_port(), reserve_port()
        url = server.url(
            user="clerk", password=PASSWORD, host="127.0.0.1,127.0.0.1", port=f"{first},{second}"
        )

        assert failure(url) == "; ".join(
            f'connection to server at "127.0.0.1", port {port} failed: Connection refused'
            for port in (first, second)
        )

    def test_no_such_socket(self, server: Server, tmp_path: Path) -> None:
        assert failure(server.url(host=tmp_path)).endswith("failed: No such file or directory")

    def test_unknown_host(self) -> None:
        url = f"postgresql://clerk:{ESCAPED}@no-such-host.invalid/benefits"

        assert failure(url).startswith("failed to resolve host 'no-such-host.invalid': ")

    def test_a_host_that_can_not_be_one(self) -> None:
        url = f"postgresql://clerk:{ESCAPED}@no..host/benefits"

        assert failure(url) == "the name of its host is not valid"

    def test_tls_is_required_and_the_server_has_none(self, server: Server) -> None:
        assert failure(server.url(host="127.0.0.1", sslmode="require")).endswith(
            "failed: server does not support SSL, but SSL was required"
        )

    def test_another_encoding_than_utf_8(self, server: Server) -> None:
        assert failure(server.url(database="ascii"), "seed", str(SEED)) == (
            "its encoding is SQL_ASCII; create a database with ENCODING 'UTF8'"
        )

    def test_a_role_that_may_not_create_tables(self, server: Server) -> None:
        assert failure(server.url(user="guest"), "seed", str(SEED)) == (
            "permission denied for schema public; the role needs the right to create tables in it"
        )

    @pytest.mark.parametrize("command", [("products",), ("grant", "bonus", "1", "--all")])
    def test_a_database_without_tables(self, server: Server, command: tuple[str, ...]) -> None:
        assert failure(server.url(), *command) == (
            "it has no tables of this program; benefits seed creates them"
        )
        assert server.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"

    def test_a_standby_which_can_not_be_written_to(self, server: Server) -> None:
        standby = server.standby()
        try:
            line = failure(standby.url())
        finally:
            standby.stop()

        assert line == (
            f"{socket_of(standby)}server is in hot standby mode;"
            " name the primary server, or all of them: postgresql://USER@HOST,HOST/NAME"
        )


# What is not escaped in a password is taken for another part of the URL. No part of it may be printed.
SECRET: Final = "Geheim"  # noqa: S105 - of this test
WRONG_URLS: Final = [
    f"postgresql://clerk:{password}@127.0.0.1:1/benefits"
    for password in (
        f"{SECRET}@{SECRET}",
        f"{SECRET}@@{SECRET}",
        f"@{SECRET}",
        f"{SECRET}/{SECRET}",
        f"1/{SECRET}",
        f"1/{SECRET}?x=1",
        f"{SECRET}@{SECRET}/{SECRET}:{SECRET}",
        f"{SECRET}%{SECRET}",
        f"%{SECRET}",
        f"{SECRET}%00",
        f"{SECRET} {SECRET}",
        f"{SECRET}@{SECRET}?{SECRET}",
        f"{SECRET}/{SECRET}?{SECRET}={SECRET}",
        f"{SECRET}@[{SECRET}",
        f"{SECRET}\udcff",
    )
] + [
    f"postgresql://clerk:{SECRET}/benefits",
    f"postgresql://clerk:{SECRET}",
    f"postgresql://clerk:{SECRET}@127.0.0.1:1/benefits?no_such_option={SECRET}",
    f"postgresql://clerk:{SECRET}@127.0.0.1:1/benefits?password",
    f"postgresql://127.0.0.1:1/benefits?user=clerk&password={SECRET}%",
    f"postgresql://clerk@127.0.0.1:{SECRET}/benefits",
]
OTHER_URLS: Final = [
    f"postgresql+psycopg://clerk:{SECRET}@127.0.0.1/benefits",
    f"POSTGRESQL://clerk:{SECRET}@127.0.0.1/benefits",
    f"mysql://clerk:{SECRET}@127.0.0.1/benefits",
    f"postgresql:clerk:{SECRET}@127.0.0.1",
    f"postgres:/clerk:{SECRET}@127.0.0.1",
]
# Those that libpq understands as they are meant.
RIGHT_URLS: Final = [
    f"postgresql://clerk:{password}@127.0.0.1:1/benefits"
    for password in (
        f"{SECRET}:{SECRET}",
        f"{SECRET}?{SECRET}",
        f"{SECRET}#{SECRET}&=",
        f"[{SECRET}",
        f"{SECRET}%40%2F",
    )
] + [
    f"postgres://127.0.0.1:1/benefits?user=clerk&password={SECRET}@/{SECRET}",
    f"postgresql://clerk@/benefits?host=127.0.0.1&port=1&password={SECRET}",
    f"postgresql://clerk:{SECRET}@127.0.0.1,[::1]:1/benefits",
]


class TestUrls:
    @pytest.mark.parametrize("url", WRONG_URLS)
    def test_a_malformed_one_is_refused_and_nothing_of_it_is_shown(self, url: str) -> None:
        with pytest.raises(StorageUnavailableError) as refused:
            database_at(url)

        assert str(refused.value).startswith("this is no valid PostgreSQL URL; write postgresql://USER@HOST")
        assert refused.value.__cause__ is None
        for use in shown, PostgresStore:
            with pytest.raises(StorageUnavailableError) as again:
                use(url)
            assert str(again.value) == str(refused.value)

    @pytest.mark.parametrize("url", OTHER_URLS)
    def test_one_of_another_kind_is_not_taken_for_a_file(self, url: str) -> None:
        with pytest.raises(StorageUnavailableError) as refused:
            database_at(url)

        assert str(refused.value) == "a database is a SQLite file, or a URL that begins with postgresql://"

    @pytest.mark.parametrize("url", RIGHT_URLS)
    def test_the_password_of_a_valid_one_is_not_shown(self, url: str) -> None:
        database = database_at(url)

        assert "127.0.0.1" in database.name
        assert SECRET not in database.name + repr(database)
        with pytest.raises(StorageUnavailableError) as refused:
            database.open(print)
        assert str(refused.value).startswith(f"{database.name}: ")
        assert SECRET not in str(refused.value)

    @pytest.mark.parametrize(
        "url", [WRONG_URLS[0], WRONG_URLS[3], OTHER_URLS[0], RIGHT_URLS[0], RIGHT_URLS[1]]
    )
    def test_a_command_shows_nothing_of_it(self, url: str) -> None:
        assert SECRET not in run("products", "--database", url, status=2)

    def test_nor_does_a_command_with_an_argument_too_many(self) -> None:
        assert SECRET not in run("products", RIGHT_URLS[0], status=2)


def run_without(hide: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command over PostgreSQL in a process that runs some code first."""
    url = f"postgresql://clerk:{ESCAPED}@127.0.0.1:1/benefits"
    program = f"import sys; {hide}; from benefits_service import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "products", "--database", url],
        env=environment(traced=True) | variables,
        capture_output=True,
        text=True,
        timeout=A_LONG_TIME,
        check=False,
    )


class TestPsycopg:
    def test_if_it_is_missing_the_line_says_how_to_install_it(self) -> None:
        done = run_without("sys.modules['psycopg'] = None")

        assert checked(done.returncode, done.stdout, done.stderr, 2) == (
            "benefits: the package psycopg is not installed; run: pip install 'benefits[postgres]'\n"
        )

    def test_so_it_does_if_it_lacks_its_library(self) -> None:
        done = run_without("sys.modules['psycopg_c'] = None", PSYCOPG_IMPL="c")

        line = checked(done.returncode, done.stdout, done.stderr, 2)
        assert line.endswith("; run: pip install 'benefits[postgres]'\n")

    def test_a_file_needs_none_of_it(self, tmp_path: Path) -> None:
        hide = "sys.modules['psycopg'] = None; sys.argv[-1] = 'benefits.db'"
        run("seed", SEED, "--database", tmp_path / "benefits.db")
        done = run_without(f"import os; os.chdir({os.fspath(tmp_path)!r}); {hide}")

        assert "museum-pass" in checked(done.returncode, done.stdout, done.stderr, 0)
