"""Behind a proxy: the path under which clients see the service, and what the proxy says of their requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.middleware.proxy_fix import ProxyFix

_FORWARDED: Final = ("For", "Proto", "Host", "Port", "Prefix")

_ROOT_PATH: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")

OWN_PATHS: Final = frozenset(
    {"api", "docs", "healthz", "identity", "metrics", "openapi.json", "orders", "products", "users"}
)
"""How the paths of the service itself begin."""


def require_root_path(text: str) -> str:
    """Return a root path without a slash at its end; the root itself is the empty text.

    :raises ValueError: it is no path, it has characters that a URL would encode, or it begins as the service's own paths.
    """
    path = text.rstrip("/")
    if path and not _ROOT_PATH.fullmatch(path):
        raise ValueError(f"{text!r} is not a path such as /benefits")
    if _is_own(path):
        raise ValueError(f"{text!r} begins as a path of the service itself; choose one such as /benefits")
    return path


def _is_own(path: str) -> bool:
    return path.strip("/").partition("/")[0] in OWN_PATHS


def behind_proxy(app: WSGIApplication, *, root_path: str, trust_forwarded: bool) -> WSGIApplication:
    """Return an application as clients see it behind a proxy.

    :param root_path: the path under which clients see the application. Proxies may remove it from requests, or not.
    :param trust_forwarded: whether the headers ``X-Forwarded-*`` are the proxy's; if not, they are ignored.
    """
    if not root_path and not trust_forwarded:
        return app
    rooted = _under_root_path(app, root_path)
    return _unambiguous(ProxyFix(rooted, x_host=1, x_port=1, x_prefix=1)) if trust_forwarded else rooted


def _under_root_path(app: WSGIApplication, root_path: str) -> WSGIApplication:
    def rooted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        prefix = environ["SCRIPT_NAME"].rstrip("/")  # X-Forwarded-Prefix, if it is trusted
        if not _ROOT_PATH.fullmatch(prefix):
            prefix = root_path
        environ["SCRIPT_NAME"] = prefix
        path = environ["PATH_INFO"]
        # A prefix that begins as our own paths is removed by the proxy only: /users of /users/users is no prefix.
        if prefix and not _is_own(prefix) and f"{path}/".startswith(f"{prefix}/"):
            environ["PATH_INFO"] = path.removeprefix(prefix)
        return app(environ, start_response)

    return rooted


def _unambiguous(app: WSGIApplication) -> WSGIApplication:
    # In WSGI, a client's X_Forwarded_Host becomes a part of X-Forwarded-Host. So take the raw lines of the request.
    def unambiguous(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        lines = environ["asgi.scope"]["headers"]
        for name in _FORWARDED:
            key = f"HTTP_X_FORWARDED_{name.upper()}"
            if key in environ:
                header = f"x-forwarded-{name.lower()}".encode()
                values = [value.decode("latin-1") for line, value in lines if line.lower() == header]
                environ[key] = ",".join(values)
        return app(environ, start_response)

    return unambiguous
