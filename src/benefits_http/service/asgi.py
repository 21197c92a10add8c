"""The application as the server runs it: an event loop answers what can be answered at once, and threads what has to wait.

Reading waits for nobody, so it needs no thread, and no other thread to contend with for the interpreter. A client that stalls,
in the middle of its order or of an answer, costs some memory and nothing else. And ASGI keeps header lines as they arrived, by
which ``identity`` tells who is asking.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from io import BytesIO
from typing import Any, Final
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import ClientDisconnected

from benefits_core import Store, UnitOfWork
from benefits_http.wire import MAX_BODY_BYTES

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApplication = Callable[[Event, Receive, Send], Awaitable[None]]

_NAMES: Final = {b"content-length": "CONTENT_LENGTH", b"content-type": "CONTENT_TYPE"}


class NotHereError(BaseException):
    """The event loop would have to wait for something. No ``Exception``, which an application would answer."""


class ThreadsOnly:
    """A store whose units of work, which wait for their turn and for the disk, are not for an event loop."""

    def __init__(self, store: Store) -> None:
        self._open = store.unit_of_work
        self.users, self.products, self.orders = store.users, store.products, store.orders
        self.ping = store.ping

    def unit_of_work(self) -> AbstractContextManager[UnitOfWork]:
        """See :class:`~benefits_core.ports.Store`.

        :raises NotHereError: this is an event loop.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # there is none
            return self._open()
        raise NotHereError


class _NothingYet:
    """The body of a request that has not been read."""

    def read(self, _: int = -1) -> bytes:
        raise NotHereError


class _Broken:
    """The body of a request whose client has left before its end."""

    def read(self, _: int = -1) -> bytes:
        # What has come may look like all of it.
        raise ClientDisconnected


def as_asgi(app: WSGIApplication, *, threads: int, body_first: bool) -> ASGIApplication:
    """Return a WSGI application as an ASGI one, for HTTP alone.

    An application that raises NotHereError on the event loop is asked again on a thread, so it must not have changed anything.

    :param threads: how many requests may wait for something at the same time.
    :param body_first: whether to read the body of a POST before the application is asked, as it nearly always wants it; else
        the application may answer without.
    """
    pool = ThreadPoolExecutor(threads)

    async def asgi(scope: Event, receive: Receive, send: Send) -> None:
        environ = _environ(scope)
        posted = scope["method"] == "POST" and not _too_long(environ.get("CONTENT_LENGTH", ""))
        try:
            if posted and body_first:
                raise NotHereError  # noqa: TRY301 - as the application would
            status, headers, body = _answer(app, environ)
        except NotHereError:
            if posted:
                environ["wsgi.input"] = await _body(receive)
            status, headers, body = await asyncio.get_running_loop().run_in_executor(
                pool, _answer, app, environ
            )
        lines = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    return asgi


def _too_long(length: str) -> bool:
    return length.isdecimal() and int(length) > MAX_BODY_BYTES


async def _body(receive: Receive) -> BytesIO | _Broken:
    """Read a body, or so much of it that it is seen to be too large."""
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        event = await receive()
        if event["type"] == "http.disconnect":
            return _Broken()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    return BytesIO(body)


def _answer(app: WSGIApplication, environ: WSGIEnvironment) -> tuple[int, list[tuple[str, str]], bytes]:
    status, headers = "", []

    def start_response(
        line: str, lines: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], object]:
        nonlocal status, headers
        status, headers = line, lines
        return body.append

    body: list[bytes] = []
    answer = app(environ, start_response)
    try:
        body.extend(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return int(status[:3]), headers, b"".join(body)


def _environ(scope: Event) -> WSGIEnvironment:
    host, port = scope["server"]
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode(
            "latin-1"
        ),  # ASGI's own has lost what isn't UTF-8
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": _NothingYet(),
        "wsgi.input_terminated": True,  # else nobody would read a chunked body
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "asgi.scope": scope,
    }
    for name, value in scope["headers"]:
        key = _NAMES.get(name) or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ
