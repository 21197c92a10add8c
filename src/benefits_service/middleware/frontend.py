"""The built React application, served from the same origin as the API that it calls."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from wsgiref.headers import Headers
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from whitenoise import WhiteNoise

# What create-react-app puts into the name of a file that never changes again: main.8f2b1c3d.js
_CONTENT_HASH: Final = r"\.[0-9a-f]{8,}\."


class _Frontend(WhiteNoise):  # type: ignore[misc] # WhiteNoise has no types
    """Files by their names, as they were when the service started; everything else is the API's to answer."""

    def __init__(self, api: WSGIApplication, folder: Path) -> None:
        super().__init__(
            api,
            max_age=0,  # keep it, but ask whether it is still true
            immutable_file_test=_CONTENT_HASH,
            allow_all_origins=False,
            add_headers_function=_protect,
        )
        root = folder.resolve()
        # A link may lead out of the folder; what it leads to is not there to be served.
        inside = {
            str(path): path.stat()
            for path in root.rglob("*")
            if path.is_file() and path.resolve().is_relative_to(root)
        }
        for path in inside:
            self.add_file_to_dictionary(
                "/" + Path(path).relative_to(root).as_posix(), path, stat_cache=inside
            )
        self.files["/"] = self.files["/index.html"]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reads = environ["REQUEST_METHOD"] in {"GET", "HEAD"}
        answer: Iterable[bytes] = (super().__call__ if reads else self.application)(environ, start_response)
        return answer

    def serve(self, *request: Any) -> Iterable[bytes]:  # noqa: ANN401 - passed on as they are
        _, environ, start_response = request
        try:
            answer: Iterable[bytes] = super().serve(*request)
        except OSError:  # it has gone since: a new build empties the folder first
            answer = self.application(environ, start_response)
        return answer


def _protect(headers: Headers, _path: str, _url: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"


def with_frontend(api: WSGIApplication, folder: Path) -> WSGIApplication:
    """Return an application that serves a folder's files, its index.html at ``/``, and the API.

    :param folder: what ``npm run build`` has made; it has an index.html.
    """
    return _Frontend(api, folder)
