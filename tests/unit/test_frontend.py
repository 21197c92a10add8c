"""The frontend: the files that it serves, how long browsers keep them, and the API beside it."""

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
    """Return a client of the API with a frontend. A secret file lies beside the frontend's folder."""
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
def test_a_file_is_served_and_only_one_with_a_content_hash_is_kept_for_ever(
    client: Client, path: str, text: str, kept: str
) -> None:
    response = client.get(path, buffered=True)

    assert (response.status_code, response.text) == (200, text)
    assert response.headers["Cache-Control"] == kept
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_compressed_file_is_sent_to_a_browser_that_accepts_it(client: Client) -> None:
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
def test_a_path_that_is_no_file_of_the_folder_is_a_404_of_the_api(client: Client, path: str) -> None:
    response = client.open(environ_overrides={"PATH_INFO": path}, buffered=True)

    assert (response.status_code, response.get_json()) == (404, {"error": "not_found"})


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/static/js/main.8f2b1c3d.js"])
def test_a_file_deleted_after_the_start_is_a_404_of_the_api(
    client: Client, tmp_path: Path, path: str
) -> None:
    shutil.rmtree(tmp_path / "build")

    response = client.get(path)

    assert (response.status_code, response.get_json()) == (404, {"error": "not_found"})


def test_a_compressed_file_that_links_outside_the_folder_is_not_sent(client: Client) -> None:
    assert client.get("/favicon.ico", headers={"Accept-Encoding": "gzip"}, buffered=True).data == b"icon"


def test_the_api_is_served_beside_the_frontend(client: Client) -> None:
    assert client.get("/users/jo").status_code == 200
    assert client.get("/api/products").get_json() == {"products": []}
    assert client.post("/").get_json() == {"error": "not_found"}
    assert client.post("/favicon.ico").get_json() == {"error": "not_found"}
