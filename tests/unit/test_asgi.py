"""The application on an event loop: what arrives is as it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

import pytest

from benefits_service import logs
from benefits_service.middleware.metrics import Metrics
from benefits_service.middleware.request_log import with_request_log
from benefits_service.runtime.asgi import ASGIApplication, Event, as_asgi

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


async def tell(asgi: ASGIApplication, chunks: list[bytes], **scope: Any) -> bytes:
    """Send a request whose body comes in these chunks, the last one empty, and return the body of the answer."""
    said: list[Event] = []

    async def receive() -> Event:
        if not chunks:
            return {"type": "http.disconnect"}
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    async def send(event: Event) -> None:
        said.append(event)

    await asgi(REQUEST | scope, receive, send)
    head, body = said
    assert head["status"] == 200
    return bytes(body["body"])


def ask(app: App, *chunks: bytes, unread: list[bytes] | None = None, **scope: Any) -> bytes:
    """Send a request to an application, and return the body of its answer.

    :param unread: what is taken from instead, so that it can be seen what was left.
    """
    return asyncio.run(tell(as_asgi(app), list(chunks) if unread is None else unread, **scope))


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


def test_the_application_runs_on_the_event_loop() -> None:
    assert ask(answering(lambda _: str(get_ident()))) == str(get_ident()).encode()


def test_a_body_is_read_as_it_arrives() -> None:
    app = answering(lambda environ: environ["wsgi.input"].read().decode())

    assert ask(app, b"one ", b"two", b"", method="POST") == b"one two"


def test_a_body_of_known_length_ends_without_another_event() -> None:
    app = answering(lambda environ: environ["wsgi.input"].read().decode())

    # The next thing to come would be that the client has left.
    assert ask(app, b"one ", b"two", method="POST", headers=[(b"content-length", b"7")]) == b"one two"


def test_a_body_can_be_read_in_parts() -> None:
    def read(environ: dict[str, Any]) -> str:
        body = environ["wsgi.input"]
        return f"{[body.read(2), body.read(3), body.read(0), body.read(9), body.read(9), body.read()]}"

    assert ask(answering(read), b"abcd", b"ef", b"", method="POST") == b"[b'ab', b'cde', b'', b'f', b'', b'']"


def test_a_body_is_received_only_as_far_as_it_is_read() -> None:
    app = answering(lambda environ: str(len(environ["wsgi.input"].read(60_000))))
    left: list[bytes] = [b"x" * 40_000] * 5

    assert ask(app, *left, method="POST", unread=left) == b"60000"
    assert len(left) == 3


def test_a_body_that_is_not_read_is_not_waited_for() -> None:
    assert ask(answering(lambda _: "no"), method="POST") == b"no"


def test_a_client_that_disconnects_within_the_body_is_an_error() -> None:
    def read(environ: dict[str, Any]) -> str:
        with pytest.raises(Exception, match="400"):
            environ["wsgi.input"].read()
        return "left"

    assert (
        ask(answering(read), b"all that there is?", method="POST", headers=[(b"content-length", b"90")])
        == b"left"
    )


def test_there_is_no_body_where_none_is_announced() -> None:
    app = answering(lambda environ: f"{environ['wsgi.input'].read()}")

    assert ask(app, headers=[(b"content-length", b"0")]) == b"b''"


@pytest.mark.parametrize("name", [b"content_length", b"content_type"])
def test_a_header_with_an_underscore_is_not_the_one_with_a_hyphen(name: bytes) -> None:
    app = answering(lambda environ: f"{[key for key in environ if 'CONTENT' in key]}")

    assert ask(app, headers=[(name, b"0")]) == f"['HTTP_{name.decode().upper()}']".encode()


def test_a_response_is_closed_even_if_it_fails() -> None:
    class Body(list[bytes]):
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            raise LookupError

        def close(self) -> None:
            Body.closed = True

    def app(_: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return Body()

    with pytest.raises(LookupError):
        ask(app)
    assert Body.closed


def test_each_request_has_its_own_id_whichever_greenlet_runs_it(capfd: pytest.CaptureFixture[str]) -> None:
    app = with_request_log(answering(lambda _: str(logs.request_id.get())), Metrics(), log_paths=False)
    asking = as_asgi(app)

    async def ask_twice() -> None:
        for name in [b"one", b"two"]:
            assert await tell(asking, [], headers=[(b"x-request-id", name)]) == name

    asyncio.run(ask_twice())
    capfd.readouterr()


def test_a_response_is_closed() -> None:
    class Body(list[bytes]):
        closed = False

        def close(self) -> None:
            Body.closed = True

    def app(_: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return Body([b"a", b"b"])

    assert ask(app) == b"ab"
    assert Body.closed
