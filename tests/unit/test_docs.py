"""Swagger UI as it is served: a page, five files, no redirects, and a policy that forbids everything else."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files
from urllib.parse import urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient

from benefits_core import MemoryStore, UseCases
from benefits_http import benefits_blueprint, create_app
from benefits_http.openapi import describe

TYPES = {
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
PATHS = ["/openapi.json", "/docs", *(f"/docs/{name}" for name in TYPES)]


@pytest.fixture
def client() -> FlaskClient:
    return create_app(UseCases.over(MemoryStore())).test_client()


def links(html: str) -> set[str]:
    """Return everything that a page links to or loads."""
    return set(re.findall(r'(?:href|src)="([^"]*)"', html))


@pytest.mark.parametrize("mount", ["", "/api", "/perks/v1"])
def test_every_link_of_the_page_leads_to_a_file_wherever_it_is_mounted(mount: str) -> None:
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(benefits_blueprint(UseCases.over(MemoryStore())), url_prefix=mount)
    client = app.test_client()

    found = links(client.get(f"{mount}/docs").text)

    assert found == {"openapi.json", *(f"docs/{name}" for name in TYPES)}
    assert {client.get(urljoin(f"{mount}/docs", link)).status_code for link in found} == {200}


@pytest.mark.parametrize("path", ["//docs", "/docs//docs.js", "//openapi.json", "/docs/"])
def test_a_doubled_or_trailing_slash_is_not_found_and_never_redirected(path: str) -> None:
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(benefits_blueprint(UseCases.over(MemoryStore())), url_prefix="/perks")

    assert app.test_client().get(f"/perks{path}").status_code == 404


def test_the_page_has_nothing_that_its_policy_forbids(client: FlaskClient) -> None:
    page = client.get("/docs")

    assert page.content_type == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"].split("; ") == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    assert not re.search(r"<style|<script>|\s(style|on\w+)=", page.text)


def test_the_script_reads_the_document_beside_the_page(client: FlaskClient) -> None:
    assert 'url: "openapi.json"' in client.get("/docs/docs.js").text


@pytest.mark.parametrize(("name", "content_type"), TYPES.items())
def test_a_file_has_its_type(client: FlaskClient, name: str, content_type: str) -> None:
    folder = (
        files("benefits_http") / "static" if name.startswith("docs.") else files("flask_swagger_ui") / "dist"
    )

    response = client.get(f"/api/docs/{name}")

    assert response.data == (folder / name).read_bytes()
    assert response.content_type == content_type
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_no_other_file_of_the_packages_is_served(client: FlaskClient) -> None:
    folders = [files("flask_swagger_ui") / "dist", files("benefits_http") / "static"]
    there = {file.name for folder in folders for file in folder.iterdir()}

    served = {name for name in there if client.get(f"/docs/{name}").status_code == 200}

    assert len(there) > len(TYPES)
    assert served == set(TYPES)
    assert client.get("/docs/..%2Fflask_swagger_ui.py").get_json() == {"error": "not_found"}


def test_the_document_lists_the_files_and_their_types() -> None:
    document = describe()
    name, _ = document["paths"]["/docs/{file}"]["get"]["parameters"]

    assert set(name["schema"]["enum"]) == set(TYPES)
    described = document["components"]["responses"]["file"]["content"]
    assert set(described) == {content_type.partition(";")[0] for content_type in TYPES.values()}


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("path", PATHS)
class TestHeaders:
    def test_head_is_answered_as_get(self, client: FlaskClient, prefix: str, path: str) -> None:
        got, head = client.get(prefix + path), client.head(prefix + path)

        assert (got.status_code, head.status_code, head.data) == (200, 200, b"")
        assert head.headers == got.headers

    def test_another_method_or_a_trailing_slash_is_refused_in_json(
        self, client: FlaskClient, prefix: str, path: str
    ) -> None:
        assert client.post(prefix + path).get_json() == {"error": "method_not_allowed"}
        assert client.get(f"{prefix}{path}/").get_json() == {"error": "not_found"}

    def test_a_client_keeps_the_content_and_revalidates_it(
        self, client: FlaskClient, prefix: str, path: str
    ) -> None:
        first = client.get(prefix + path)

        again = client.get(prefix + path, headers={"If-None-Match": first.headers["ETag"]})
        other = client.get(prefix + path, headers={"If-None-Match": 'W/"other"'})

        assert first.headers["Cache-Control"] == again.headers["Cache-Control"] == "no-cache"
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        assert other.data == first.data

    @pytest.mark.parametrize(
        ("accepted", "compressed"),
        [("gzip, deflate, br", True), ("*", True), ("identity", False), ("gzip;q=0", False), (None, False)],
    )
    def test_the_content_is_compressed_for_a_client_that_accepts_it(
        self, client: FlaskClient, prefix: str, path: str, accepted: str | None, *, compressed: bool
    ) -> None:
        plain = client.get(prefix + path)

        response = client.get(prefix + path, headers={"Accept-Encoding": accepted} if accepted else {})

        assert response.headers.get("Content-Encoding") == ("gzip" if compressed else None)
        assert (gzip.decompress(response.data) if compressed else response.data) == plain.data
        assert "Accept-Encoding" in response.headers["Vary"]
        assert response.headers["ETag"] == plain.headers["ETag"]
