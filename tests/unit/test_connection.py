"""Connections between processes: what is sent arrives, whole and in its order, however it is cut on its way."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from benefits_http.service.connection import Connection


class Ear(Connection):
    """An end that remembers what it has received."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: asyncio.Queue[Any] = asyncio.Queue()

    def receive(self, message: Any) -> None:
        self.heard.put_nowait(message)


async def connected() -> tuple[Ear, Ear]:
    loop = asyncio.get_running_loop()
    ears = []
    for end in socket.socketpair():
        _, ear = await loop.create_connection(Ear, sock=end)
        ears.append(ear)
    one, other = ears
    return one, other


@pytest.mark.parametrize("message", [[], "jo", "\ud800", list(range(1_000_000))])
def test_what_is_sent_arrives(message: Any) -> None:
    async def talk() -> None:
        one, other = await connected()
        one.send(message)
        one.send("and this")
        assert await other.heard.get() == message
        assert await other.heard.get() == "and this"
        one.end()
        other.end()
        await asyncio.sleep(0)

    asyncio.run(talk())


def test_it_does_not_matter_in_which_pieces_it_arrives() -> None:
    sent = bytearray()

    class Wire(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview[int]) -> None:
            sent.extend(data)

    mouth, ear = Ear(), Ear()
    mouth.connection_made(Wire())
    for message in ("a", ["b"], ""):
        mouth.send(message)

    for byte in sent:
        ear.data_received(bytes([byte]))
    ear.data_received(bytes(sent))

    heard = [ear.heard.get_nowait() for _ in range(6)]
    assert heard == ["a", ["b"], ""] * 2
    assert ear.heard.empty()


def test_what_was_never_connected_can_be_ended() -> None:
    Ear().end()
