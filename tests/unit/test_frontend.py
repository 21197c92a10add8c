"""The frontend: the files that it serves, how long browsers keep them, and the API beside it."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest
from werkzeug.test import Client, TestResponse

from benefits_core import MemoryStore, UseCases
from benefits_http import create_app
from benefits_service.middleware.frontend import has_content_hash, with_frontend

SCRIPT = "a script; " * 50
FILES = {
    "index.html": "<h1>Benefits</h1>",
    "favicon.ico": "icon",
    "static/js/main.8f2b1c3d.js": SCRIPT,
}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return a client of the API with a frontend. A secret file lies beside the frontend's folder."""
    folder = tmp_path / "build"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "static/js/main.8f2b1c3d.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
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
        ("/static/js/main.8f2b1c3d.js", SCRIPT, "max-age=315360000, public, immutable"),
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

    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.data) == SCRIPT.encode()


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


def test_a_file_is_sent_although_its_compressed_variant_is_deleted_after_the_start(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "build/static/js/main.8f2b1c3d.js.gz").unlink()
    for accepted in "gzip", "":
        response = client.get(
            "/static/js/main.8f2b1c3d.js", headers={"Accept-Encoding": accepted}, buffered=True
        )
        assert (response.status_code, response.text) == (200, SCRIPT)
        assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("other", ["a link outside", "a broken link", "a folder"])
def test_a_file_that_something_else_replaces_after_the_start_is_a_404_of_the_api(
    client: Client, tmp_path: Path, other: str
) -> None:
    icon = tmp_path / "build/favicon.ico"
    icon.unlink()
    if other == "a folder":
        icon.mkdir()
    else:
        icon.symlink_to(tmp_path / ("secret.txt" if other == "a link outside" else "missing.txt"))
    response = client.get("/favicon.ico", buffered=True)

    assert (response.status_code, response.json) == (404, {"error": "not_found"})


def test_the_api_is_served_beside_the_frontend(client: Client) -> None:
    assert client.get("/users/jo").status_code == 200
    assert client.get("/api/products").get_json() == {"products": []}
    assert client.post("/").get_json() == {"error": "not_found"}
    assert client.post("/favicon.ico").get_json() == {"error": "not_found"}


def build(folder: Path, page: str) -> Client:
    """Write a build as reproducible builds do, all files with the same time, and return a client of it."""
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text(page)
    (folder / "report.20240101.txt").write_text("a report")
    for path in folder.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return Client(with_frontend(create_app(UseCases.over(MemoryStore())), folder))


NEW_BUILD = [("<script src=main.8f2b1c3d.js>", "<script src=main.9a3c2d4e.js>")]


@pytest.mark.parametrize(("old", "new"), NEW_BUILD)
def test_a_new_page_of_the_same_time_and_length_is_sent(tmp_path: Path, old: str, new: str) -> None:
    first = build(tmp_path / "build", old).get("/", buffered=True)
    client = build(tmp_path / "build", new)

    for headers in (
        {"If-None-Match": first.headers["ETag"]},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    ):
        response = client.get("/", headers=headers, buffered=True)
        assert (response.status_code, response.text) == (200, new)
    assert "Last-Modified" not in first.headers


@pytest.mark.parametrize(("old", "new"), [*NEW_BUILD, ("<h1>short", "<h1>much longer than before")])
def test_a_page_that_changes_while_it_is_served_is_sent_whole_with_another_tag(
    tmp_path: Path, old: str, new: str
) -> None:
    client = build(tmp_path / "build", old)
    first = client.get("/", buffered=True)
    build(tmp_path / "build", new)

    for path in ("/", "/index.html"):
        response = client.get(path, headers={"If-None-Match": first.headers["ETag"]}, buffered=True)
        assert (response.status_code, response.text) == (200, new)
        assert response.headers["Content-Length"] == str(len(new))
    tag = client.get("/", buffered=True).headers["ETag"]
    assert client.get("/", headers={"If-None-Match": tag}).status_code == 304


