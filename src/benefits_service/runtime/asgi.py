"""The application as the server runs it: WSGI on an event loop, by ASGI.

A client that stalls, in the middle of its order or of an answer, costs some memory and nothing else: there is no thread that would
wait for it. And ASGI keeps header lines as they arrived, by which ``identity`` tells who is asking.
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

# These names alone, as they are spelt here: with underscores they would be something else, that a client has made up.
_WITHOUT_PREFIX: Final = {b"content-length": "CONTENT_LENGTH", b"content-type": "CONTENT_TYPE"}

# What is the same for every request.
_SERVER: Final[WSGIEnvironment] = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.input_terminated": True,  # else nobody would read a chunked body
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": False,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


class _Body:
    """The body of a request, read when the application wants it, and no more of it than that."""

    def __init__(self, receive: Receive, length: str) -> None:
        self._receive = receive
        # Whoever asks for more than there is waits for a turn of the event loop; but a chunked body tells no length.
        self._to_come = int(length) if length.isdecimal() else None
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or as many as there are."""
        while self._to_come != 0 and not 0 <= size <= len(self._held):
            event = suspend_until(self._receive())
            if event["type"] == "http.disconnect":
                raise ClientDisconnected  # what has come may look like all of it
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
    """Return a WSGI application as an ASGI one, for HTTP alone and one event loop.

    It is called on the loop, and may call :func:`~benefits_service.runtime.suspension.suspend_until`.
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
    """Return the body of an answer of a WSGI application, and let go of what it holds."""
    try:
        return b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()


def _environ(scope: Event, receive: Receive) -> WSGIEnvironment:
    host, port = scope["server"]
    environ = _SERVER | {
        "REQUEST_METHOD": scope["method"],
        # ASGI's own path has lost what isn't UTF-8.
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
