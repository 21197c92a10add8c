"""A connection between two processes of the service, on an event loop: what one sends, the other receives."""

from __future__ import annotations

import asyncio
import pickle
from abc import abstractmethod
from typing import Any, Final, cast

_LENGTH: Final = 4
"""How many bytes say how long the message is that follows them."""


class Connection(asyncio.Protocol):
    """One end. Nobody else has any of the two, so messages are whatever can be pickled."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.Transport", transport)

    @property
    def is_lost(self) -> bool:
        """Whether it was made, and is no more."""
        return self._transport is not None and self._transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        rest = self._begun + data
        while (end := _LENGTH + int.from_bytes(rest[:_LENGTH], "big")) <= len(rest):
            message, rest = rest[_LENGTH:end], rest[end:]
            self.receive(pickle.loads(message))  # noqa: S301 - the other end is ours
        self._begun = rest

    def send(self, message: object) -> None:
        """Send something. It waits in memory until the other end takes it, and is lost if there is none."""
        if self._transport is not None and not self.is_lost:
            body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
            self._transport.write(len(body).to_bytes(_LENGTH, "big") + body)

    def end(self) -> None:
        """End the connection, whatever is still on its way. Sockets are closed in the next turn of the loop."""
        if self._transport is not None:
            self._transport.abort()

    @abstractmethod
    def receive(self, message: Any) -> None:  # noqa: ANN401 - both ends know what they send
        """Take what the other end has sent."""
