"""The service as its users run it: a real process, listening at a port of this machine."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

A_LONG_TIME = 30
SEED = Path(__file__).parents[2] / "seed.json"


@attrs.frozen
class Answer:
    """What the service said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Service:
    """A service that is running."""

    process: subprocess.Popen[str]
    port: int
    database: Path

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=A_LONG_TIME)
        try:
            if body is not None and not isinstance(body, bytes):
                headers = {"Content-Type": "application/json", **headers}
                body = json.dumps(body).encode()
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def order(self, user_id: str, *items: str) -> Answer:
        """Order something."""
        return self.request("POST", "/orders", {"order": {"items": items, "user_id": user_id}})

    def user(self, user_id: str) -> Any:
        """Return what the service says of a user."""
        return self.request("GET", f"/users/{user_id}").json["user"]["data"]

    def answers(self) -> bool:
        """Tell whether the service is up and well."""
        try:
            return self.request("GET", "/healthz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_until_it_answers(self) -> None:
        """Wait for it, and say what it said if it never does."""
        deadline = time.monotonic() + A_LONG_TIME
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(self.process.communicate()[0])
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it, and return its exit status."""
        self.process.send_signal(how)
        return self.process.wait(A_LONG_TIME)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def benefits(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "benefits_http.service", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=A_LONG_TIME, check=False)


def start(database: Path, *options: str, port: int | None = None) -> Service:
    """Start a service, without waiting for it."""
    port = port or free_port()
    command = [sys.executable, "-m", "benefits_http.service", "serve", "--database", str(database)]
    process = subprocess.Popen(
        [*command, "--port", str(port), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Service(process, port, database)


@contextmanager
def running(database: Path, *options: str) -> Iterator[Service]:
    """Run a service over a database, which is filled from seed.json if it is empty."""
    seeded = benefits("seed", "--if-empty", SEED, "--database", database)
    assert seeded.returncode == 0, seeded.stderr
    service = start(database, *options)
    try:
        service.wait_until_it_answers()
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()
        assert service.process.stdout
        service.process.stdout.close()
