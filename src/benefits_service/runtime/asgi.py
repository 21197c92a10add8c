"""The bridge from ASGI, which the server speaks, to WSGI, which Flask speaks: each request runs in a greenlet.

A client that stalls in the middle of a request or a response holds some memory and no thread. ASGI also keeps header lines as
they arrived; ``middleware/identity.py`` needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import ClientDisconnected

from benefits_service.runtime.suspension import Suspendable, suspend_until

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApplication = Callable[[Event, Receive, Send], Awaitable[None]]

_Answer = tuple[int, list[tuple[str, str]], bytes]

# Only these exact names: a client may send names like them, with underscores.
_WITHOUT_PREFIX: Final = {b"content-length": "CONTENT_LENGTH", b"content-type": "CONTENT_TYPE"}

# What is the same for every request.
_SERVER: Final[WSGIEnvironment] = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.input_terminated": True,  # else Werkzeug would not read a chunked body
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": False,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


class _Body:
    """The body of a request, received as far as the application reads it."""

    def __init__(self, receive: Receive, length: str) -> None:
        self._receive = receive
        # With a known length, the last read needs no further event. A chunked body has no known length.
        self._to_come = int(length) if length.isdecimal() else None
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes, or fewer at the end; all that are left if it is negative.

        :raises ClientDisconnected: the client went away before the end.
        """
        while self._to_come != 0 and not 0 <= size <= len(self._held):
            event = suspend_until(self._receive())
            if event["type"] == "http.disconnect":
                raise ClientDisconnected  # what has arrived may look like a complete body
            chunk = event.get("body", b"")
            self._held += chunk
            if not event.get("more_body"):
                self._to_come = 0
            elif self._to_come is not None:
                self._to_come = max(0, self._to_come - len(chunk))
        body = self._held if size < 0 else self._held[:size]
        self._held = self._held[len(body) :]
        return body


def as_asgi(app: WSGIApplication) -> ASGIApplication:
    """Return a WSGI application as an ASGI application, for HTTP only and one event loop.

    It runs in the loop's thread, and may call :func:`~benefits_service.runtime.suspension.suspend_until`.
    """
    answer = Suspendable(_answer)

    async def asgi(scope: Event, receive: Receive, send: Send) -> None:
        status, headers, body = await answer(app, _environ(scope, receive))
        lines = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    return asgi


def _answer(app: WSGIApplication, environ: WSGIEnvironment) -> _Answer:
    status, headers = "", []

    def start_response(
        line: str, lines: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], object]:
        nonlocal status, headers
        status, headers = line, lines
        return written.append

    written: list[bytes] = []
    body = whole_body(app(environ, start_response))
    return int(status[:3]), headers, b"".join([*written, body])


def whole_body(answer: Iterable[bytes]) -> bytes:
    """Return the complete body of a WSGI response, and close the response."""
    try:
        return b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()


def _environ(scope: Event, receive: Receive) -> WSGIEnvironment:
    host, port = scope["server"]
    environ = _SERVER | {
        "REQUEST_METHOD": scope["method"],
        # ASGI's decoded path has lost the bytes that are not UTF-8.
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.url_scheme": scope["scheme"],
        "asgi.scope": scope,
    }
    for name, value in scope["headers"]:
        key = _WITHOUT_PREFIX.get(name) or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    environ["wsgi.input"] = _Body(receive, environ.get("CONTENT_LENGTH", ""))
    return environ
