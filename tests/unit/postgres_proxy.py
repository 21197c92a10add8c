"""A proxy before a PostgreSQL server that loses a COMMIT or the answer to it, as a network does, but when a test wants it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import attrs

from waiting import A_LONG_TIME

_QUERY = b"Q"
_READY = b"Z\0\0\0\5"  # the last message of an answer, but for one byte


@attrs.define(eq=False)
class Link:
    """A connection of a client, and the one of the proxy to the server that belongs to it.

    :ivar answered: set by what the server says last, once the client is not told it.
    """

    client: socket.socket
    server: socket.socket
    answered: Event | None = None

    def pass_on(self, message: bytes) -> None:
        self.server.sendall(message)

    def pass_answers_on(self) -> None:
        """Give the client what the server says, until one of them closes its connection."""
        end = b""
        with suppress(OSError):
            while data := self.server.recv(65536):
                end = (end + data)[-len(_READY) - 1 :]
                if self.answered is None:
                    self.client.sendall(data)
                elif end[:-1] == _READY:
                    self.answered.set()
        self.close()

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.client.recv(count - len(data))
            if not more:
                raise ConnectionError
            data += more
        return data

    def finish(self, message: bytes) -> None:
        """Give the server a message, and wait until it has answered; the client gets nothing of it."""
        self.answered = Event()
        self.pass_on(message)
        assert self.answered.wait(A_LONG_TIME)

    def close_client(self) -> None:
        _close(self.client)

    def close(self) -> None:
        _close(self.client)
        _close(self.server)


Fault = Callable[[Link, bytes], None]
"""Does something else with a message than to pass it on."""


def lose_answer(link: Link, message: bytes) -> None:
    link.finish(message)
    link.close()


def lose_server(link: Link, message: bytes) -> None:
    """Do what PgBouncer does if its connection to the server is lost: answer with an error, and end the client's too."""
    link.finish(message)
    fields = b"SFATAL\0C08P01\0Mserver conn crashed?\0\0"
    link.client.sendall(b"E" + (4 + len(fields)).to_bytes(4) + fields)
    link.close()


def lose_message(link: Link, _: bytes) -> None:
    link.close()


@attrs.define(eq=False)
class Delay:
    """A fault: the client loses its connection, and the message arrives later, or never."""

    kept_back: Event = attrs.field(factory=Event)
    _link: Link | None = None
    _message: bytes = b""

    def __call__(self, link: Link, message: bytes) -> None:
        self._link, self._message = link, message
        link.close_client()
        self.kept_back.set()

    def deliver(self) -> None:
        assert self._link is not None
        self._link.finish(self._message)
        self._link.close()

    def drop(self) -> None:
        assert self._link is not None
        self._link.close()


@attrs.define(eq=False)
class Proxy:
    """Listens at a port of 127.0.0.1.

    :ivar faults: what becomes of the next COMMITs, one each.
    :ivar commits: the COMMITs that have come.
    :ivar is_open: whether clients can connect.
    """

    server_port: int
    listener: socket.socket
    faults: list[Fault] = attrs.field(factory=list)
    commits: list[bytes] = attrs.field(factory=list)
    is_open: bool = True

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def then_unreachable(self, fault: Fault) -> Fault:
        """Return a fault after which no client can connect."""

        def cause(link: Link, message: bytes) -> None:
            self.is_open = False
            fault(link, message)

        return cause

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # it was closed
            if self.is_open:
                Thread(target=self._serve, args=[client], daemon=True).start()
            else:
                client.close()

    def _serve(self, client: socket.socket) -> None:
        link = Link(client, socket.create_connection(("127.0.0.1", self.server_port)))
        Thread(target=link.pass_answers_on, daemon=True).start()
        try:
            self._pass_messages_on(link)
        except OSError:
            link.close()

    def _pass_messages_on(self, link: Link) -> None:
        size = link.read(4)  # the first message has no type
        link.pass_on(size + link.read(int.from_bytes(size) - 4))
        while True:
            head = link.read(5)
            message = head + link.read(int.from_bytes(head[1:]) - 4)
            if head[:1] == _QUERY and message.rstrip(b"\0 \n").endswith(b"COMMIT"):
                self.commits.append(message)
                if self.faults:
                    self.faults.pop(0)(link, message)
                    return
            link.pass_on(message)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def proxy_to(server_port: int) -> Iterator[Proxy]:
    """Run a proxy to a server that listens at a port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(server_port, listener)
        Thread(target=proxy.accept, daemon=True).start()
        yield proxy
        _close(listener)
