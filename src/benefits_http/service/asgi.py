"""The application as the server runs it: an event loop answers what it can at once, and a thread what changes something.

Reading waits for nobody, so the loop does it. What changes something waits for the disk; while it does, more of it comes, and the
thread does all of that next, as one batch: one commit, and no thread for each order that has to be woken up and put to sleep,
which took more time than the orders. A client that stalls, in the middle of its order or of an answer, costs some memory and
nothing else. And ASGI keeps header lines as they arrived, by which ``identity`` tells who is asking.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, suppress
from io import BytesIO
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

import attrs
from werkzeug.exceptions import ClientDisconnected

from benefits_core import StorageUnavailableError, Store, UnitOfWork
from benefits_http.blueprint import error_response
from benefits_http.errors import UNAVAILABLE, UNFORESEEN, Answer
from benefits_http.wire import MAX_BODY_BYTES

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApplication = Callable[[Event, Receive, Send], Awaitable[None]]

# More of them would make the first ones wait for long.
MOST_TOGETHER: Final = 64

_Answer = tuple[int, list[tuple[str, str]], bytes]

_log = logging.getLogger(__name__)

_NAMES: Final = {b"content-length": "CONTENT_LENGTH", b"content-type": "CONTENT_TYPE"}


class NotHereError(BaseException):
    """The event loop would have to wait for something. No ``Exception``, which an application would answer."""


class OffTheLoop:
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


class Batch(Protocol):
    """Opens a block in which units of work are kept together, when it is left; nobody is told of any before."""

    def __call__(self, *, since: float) -> AbstractContextManager[None]:
        """Open it; ``since`` is when the first of those for whom it is began to wait, by ``time.monotonic()``."""
        ...


@attrs.frozen
class _Request:
    environ: WSGIEnvironment
    answer: asyncio.Future[_Answer]
    since: float = attrs.field(factory=time.monotonic)


def as_asgi(app: WSGIApplication, *, batch: Batch, body_first: bool) -> ASGIApplication:
    """Return a WSGI application as an ASGI one, for HTTP alone.

    An application that raises NotHereError on the event loop is asked again on the thread, so it must not have changed anything.

    :param batch: what is around the requests that the thread answers together.
    :param body_first: whether to read the body of a POST before the application is asked, as it nearly always wants it; else
        the application may answer without.
    """
    waiting: SimpleQueue[_Request] = SimpleQueue()
    Thread(target=_answer_in_batches, args=[app, batch, waiting], daemon=True).start()

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
            request = _Request(environ, asyncio.get_running_loop().create_future())
            waiting.put(request)
            status, headers, body = await request.answer
        lines = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    return asgi


def _answer_in_batches(app: WSGIApplication, batch: Batch, waiting: SimpleQueue[_Request]) -> None:
    while True:
        requests = [waiting.get()]
        with suppress(Empty):
            while len(requests) < MOST_TOGETHER:
                requests.append(waiting.get_nowait())
        answers: list[_Answer] = []
        try:
            with batch(since=requests[0].since):
                answers.extend(_answer_somehow(app, request.environ) for request in requests)
        except Exception as error:  # noqa: BLE001 - whatever it is, this thread has to go on
            # None of it was kept, so none of it may be told, whatever the log has said of each already.
            unforeseen = not isinstance(error, StorageUnavailableError)
            _log.error(
                "storage unavailable, %d answers taken back: %s", len(requests), error, exc_info=unforeseen
            )
            headers = [had for _, had, _ in answers] + [[]] * (len(requests) - len(answers))
            answers = [_error(UNAVAILABLE, had) for had in headers]
        loop = requests[0].answer.get_loop()
        loop.call_soon_threadsafe(_deliver, requests, answers)


def _deliver(requests: list[_Request], answers: list[_Answer]) -> None:
    for request, answer in zip(requests, answers, strict=True):
        if not request.answer.done():  # its client may have gone
            request.answer.set_result(answer)


def _answer_somehow(app: WSGIApplication, environ: WSGIEnvironment) -> _Answer:
    try:
        return _answer(app, environ)
    except (Exception, NotHereError):  # noqa: BLE001 - or one that breaks would take the others of its batch with it
        _log.exception("the application gave no answer")
        return _error(UNFORESEEN, [])


def _error(answer: Answer, headers: list[tuple[str, str]]) -> _Answer:
    """Return an error, with what else the answer had that it replaces, such as its id, and who may read it."""
    response = error_response(answer)
    lines = response.headers.to_wsgi_list()
    own = {name for name, _ in lines}
    return response.status_code, lines + [line for line in headers if line[0] not in own], response.data


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


def _answer(app: WSGIApplication, environ: WSGIEnvironment) -> _Answer:
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
        # ASGI's own path has lost what isn't UTF-8.
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
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
