"""The application on an event loop: what arrives as it was sent, and what is left to threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import pytest

from benefits_core import GetUser, MemoryStore, StorageUnavailableError
from benefits_http.service.asgi import ASGIApplication, Batch, Event, OffTheLoop, as_asgi

REQUEST = {
    "http_version": "1.1",
    "scheme": "http",
    "server": ("127.0.0.1", 4000),
    "method": "GET",
    "raw_path": b"/",
    "query_string": b"",
    "headers": [],
}

App = Callable[[dict[str, Any], Any], list[bytes]]


@contextmanager
def _batch(*, since: float) -> Iterator[None]:
    assert 0 <= time.monotonic() - since < 60
    yield


def ask(
    app: App,
    *chunks: bytes,
    body_first: bool = True,
    batch: Batch = _batch,
    status: int = 200,
    headers_told: dict[bytes, bytes] | None = None,
    **scope: Any,
) -> bytes:
    """Send an application a request whose body comes in these chunks, the last one empty, and return the body of its answer."""
    said: list[Event] = []
    left = list(chunks)

    async def receive() -> Event:
        if not left:
            return {"type": "http.disconnect"}
        chunk = left.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    async def send(event: Event) -> None:
        said.append(event)

    asgi = as_asgi(app, batch=batch, body_first=body_first)
    asyncio.run(asgi(REQUEST | scope, receive, send))  # type: ignore[arg-type] # it is a coroutine
    head, body = said
    if headers_told is not None:
        headers_told.update(head["headers"])
    assert head["status"] == status
    return bytes(body["body"])


async def _post(asgi: ASGIApplication, body: bytes) -> None:
    async def receive() -> Event:
        return {"type": "http.request", "body": body}

    async def send(_: Event) -> None:
        pass

    await asgi(REQUEST | {"method": "POST"}, receive, send)


def answering(text: Callable[[dict[str, Any]], str]) -> App:
    """Return an application that says what is found in its environment."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found = text(environ).encode("latin-1")
        start_response("200 OK", [])
        return [found]

    return app


@pytest.mark.parametrize("query", [b"", b"a=1&b=%20+x;/?:@!$'()*,[]\"<>\\^`{|}~", "name=José".encode()])
def test_a_query_string_arrives_as_it_was_sent(query: bytes) -> None:
    assert ask(answering(lambda environ: environ["QUERY_STRING"]), query_string=query) == query


def test_a_path_arrives_as_it_was_sent() -> None:
    assert ask(answering(lambda environ: environ["PATH_INFO"]), raw_path=b"/a%FF%2Fb") == b"/a\xff/b"


def test_header_lines_of_one_name_are_joined_as_wsgi_has_it() -> None:
    headers = [(b"x-one", b"a"), (b"x-two", b"b"), (b"x-one", b"c")]

    assert ask(answering(lambda environ: environ["HTTP_X_ONE"]), headers=headers) == b"a,c"


def test_what_can_be_answered_at_once_is_answered_by_the_event_loop() -> None:
    assert ask(answering(lambda _: str(get_ident()))) == str(get_ident()).encode()


@pytest.mark.parametrize("body_first", [True, False])
def test_a_body_is_put_together_and_read_on_a_thread(*, body_first: bool) -> None:
    app = answering(lambda environ: f"{environ['wsgi.input'].read().decode()} {get_ident() == here}")
    here = get_ident()

    assert ask(app, b"one ", b"two", b"", body_first=body_first, method="POST") == b"one two False"


def test_an_application_that_does_not_want_the_body_is_not_kept_waiting_for_it() -> None:
    assert ask(answering(lambda _: "no"), body_first=False, method="POST") == b"no"


def test_a_body_that_says_it_is_too_long_is_not_read() -> None:
    assert ask(answering(lambda _: "no"), method="POST", headers=[(b"content-length", b"65537")]) == b"no"


def test_no_more_of_a_body_is_read_than_shows_that_it_is_too_long() -> None:
    app = answering(lambda environ: str(len(environ["wsgi.input"].read())))

    assert ask(app, *[b"x" * 40_000] * 5, method="POST") == b"80000"


def test_nothing_is_placed_by_a_client_who_leaves_before_the_end() -> None:
    def read(environ: dict[str, Any]) -> str:
        with pytest.raises(Exception, match="400"):
            environ["wsgi.input"].read()
        return "left"

    assert ask(answering(read), method="POST") == b"left"


