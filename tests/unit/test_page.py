"""The page for employees, as files: their headers, what they contain, and the API beside them."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from werkzeug.test import Client

from benefits_core import MemoryStore, UseCases
from benefits_http import create_app
from benefits_service.middleware.frontend import PAGE, PAGE_HEADERS, with_frontend

TYPES = {
    "/": "text/html",
    "/client.js": "text/javascript",
    "/icon.svg": "image/svg+xml",
    "/page.css": "text/css",
    "/page.js": "text/javascript",
}


@pytest.fixture
def client() -> Client:
    return Client(with_frontend(create_app(UseCases.over(MemoryStore())), PAGE, PAGE_HEADERS))


@pytest.mark.parametrize("path", TYPES)
def test_each_file_has_its_type_and_allows_only_its_own_origin(client: Client, path: str) -> None:
    response = client.get(path, buffered=True)

    assert (response.status_code, response.mimetype) == (200, TYPES[path])
    rules = dict(rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; "))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("require-trusted-types-for") == "'script'"
    assert set(rules.values()) == {"'self'", "'none'"}
    assert {"base-uri", "form-action", "frame-ancestors"} <= rules.keys()  # default-src says nothing of them


def test_there_are_no_other_files_and_all_of_them_are_small() -> None:
    sizes = {f"/{path.name}": path.stat().st_size for path in PAGE.iterdir()}

    assert sizes.keys() == TYPES.keys() - {"/"} | {"/index.html"}
    assert sum(sizes.values()) < 60_000


def test_the_page_has_no_inline_script_or_style_and_links_to_its_own_files() -> None:
    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            given = dict(attributes)
            assert tag != "style"
            assert tag != "script" or given["src"] is not None
            assert not [name for name in given if name == "style" or name.startswith("on")]
            links.update(str(given[name]) for name in ("src", "href") if name in given)

        def handle_data(self, data: str) -> None:
            assert self.cdata_elem is None or not data.strip()

    links: set[str] = set()
    Reader().feed((PAGE / "index.html").read_text(encoding="utf-8"))

    own = {f"/{link}" for link in links if not link.startswith("#")}
    assert own == TYPES.keys() - {"/"}


@pytest.mark.parametrize(
    "path", ["/somewhere", "/page", "/index", "/page.js/", "//page.js", "/api", "/api/", "/api/page.js"]
)
def test_every_other_path_is_not_found_in_json(client: Client, path: str) -> None:
    response = client.open(environ_overrides={"PATH_INFO": path}, buffered=True)

    assert (response.status_code, response.get_json()) == (404, {"error": "not_found"})


def test_the_api_answers_json_beside_it(client: Client) -> None:
    for path in "/products", "/api/products", "/users/index.html", "/api/users/page.js", "/healthz":
        response = client.get(path)
        assert (response.status_code, response.mimetype) == (200, "application/json")
        assert "Content-Security-Policy" not in response.headers


def test_without_a_slash_a_client_is_sent_to_the_path_with_one(client: Client) -> None:
    """Where a proxy shows the service at /perks, the links of the page at /perks would lead beside it."""
    for method, status in ("GET", 308), ("HEAD", 308), ("POST", 404):
        response = client.open(
            method=method, environ_overrides={"SCRIPT_NAME": "/perks", "PATH_INFO": ""}, buffered=True
        )
        assert response.status_code == status
        if status == 308:
            assert response.headers["Location"].endswith("/perks/")
