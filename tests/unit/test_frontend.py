"""The built React application beside the API: its files, how long browsers keep them, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from werkzeug.test import Client

from benefits_core import MemoryStore, UseCases
from benefits_http import create_app
from benefits_service.middleware.frontend import with_frontend

FILES = {
    "index.html": "<h1>Benefits</h1>",
    "favicon.ico": "icon",
    "static/js/main.8f2b1c3d.js": "a longer script",
    "static/js/main.8f2b1c3d.js.gz": "zipped",
}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return a client of the API with a frontend, beside whose folder lies a secret."""
    folder = tmp_path / "build"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "favicon.ico.gz").symlink_to(tmp_path / "secret.txt")
    return Client(with_frontend(create_app(UseCases.over(MemoryStore())), folder))


@pytest.mark.parametrize(
    ("path", "text", "kept"),
    [
        ("/", "<h1>Benefits</h1>", "max-age=0, public"),
        ("/index.html", "<h1>Benefits</h1>", "max-age=0, public"),
        ("/favicon.ico", "icon", "max-age=0, public"),
        ("/static/js/main.8f2b1c3d.js", "a longer script", "max-age=315360000, public, immutable"),
    ],
)
def test_a_file_is_served_by_its_name_and_kept_as_long_as_it_stays_true(
    client: Client, path: str, text: str, kept: str
) -> None:
    response = client.get(path, buffered=True)

    assert (response.status_code, response.text) == (200, text)
    assert response.headers["Cache-Control"] == kept
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_browser_that_takes_it_is_sent_what_was_compressed_before(client: Client) -> None:
    response = client.get("/static/js/main.8f2b1c3d.js", headers={"Accept-Encoding": "gzip"}, buffered=True)

    assert (response.headers["Content-Encoding"], response.data) == ("gzip", b"zipped")


@pytest.mark.parametrize(
    "path",
    [
        "/link.txt",
        "/../secret.txt",
        "/static/../../secret.txt",
        "/static",
        "/static/",
        "//index.html",
        "/settings",
    ],
)
def test_what_is_not_a_file_of_the_folder_is_the_apis_404(client: Client, path: str) -> None:
    response = client.open(environ_overrides={"PATH_INFO": path}, buffered=True)

    assert (response.status_code, response.get_json()) == (404, {"error": "not_found"})


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/static/js/main.8f2b1c3d.js"])
def test_a_file_that_has_gone_since_is_the_apis_404_too(client: Client, tmp_path: Path, path: str) -> None:
    shutil.rmtree(tmp_path / "build")

    response = client.get(path)

    assert (response.status_code, response.get_json()) == (404, {"error": "not_found"})


def test_a_link_out_of_the_folder_is_no_compressed_file_either(client: Client) -> None:
    assert client.get("/favicon.ico", headers={"Accept-Encoding": "gzip"}, buffered=True).data == b"icon"


def test_the_api_is_where_it_was(client: Client) -> None:
    assert client.get("/users/jo").status_code == 200
    assert client.get("/api/products").get_json() == {"products": []}
    assert client.post("/").get_json() == {"error": "not_found"}
    assert client.post("/favicon.ico").get_json() == {"error": "not_found"}
