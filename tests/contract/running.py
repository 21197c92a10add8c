"""The service as its users run it: a real process, listening at a port of this machine."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import attrs

from benefits_core import OfferProducts
from benefits_service.commands.catalogue_file import read_catalogue
from benefits_service.databases import database_at
from waiting import A_LONG_TIME

SEED = Path(__file__).parents[2] / "seed.json"
PROGRAM = (sys.executable, "-m", "benefits_service")


@attrs.frozen
class Answer:
    """What the service said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def answer_on(connection: http.client.HTTPConnection) -> Answer:
    """Wait for the answer to what was sent on a connection."""
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


@attrs.frozen
class Service:
    """A service that is running, in a process group of its own."""

    process: subprocess.Popen[bytes]
    port: int
    location: str = attrs.field(converter=str)
    """A file, or the URL of a database."""
    log: Path
    worker_count: int
    began: float
    """When it was started, by ``time.monotonic()``."""
    start_took: float = 0
    """How many seconds passed until it answered."""
    proxy: Callable[[str, Any], dict[str, str]] | None = None
    """What a proxy before it adds to the headers of a request for this path with this body."""

    @property
    def database(self) -> Path:
        """The file of the database."""
        return Path(self.location)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request, and return its answer. See :meth:`send`."""
        with closing(self.send(method, path, body, **headers)) as connection:
            return answer_on(connection)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPConnection:
        """Send one request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=A_LONG_TIME)
        if self.proxy is not None:
            headers = {**headers, **self.proxy(path, body)}
        try:
            if body is not None and not isinstance(body, bytes):
                headers = {"Content-Type": "application/json", **headers}
                body = json.dumps(body).encode()
            connection.request(method, path, body, headers)
        except BaseException:
            connection.close()
            raise
        return connection

    def order(self, user_id: str, *items: str) -> Answer:
        """Order something."""
        with closing(self.send_order(user_id, *items)) as connection:
            return answer_on(connection)

    def send_order(self, user_id: str, *items: str) -> http.client.HTTPConnection:
        """Send an order on a connection of its own."""
        return self.send("POST", "/orders", {"order": {"items": items, "user_id": user_id}})

    def user(self, user_id: str) -> Any:
        """Return what the service says of a user."""
        return self.request("GET", f"/users/{user_id}").json["user"]["data"]

    def listeners(self) -> int:
        """Return how many sockets listen at its port: each worker has one."""
        table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        mine = f"0100007F:{self.port:04X}"
        return sum(1 for line in table if line.split()[1] == mine and line.split()[3] == "0A")

    def answers(self) -> bool:
        """Tell whether all of the service is up and well."""
        return self.listeners() == self.worker_count and self.answers_at_all()

    def answers_at_all(self) -> bool:
        """Tell whether one of its workers is well."""
        try:
            return self.request("GET", "/healthz").status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def wait_until_it_answers(self) -> float:
        """Wait for it, and return how many seconds it took to start.

        :raises AssertionError: it never answers; the message is what it has logged.
        """
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > self.began + A_LONG_TIME:
                self.kill()
                raise AssertionError(self.log.read_text())
            time.sleep(0.01)
        return time.monotonic() - self.began

    def seconds(self, number: float) -> float:
        """Return a limit for what has to be quick: so many seconds where a start of the service takes one.

        On a slower machine it is as many starts: what has to be quick takes longer there too.
        """
        return number * max(1, self.start_took)

    def workers(self) -> set[int]:
        """Return the ids of the worker processes."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return {int(child) for child in children if b"spawn_main" in command_of(child)}

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it, and return its exit status."""
        self.process.send_signal(how)
        return self.process.wait(A_LONG_TIME)

    def kill(self) -> None:
        """Kill it at once, its workers too, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(A_LONG_TIME)


def command_of(process: str) -> bytes:
    """Return the command line of a process; nothing, if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


_reserved: Final[list[socket.socket]] = []


def reserve_port(host: str = "127.0.0.1") -> int:
    """Return a port that no other process is given as long as this one runs, and at which a service can listen.

    A socket that is bound and does not listen reserves it. A port that is merely free now may be another test's, or the
    local end of any connection, before the service listens; and services share a port without a word.
    """
    socket_of_it = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        socket_of_it.setsockopt(socket.SOL_SOCKET, option, 1)
    socket_of_it.bind((host, 0))
    _reserved.append(socket_of_it)
    port: int = socket_of_it.getsockname()[1]
    return port


def benefits(*arguments: str | Path, traced: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(
        command,
        env=environment(traced=traced),
        capture_output=True,
        text=True,
        timeout=A_LONG_TIME,
        check=False,
    )


def environment(*, traced: bool = False) -> dict[str, str]:
    """Return the environment of a process that a test starts.

    :param traced: whether what it runs counts as covered by tests, which makes it half as fast. One service is enough.
    """
    return {name: value for name, value in os.environ.items() if traced or "COVERAGE" not in name}


def start(  # noqa: PLR0913 - how a service can differ
    database: Path | str,
    *options: str,
    folder: Path | None = None,
    workers: int = 2,
    traced: bool = False,
    before: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
    **process_options: Any,
) -> Service:
    """Start a service, without waiting for it.

    :param database: a file, or the URL of a database.
    :param folder: where its log is to be; it may be left out if the database is a file, which the log is then beside.
    :param before: a command that runs the service, such as ``nohup``.
    :param program: the command ``benefits``, or one that differs from it.
    :param process_options: what ``subprocess.Popen`` is given, such as another output than the log.
    """
    port = reserve_port()
    command = [*program, "serve", "--database", str(database)]
    log = (folder or Path(database).parent) / f"service-at-{port}.log"
    began = time.monotonic()
    with log.open("wb") as output:
        usual: dict[str, Any] = {
            "stdout": output,
            "stderr": subprocess.STDOUT,
            "start_new_session": True,
            "env": environment(traced=traced),
        }
        process = subprocess.Popen(
            [*before, *command, "--port", str(port), "--workers", str(workers), *options],
            **usual | process_options,
        )
    return Service(process, port, database, log, workers, began)


def seed(database: Path | str) -> None:
    """Fill a database, a file or one at a URL, from seed.json, if it has no catalogue."""
    with database_at(str(database)).open(print) as store:
        if not store.products.list_all():
            OfferProducts(store)(read_catalogue(SEED.read_bytes()))


@contextmanager
def running(
    database: Path | str,
    *options: str,
    folder: Path | None = None,
    workers: int = 2,
    traced: bool = False,
) -> Iterator[Service]:
    """Run a service over a database, which is filled from seed.json if it is empty. See ``start``."""
    seed(database)
    service = start(database, *options, folder=folder, workers=workers, traced=traced)
    try:
        yield attrs.evolve(service, start_took=service.wait_until_it_answers())
    finally:
        if service.process.poll() is None:
            service.stop()
        assert "panicked" not in service.log.read_text()  # which threads of the server do, if it ends amiss
