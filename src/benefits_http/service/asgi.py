"""The application over ASGI, which keeps header lines as they arrived. a2wsgi does it; this mends what is lost on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from string import punctuation
from typing import Any, cast
from urllib.parse import quote_from_bytes, unquote_to_bytes
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from a2wsgi import WSGIMiddleware
from werkzeug.exceptions import ClientDisconnected

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApplication = Callable[[Event, Receive, Send], Awaitable[None]]


def as_asgi(app: WSGIApplication, *, threads: int) -> ASGIApplication:
    """Return a WSGI application as an ASGI one, for HTTP alone.

    :param threads: how many requests it may answer at the same time.
    """

    def restored(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The path of ASGI has lost what isn't UTF-8.
        environ["PATH_INFO"] = unquote_to_bytes(environ["asgi.scope"]["raw_path"]).decode("latin-1")
        # The server knows where a body ends; without this nobody would read a chunked one.
        environ["wsgi.input_terminated"] = True
        return app(environ, start_response)

    bridge = cast("ASGIApplication", WSGIMiddleware(cast("Any", restored), workers=threads))

    async def asgi(scope: Event, receive: Receive, send: Send) -> None:
        async def receive_or_fail() -> Event:
            event = await receive()
            if event["type"] == "http.disconnect":  # else what has come of a body would pass for all of it
                raise ClientDisconnected
            return event

        # It may hold UTF-8 as it is, and a2wsgi wants ASCII. What is ASCII keeps its meaning, percent signs included.
        scope["query_string"] = quote_from_bytes(scope["query_string"], safe=punctuation).encode()
        await bridge(scope, receive_or_fail, send)

    return asgi
