"""The description as a page: it says everything, needs nothing else, and may do nothing."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from benefits_core import MemoryStore, UseCases
from benefits_http import create_app, docs
from benefits_http.errors import ANSWERS
from benefits_http.openapi import Document, describe, operations
from benefits_service.middleware.identity import describe_identity
from benefits_service.middleware.metrics import describe_metrics


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and which of its elements were left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values_of(self, attribute: str) -> list[str]:
        """Return all values of an attribute."""
        return [
            value or ""
            for _, attributes in self.tags
            for name, value in attributes.items()
            if name == attribute
        ]


def document() -> Document:
    """Return the document as it is served."""
    return describe() | {"servers": [{"url": "/api"}]}


@pytest.fixture
def page() -> Page:
    return Page(docs.page(document()))


def test_every_operation_is_on_it_and_can_be_gone_to(page: Page) -> None:
    ids = page.values_of("id")

    assert ids == list(operations(document()))
    assert [link for link in page.values_of("href") if link.startswith("#")] == [f"#{name}" for name in ids]
    for path in document()["paths"]:
        assert f"/api{path}" in page.text


def test_every_field_and_every_error_of_an_operation_is_on_it(page: Page) -> None:
    for name in ("order.items", "user.data.balance", "products[].price", "order.data.total"):
        assert name in page.text
    for answer in ANSWERS.values():
        assert f'{{"error": "{answer.code}"}}' in page.text
    assert "array of strings, 0 to 100 items" in page.text
    assert "number, 0 to 9,999,999,999.99" in page.text
    assert "Retry-After" in page.text


def test_it_is_well_formed_and_says_its_language(page: Page) -> None:
    assert page.open == []
    assert page.values_of("lang") == ["en"]
    assert "width=device-width, initial-scale=1" in page.values_of("content")


def test_it_needs_no_script_and_nothing_from_elsewhere(page: Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "form", "base", "object"}
    assert not page.values_of("src") + page.values_of("style")
    assert {link for link in page.values_of("href") if not link.startswith("#")} == {"/api/openapi.json"}
    assert "//" not in page.text
    assert "url(" not in page.text


def test_browsers_are_told_to_allow_its_style_and_nothing_else() -> None:
    answer = create_app(UseCases.over(MemoryStore())).test_client().get("/api/docs")

    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    found = re.search("<style>(.*)</style>", answer.get_data(as_text=True), re.DOTALL)
    assert found
    allowed = b64encode(sha256(found[1].encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert policy[:2] == ["default-src 'none'", f"style-src 'sha256-{allowed}'"]
    assert sorted(policy[2:]) == ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]


def test_what_is_added_to_the_document_is_text_and_never_markup() -> None:
    hostile = "<script>alert(1)</script> `<b>`"
    mine = document()
    for operation in operations(mine).values():
        operation["summary"] = operation["description"] = hostile
    mine["info"]["description"] = hostile

    html = docs.page(mine)

    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; <code>&lt;b&gt;</code>" in html


def test_it_names_the_header_that_an_operation_needs() -> None:
    mine = document()
    describe_identity(mine, "X-Forwarded-User")

    text = Page(docs.page(mine)).text

    assert text.count("X-Forwarded-User") == 2
    assert "Set by the proxy, never by a client" in text


def test_what_is_not_where_the_rest_is_has_its_own_place() -> None:
    mine = document()
    describe_metrics(mine)

    html = docs.page(mine)

    assert "<code>/metrics</code></p>" in html
    assert "/api/metrics" not in html


def test_what_has_no_type_and_no_words_is_shown_too() -> None:
    mine = document()
    mine["components"]["schemas"]["HealthResponse"]["properties"]["since"] = {}

    assert "any value" in Page(docs.page(mine)).text
