"""Connections between processes: what is sent arrives, whole and in its order, however it is cut on its way."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from benefits_service.runtime.connection import Connection


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
    async def talk() -> bytes:
        one, other = socket.socketpair()
        with other:
            _, mouth = await asyncio.get_running_loop().create_connection(Ear, sock=one)
            for message in ("a", ["b"], ""):
                mouth.send(message)
            mouth.end()
            await asyncio.sleep(0)
            return other.recv(1000)

    sent, ear = asyncio.run(talk()), Ear()
    for byte in sent:
        ear.data_received(bytes([byte]))
    ear.data_received(sent)

    assert [ear.heard.get_nowait() for _ in range(6)] == ["a", ["b"], ""] * 2
    assert ear.heard.empty()


def test_what_is_sent_to_nobody_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def talk() -> None:
        one, other = await connected()
        other.end()
        await asyncio.sleep(0)
        for _ in range(10):
            one.send("anybody there?")
            await asyncio.sleep(0)
        one.end()
        one.send("no")
        await asyncio.sleep(0)

    asyncio.run(talk())
    never_connected = Ear()
    never_connected.send("hello")
    never_connected.end()
    assert not caplog.messages
