"""The frontend: serves our own page, or a built React application, beside the API, from the same origin."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final
from wsgiref.headers import Headers
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.http import parse_etags
from whitenoise import WhiteNoise
from whitenoise.responders import StaticFile

from benefits_http.docs import own_origin_policy

# create-react-app puts a hash of the content into the names of files that never change: main.8f2b1c3d.js. It has as many
# hexadecimal digits as hashes have. A date has no letter, and a word no digit: they are no hashes.
_CONTENT_HASH: Final = re.compile(
    r"\.([0-9a-f]{8}|[0-9a-f]{16}|[0-9a-f]{20}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})\."
)

_CHUNK: Final = 1 << 20

PAGE: Final = Path(__file__).parents[1] / "page"
"""The folder of our own page."""

PAGE_HEADERS: Final = {
    "Content-Security-Policy": f"{own_origin_policy()}; require-trusted-types-for 'script'",
    "Referrer-Policy": "no-referrer",
}
"""What restricts our own page in browsers. It has no inline script and no inline style."""


def has_content_hash(name: str) -> bool:
    """Return whether the name of a file has a hash of its content. If in doubt it has none: browsers then ask again."""
    return any(
        re.search("[0-9]", digits) and re.search("[a-f]", digits) for digits in _CONTENT_HASH.findall(name)
    )


class _File(StaticFile):  # type: ignore[misc] # WhiteNoise has no types
    """A file, and its variant that is compressed by gzip. The tag of each is a hash of its content, and not its time.

    :param files: the state of the file, and that of the variant if it may be sent.
    """

    alternatives: list[tuple[re.Pattern[str], str, list[tuple[str, str]]]]

    def __init__(self, path: str, headers: list[tuple[str, str]], files: dict[str, os.stat_result]) -> None:
        self.path = path
        self._versions = _versions(path)
        super().__init__(path, [*headers, ("ETag", "")], {"gzip": f"{path}.gz"}, files)
        self.alternatives = [
            (
                encoding,
                name,
                [*(header for header in of_all if header[0] != "ETag"), ("ETag", f'"{_hash(name)}"')],
            )
            for encoding, name, of_all in self.alternatives
        ]

    def get_headers(self, headers: list[tuple[str, str]], files: dict[str | None, Any]) -> Headers:
        """Return the headers of the file."""
        complete: Headers = super().get_headers(headers, files)
        del complete["Last-Modified"]  # by which a browser would ask that does not know the tag
        return complete

    def get_response(self, method: str, request_headers: WSGIEnvironment) -> Any:  # noqa: ANN401 - WhiteNoise's
        """Return the response: 304 if the browser has this content, in this encoding."""
        headers = Headers(self.get_path_and_headers(request_headers)[1])
        tag = str(headers["ETag"])
        # A proxy may have made the tag a weak one.
        if parse_etags(request_headers.get("HTTP_IF_NONE_MATCH")).contains_weak(tag.strip('"')):
            return self.get_not_modified_response(headers)
        if request_headers.get("HTTP_IF_RANGE", tag) != tag:
            request_headers.pop("HTTP_RANGE", None)  # the part that the browser has is one of another content
        return super().get_response(method, request_headers)

    def is_not_modified(self, _: WSGIEnvironment) -> bool:
        """Leave it to ``get_response``."""
        return False

    def is_current(self) -> bool:
        """Return whether the file and its variant are as they were when they were hashed."""
        return _versions(self.path) == self._versions


def _hash(path: str) -> str:
    with Path(path).open("rb") as file:
        return _hash_of(file)


def _hash_of(file: BinaryIO | gzip.GzipFile) -> str:
    digest = sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()[:32]


def _unpacks_to(path: str, compressed: str) -> bool:
    """Return whether a compressed file holds another one. It does not while a new build replaces one after the other."""
    try:
        with gzip.open(compressed) as file:
            return _hash_of(file) == _hash(path)
    except (OSError, EOFError, zlib.error):
        return False


def _versions(path: str) -> list[tuple[int, ...] | None]:
    return [_version(name) for name in (path, f"{path}.gz")]


def _version(path: str) -> tuple[int, ...] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    # The system itself sets the time of the last change: programs can set the other one, and do in reproducible builds.
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Frontend(WhiteNoise):  # type: ignore[misc] # WhiteNoise has no types
    """Serves the files that the folder had at the start. Every other request goes to the API: no path leads to index.html."""

    def __init__(self, api: WSGIApplication, folder: Path, headers: Mapping[str, str]) -> None:
        self._headers = headers
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
        headers = Headers([("X-Content-Type-Options", "nosniff"), *self._headers.items()])
        self.add_mime_headers(headers, path, url)
        self.add_cache_headers(headers, path, url)
        files = {path: stat_cache[path]}
        compressed = f"{path}.gz"
        if compressed in stat_cache and _unpacks_to(path, compressed):
            files[compressed] = stat_cache[compressed]
        return _File(path, headers.items(), files)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # To another method, WhiteNoise would answer 405 itself.
        reads = environ["REQUEST_METHOD"] in {"GET", "HEAD"}
        if reads and not environ["PATH_INFO"]:
            # The path under which a proxy shows the service, and no slash: a page's relative links would lead beside it.
            start_response("308 Permanent Redirect", [("Location", f"{environ['SCRIPT_NAME']}/")])
            return []
        body: Iterable[bytes] = (super().__call__ if reads else self.application)(environ, start_response)
        return body

    def serve(self, file: _File, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            if not file.is_current():
                file = self._renew(file)
            body: Iterable[bytes] = super().serve(file, environ, start_response)
        except OSError:  # the file is gone: a new build first deletes the old files
            body = self.application(environ, start_response)
        return body

    def _renew(self, file: _File) -> _File:
        names = [Path(file.path), Path(f"{file.path}.gz")]
        stats = {str(path): path.stat() for path in names if self._is_served(path)}
        if file.path not in stats:
            raise FileNotFoundError(file.path)
        urls = [url for url, known in self.files.items() if known is file]
        renewed = self.get_static_file(file.path, urls[0], stats)
        self.files.update(dict.fromkeys(urls, renewed))
        return renewed


def with_frontend(
    api: WSGIApplication, folder: Path, headers: Mapping[str, str] = MappingProxyType({})
) -> WSGIApplication:
    """Return an application that serves the files of a folder, its index.html at ``/``, and the API.

    :param folder: the folder that ``npm run build`` creates, or ``PAGE``; it has an index.html.
    :param headers: what each file is sent with.
    """
    return _Frontend(api, folder, headers)
