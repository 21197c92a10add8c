"""The frontend: serves a built React application beside the API, from the same origin."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from wsgiref.headers import Headers
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from whitenoise import WhiteNoise

# create-react-app puts a hash of the content into the names of files that never change: main.8f2b1c3d.js
_CONTENT_HASH: Final = r"\.[0-9a-f]{8,}\."


class _Frontend(WhiteNoise):  # type: ignore[misc] # WhiteNoise has no types
    """Serves the files that the folder had at the start. Every other request goes to the API."""

    def __init__(self, api: WSGIApplication, folder: Path) -> None:
        super().__init__(
            api,
            max_age=0,  # a browser may keep the file, and must revalidate it before each use
            immutable_file_test=_CONTENT_HASH,
            allow_all_origins=False,
            add_headers_function=_forbid_sniffing,
        )
        root = folder.resolve()
        # A link to a file outside the folder is not served.
        files = {
            str(path): path.stat()
            for path in root.rglob("*")
            if path.is_file() and path.resolve().is_relative_to(root)
        }
        for path in files:
            self.add_file_to_dictionary("/" + Path(path).relative_to(root).as_posix(), path, stat_cache=files)
        self.files["/"] = self.files["/index.html"]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reads = environ["REQUEST_METHOD"] in {"GET", "HEAD"}
        body: Iterable[bytes] = (super().__call__ if reads else self.application)(environ, start_response)
        return body

    def serve(self, *request: Any) -> Iterable[bytes]:  # noqa: ANN401 - WhiteNoise has no types
        _, environ, start_response = request
        try:
            body: Iterable[bytes] = super().serve(*request)
        except OSError:  # the file is gone: a new build empties the folder first
            body = self.application(environ, start_response)
        return body


def _forbid_sniffing(headers: Headers, _path: str, _url: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"


def with_frontend(api: WSGIApplication, folder: Path) -> WSGIApplication:
    """Return an application that serves the files of a folder, its index.html at ``/``, and the API.

    :param folder: the folder that ``npm run build`` creates; it has an index.html.
    """
    return _Frontend(api, folder)