def request_script(client: Client, **headers: str) -> TestResponse:
    """Request the script of which there is a compressed variant."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get("/static/js/main.8f2b1c3d.js", headers=named, buffered=True)


def test_while_a_new_build_is_written_no_old_content_is_sent_or_kept(client: Client, tmp_path: Path) -> None:
    """A build writes the file first, and compresses it then."""
    script = tmp_path / "build/static/js/main.8f2b1c3d.js"
    compressed = script.with_name(f"{script.name}.gz")
    new = "new script " * 50
    script.write_text(new)
    between = request_script(client, Accept_Encoding="gzip")
    whole = gzip.compress(new.encode())
    compressed.write_bytes(whole[:-5])
    half = request_script(client, Accept_Encoding="gzip")
    compressed.write_bytes(whole)
    after = request_script(client, Accept_Encoding="gzip", If_None_Match=between.headers["ETag"])

    assert (between.text, half.text) == (new, new)
    assert (after.status_code, gzip.decompress(after.data)) == (200, new.encode())
    assert after.headers["Content-Length"] == str(len(whole))


def test_a_variant_that_appears_after_the_start_is_sent(client: Client, tmp_path: Path) -> None:
    page = tmp_path / "build/index.html"
    page.write_text("page " * 100)
    page.with_name("index.html.gz").write_bytes(gzip.compress(page.read_bytes()))
    response = client.get("/", headers={"Accept-Encoding": "gzip"}, buffered=True)

    assert gzip.decompress(response.data) == page.read_bytes()


def test_each_encoding_has_a_tag_of_its_own(client: Client) -> None:
    """A browser must not continue a file in another encoding than it has begun."""
    plain, packed = request_script(client), request_script(client, Accept_Encoding="gzip")
    tags = plain.headers["ETag"], packed.headers["ETag"]
    assert tags[0] != tags[1]
    for encoding, tag, other in ("", *tags), ("gzip", *reversed(tags)):
        assert request_script(client, Accept_Encoding=encoding, If_None_Match=tag).status_code == 304
        assert request_script(client, Accept_Encoding=encoding, If_None_Match=other).status_code == 200
        part = {"Accept_Encoding": encoding, "Range": "bytes=0-9"}
        assert request_script(client, **part, If_Range=tag).status_code == 206
        assert request_script(client, **part, If_Range=other).status_code == 200


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_a_browser_that_has_the_content_is_answered_304(client: Client, form: str) -> None:
    tag = client.get("/", buffered=True).headers["ETag"]

    assert client.get("/", headers={"If-None-Match": form.format(tag)}).status_code == 304


def test_a_part_is_sent_only_of_the_content_of_which_the_browser_has_a_part(client: Client) -> None:
    tag = client.get("/", buffered=True).headers["ETag"]

    same = client.get("/", headers={"Range": "bytes=0-3", "If-Range": tag}, buffered=True)
    other = client.get("/", headers={"Range": "bytes=0-3", "If-Range": '"another"'}, buffered=True)
    assert (same.status_code, same.text) == (206, "<h1>")
    assert (other.status_code, other.text) == (200, "<h1>Benefits</h1>")


@pytest.mark.parametrize(
    ("name", "is_hash"),
    [
        ("main.8f2b1c3d.js", True),
        ("main.8f2b1c3d.js.LICENSE.txt", True),
        ("787.28cb0dcd.chunk.js", True),
        ("logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg", True),
        ("logo.6ce24c58023cc2f8fd88.svg", True),
        ("report.20240101.txt", False),
        ("report.20240101120000.txt", False),
        ("report.2024010112000000.txt", False),
        ("report.2024010a1.txt", False),
        ("menu.deadbeef.txt", False),
        ("menu.facade.txt", False),
        ("main.8F2B1C3D.js", False),
        ("main-8f2b1c3d.js", False),
        ("index-BX3k9_aZ.js", False),
        ("8f2b1c3d.js", False),
        ("jquery.3.7.1.min.js", False),
    ],
)
def test_a_content_hash_is_told_from_dates_words_and_versions(name: str, *, is_hash: bool) -> None:
    assert has_content_hash(name) is is_hash


def test_a_file_with_a_date_in_its_name_is_not_kept(tmp_path: Path) -> None:
    response = build(tmp_path / "build", "page").get("/report.20240101.txt", buffered=True)

    assert response.headers["Cache-Control"] == "max-age=0, public"
