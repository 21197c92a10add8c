"""The application over ASGI: what must arrive as it was sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benefits_http.service.asgi import Event, as_asgi


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (b"", ""),
        (b"a=1&b=%20+x;/?:@!$'()*,[]\"<>\\^`{|}~", "a=1&b=%20+x;/?:@!$'()*,[]\"<>\\^`{|}~"),
        ("name=José".encode(), "name=Jos%C3%A9"),
    ],
)
def test_a_query_string_keeps_its_meaning(sent: bytes, arrives: str) -> None:
    said: list[Event] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["QUERY_STRING"].encode()]

    async def receive() -> Event:
        return {"type": "http.request", "body": b""}

    async def send(event: Event) -> None:
        said.append(event)

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "raw_path": b"/"}

    async def ask() -> None:
        await as_asgi(app, threads=1)({**scope, "query_string": sent, "headers": []}, receive, send)

    asyncio.run(ask())

    assert said[1]["body"].decode() == arrives
