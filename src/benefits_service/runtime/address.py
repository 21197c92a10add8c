"""The address of the service: one service at a time has it, although its worker processes share it."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress


def claim(host: str, port: int) -> socket.socket:
    """Return a socket that holds an address as long as it is open, but does not listen.

    The worker processes of this user can then listen there, with SO_REUSEPORT; no other service can claim the address.

    :raises OSError: the address can't be listened at, or is claimed already; its ``strerror`` has the reason.
    """
    try:
        [family, kind, protocol, _, address], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # what a name with an empty or an endless part ends in
        raise OSError(errno.EINVAL, "It is not the name of a host") from error
    claimed = socket.socket(family, kind, protocol)
    try:
        # Connections of an earlier service may still be closing. This option ignores them; it also lets others bind,
        # but of all that have bound one alone can listen. Without it, none can bind from then on.
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claimed.bind(address)
        claimed.listen(1)
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        # Only Linux can end listening. Elsewhere, nothing connects to it by chance.
        with suppress(OSError):
            claimed.shutdown(socket.SHUT_RD)
        # Not before: another service with this option could have bound as well.
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        claimed.close()
        raise
    return claimed