def test_a_user_who_is_known_is_read_by_the_event_loop_and_one_who_is_not_is_created_on_a_thread() -> None:
    store = MemoryStore()
    get_user = GetUser(OffTheLoop(store))
    here = get_ident()

    def app(_: dict[str, Any], start_response: Any) -> list[bytes]:
        user = get_user("jo")
        start_response("200 OK", [])
        return [f"{user.user_id} {get_ident() == here}".encode()]

    assert ask(app) == b"jo False"
    assert ask(app) == b"jo True"


def test_what_an_answer_holds_is_let_go_of() -> None:
    class Body(list[bytes]):
        closed = False

        def close(self) -> None:
            Body.closed = True

    def app(_: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return Body([b"a", b"b"])

    assert ask(app) == b"ab"
    assert Body.closed


def test_what_comes_while_a_batch_is_kept_is_the_next_batch_up_to_a_number() -> None:
    first_is_in, go_on = threading.Event(), threading.Event()
    batches: list[list[bytes]] = []

    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        assert since
        batches.append([])
        yield
        first_is_in.set()
        assert go_on.wait(30)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        batches[-1].append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    async def ask_for_many() -> None:
        asgi = as_asgi(app, batch=batch, body_first=True)
        first = asyncio.create_task(_post(asgi, b"1"))
        await asyncio.to_thread(first_is_in.wait, 30)
        others = [asyncio.create_task(_post(asgi, b"%d" % number)) for number in range(70)]
        await asyncio.sleep(0.1)
        assert not first.done()  # nobody is told before it is kept
        go_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask_for_many())
    assert [len(batch) for batch in batches] == [1, 64, 6]
    assert batches[1][:3] == [b"0", b"1", b"2"]


def test_a_batch_that_could_not_be_kept_is_told_of_by_none(caplog: pytest.LogCaptureFixture) -> None:
    @contextmanager
    def batch(*, since: float) -> Iterator[None]:
        assert since
        yield
        raise StorageUnavailableError("the disk is full")

    def app(_: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("X-Request-ID", "abc")])
        return [b"placed"]

    headers: dict[bytes, bytes] = {}
    said = ask(app, b"", method="POST", batch=batch, status=503, headers_told=headers)
    assert said == b'{"error":"storage_unavailable"}'
    assert headers[b"x-request-id"] == b"abc"
    assert headers[b"retry-after"] == b"1"
    assert headers[b"content-length"] == b"31"
    assert "storage unavailable, 1 answers taken back: the disk is full" in caplog.text


def test_a_batch_that_could_not_begin_is_answered_too() -> None:
    def batch(*, since: float) -> Any:
        raise StorageUnavailableError(f"closed since {since}")

    assert ask(answering(lambda _: "no"), b"", method="POST", batch=batch, status=503)


def test_a_client_who_has_gone_meanwhile_keeps_nobody_of_its_batch_waiting() -> None:
    gone_is_in, go_on = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["wsgi.input"].read() == b"gone":
            gone_is_in.set()
        assert go_on.wait(30)
        start_response("200 OK", [])
        return []

    async def leave() -> None:
        asgi = as_asgi(app, batch=_batch, body_first=True)
        first = asyncio.create_task(_post(asgi, b"first"))
        gone, other = (asyncio.create_task(_post(asgi, body)) for body in (b"gone", b"other"))
        await asyncio.sleep(0.1)
        gone.cancel()
        go_on.set()
        await asyncio.wait_for(asyncio.gather(first, other), 30)

    asyncio.run(leave())
    assert gone_is_in.is_set()


def test_one_that_breaks_is_answered_too_and_not_by_taking_its_batch_back() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["wsgi.input"].read() == b"1":
            raise LookupError
        start_response("200 OK", [])
        return [b"well"]

    assert ask(app, b"1", b"", method="POST", status=500) == b'{"error":"internal_error"}'
    assert ask(app, b"2", b"", method="POST") == b"well"


def test_a_body_that_nobody_has_announced_can_not_be_read() -> None:
    app = answering(lambda environ: str(environ["wsgi.input"].read()))

    assert ask(app, method="PUT", status=500) == b'{"error":"internal_error"}'
