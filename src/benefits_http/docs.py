"""The OpenAPI document as JSON, and Swagger UI to read it and try the API out, all from this server."""

from __future__ import annotations

import gzip
from copy import deepcopy
from functools import cache, lru_cache, partial
from hashlib import sha256
from importlib.resources import files
from typing import Final
from urllib.parse import quote

import attrs
from flask import Blueprint, Response, abort, request

from benefits_http import wire
from benefits_http.openapi import Document


def own_origin_policy(images: str = "'self'") -> str:
    """Return a content security policy: a browser allows a page files and requests of its own origin, and nothing inline.

    :param images: where images may come from.
    """
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


CONTENT_SECURITY_POLICY: Final = own_origin_policy("'self' data:")
"""The policy of the page. Swagger UI has inline images."""

_TYPES: Final = {
    "docs.css": "text/css",
    "docs.js": "text/javascript",
    "favicon-32x32.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
"""The files that the page loads, and their types. No other file is served."""

_OWN: Final = files("benefits_http") / "static"
_SWAGGER_UI: Final = files("flask_swagger_ui") / "dist"  # the package's Flask code is not used


def add_docs(blueprint: Blueprint, document: Document) -> None:
    """Add the endpoints ``/openapi.json``, ``/docs`` and ``/docs/<file>`` to a blueprint."""
    # As everywhere in the blueprint: Flask would redirect a doubled slash.
    get = partial(blueprint.route, methods=["GET"], merge_slashes=False)

    @lru_cache(8)  # one for each mount; bounded, since a prefix with variables makes any number of mounts
    def document_at(root: str, mount: str) -> _Content:
        return _Content.of(wire.encode(_located(document, root, mount)), "application/json")

    @get("/openapi.json")
    def openapi() -> Response:
        root = quote(request.script_root)
        return document_at(root, root + quote(request.path).rpartition("/")[0]).response()

    @get("/docs")
    def docs() -> Response:
        response = _read("docs.html", "text/html").response()
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    @get("/docs/<name>")
    def docs_file(name: str) -> Response:
        if name not in _TYPES:
            abort(404)
        return _read(name, _TYPES[name]).response()


def _located(document: Document, root: str, mount: str) -> Document:
    """Return the document with the URLs of its servers.

    :param root: the path of the whole application. An operation that names a path as its server is found below it.
    :param mount: the path of the blueprint.
    """
    located = deepcopy(document)
    located["servers"] = [{"url": mount or "/"}]
    for path in located["paths"].values():
        for operation in path.values():
            for server in operation.get("servers", ()) if isinstance(operation, dict) else ():
                server["url"] = root + server["url"]
    return located


@attrs.frozen
class _Content:
    """Content that never changes. It is kept compressed: the script of Swagger UI has 1.7 MB, and 0.45 MB then."""

    compressed: bytes
    mimetype: str
    tag: str

    @classmethod
    def of(cls, content: bytes, mimetype: str) -> _Content:
        return cls(gzip.compress(content, mtime=0), mimetype, sha256(content).hexdigest()[:32])

    def response(self) -> Response:
        # A weak tag: it names the content, whether compressed or not.
        headers = {"Cache-Control": "no-cache", "ETag": f'W/"{self.tag}"', "Vary": "Accept-Encoding"}
        if request.if_none_match.contains_weak(self.tag):
            return Response(status=304, headers=headers)
        if request.accept_encodings.quality("gzip"):
            return Response(
                self.compressed, headers=headers | {"Content-Encoding": "gzip"}, mimetype=self.mimetype
            )
        return Response(gzip.decompress(self.compressed), headers=headers, mimetype=self.mimetype)


@cache  # filled by the first request: most worker processes never serve the page
def _read(name: str, mimetype: str) -> _Content:
    folder = _OWN if name.startswith("docs.") else _SWAGGER_UI
    return _Content.of(folder.joinpath(name).read_bytes(), mimetype)
