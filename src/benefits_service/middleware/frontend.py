"""The frontend: serves a built React application beside the API, from the same origin."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from wsgiref.headers import Headers
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.http import parse_etags
from whitenoise import WhiteNoise
from whitenoise.responders import StaticFile

# create-react-app puts a hash of the content into the names of files that never change: main.8f2b1c3d.js. It has as many
# hexadecimal digits as hashes have. A date has no letter, and a word no digit: they are no hashes.
_CONTENT_HASH: Final = re.compile(
    r"\.([0-9a-f]{8}|[0-9a-f]{16}|[0-9a-f]{20}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})\."
)

_CHUNK: Final = 1 << 20


def has_content_hash(name: str) -> bool:
    """Return whether the name of a file has a hash of its content. If in doubt it has none: browsers then ask again."""
    return any(
        re.search("[0-9]", digits) and re.search("[a-f]", digits) for digits in _CONTENT_HASH.findall(name)
    )


class _File(StaticFile):  # type: ignore[misc] # WhiteNoise has no types
    """A file and its compressed variants. Their tag is a hash of the content; the time of a file says nothing of it."""

    def __init__(
        self, path: str, headers: list[tuple[str, str]], variants: dict[str, os.stat_result]
    ) -> None:
        self.path = path
        self._variants = list(variants)
        self._version = [_version(status) for status in variants.values()]
        encodings = {"gzip": f"{path}.gz", "br": f"{path}.br"}
        super().__init__(path, [*headers, ("ETag", f'"{_hash(path)}"')], encodings, variants)

    def get_headers(self, headers: list[tuple[str, str]], files: dict[str | None, Any]) -> Headers:
        """Return the headers of the file."""
        complete: Headers = super().get_headers(headers, files)
        del complete["Last-Modified"]  # by which a browser would ask that does not know the tag
        return complete

    def is_not_modified(self, environ: WSGIEnvironment) -> bool:
        """Return whether the browser has this content. A proxy may have made the tag a weak one."""
        return parse_etags(environ.get("HTTP_IF_NONE_MATCH")).contains_weak(self.etag.strip('"'))

    def is_current(self) -> bool:
        """Return whether the files have not changed since they were hashed, and none of them is gone."""
        with suppress(OSError):
            return [_version(Path(path).stat()) for path in self._variants] == self._version
        return False


def _hash(path: str) -> str:
    digest = sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:32]


def _version(status: os.stat_result) -> tuple[int, ...]:
    # The system itself sets the time of the last change: programs can set the other one, and do in reproducible builds.
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Frontend(WhiteNoise):  # type: ignore[misc] # WhiteNoise has no types
    """Serves the files that the folder had at the start. Every other request goes to the API: no path leads to index.html."""

    def __init__(self, api: WSGIApplication, folder: Path) -> None:
        super().__init__(
            api,
            max_age=0,  # a browser may keep the file, and must revalidate it before each use
            immutable_file_test=lambda _, url: has_content_hash(url.rpartition("/")[2]),
            allow_all_origins=False,
        )
        self._root = folder.resolve()
        files = {str(path): path.stat() for path in self._root.rglob("*") if self._is_served(path)}
        for path in files:
            url = "/" + Path(path).relative_to(self._root).as_posix()
            self.add_file_to_dictionary(url, path, stat_cache=files)
        self.files["/"] = self.files["/index.html"]

    def _is_served(self, path: Path) -> bool:
        # A link to a file outside the folder is not served.
        return path.is_file() and path.resolve().is_relative_to(self._root)

    def get_static_file(self, path: str, url: str, stat_cache: dict[str, os.stat_result]) -> _File:
        """Return a file as it is now."""
        headers = Headers([("X-Content-Type-Options", "nosniff")])
        self.add_mime_headers(headers, path, url)
        self.add_cache_headers(headers, path, url)
        names = (path, f"{path}.gz", f"{path}.br")
        return _File(path, headers.items(), {name: stat_cache[name] for name in names if name in stat_cache})

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # To another method, WhiteNoise would answer 405 itself.
        reads = environ["REQUEST_METHOD"] in {"GET", "HEAD"}
        body: Iterable[bytes] = (super().__call__ if reads else self.application)(environ, start_response)
        return body

    def serve(self, file: _File, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            if not file.is_current():
                file = self._renew(file)
            if environ.get("HTTP_IF_RANGE", file.etag) != file.etag:
                environ.pop("HTTP_RANGE", None)  # the part that the browser has is one of another content
            body: Iterable[bytes] = super().serve(file, environ, start_response)
        except OSError:  # the file is gone: a new build first deletes the old files
            body = self.application(environ, start_response)
        return body

    def _renew(self, file: _File) -> _File:
        names = [Path(f"{file.path}{suffix}") for suffix in ("", ".gz", ".br")]
        stats = {str(path): path.stat() for path in names if self._is_served(path)}
        if file.path not in stats:
            raise FileNotFoundError(file.path)
        urls = [url for url, known in self.files.items() if known is file]
        renewed = self.get_static_file(file.path, urls[0], stats)
        self.files.update(dict.fromkeys(urls, renewed))
        return renewed


def with_frontend(api: WSGIApplication, folder: Path) -> WSGIApplication:
    """Return an application that serves the files of a folder, its index.html at ``/``, and the API.

    :param folder: the folder that ``npm run build`` creates; it has an index.html.
    """
    return _Frontend(api, folder)
