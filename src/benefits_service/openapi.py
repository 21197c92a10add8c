"""The OpenAPI document of the service: that of the API, and what openapi.yaml in this package adds."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec

from benefits_http.openapi import Document, describe


def describe_service(identity_header: str | None = None, *, case_insensitive: bool = False) -> Document:
    """Return the OpenAPI document of the service, without ``servers``.

    :param identity_header: the name of the header that names the user; None if there is no identity.
    :param case_insensitive: whether the case of user ids is ignored.
    """
    added = msgspec.yaml.decode(files(__package__).joinpath("openapi.yaml").read_bytes())
    document = _merged(describe(), added["always"])
    if identity_header is not None:
        document = _merged(document, added["with_identity"])
        document["components"]["securitySchemes"]["proxy"]["name"] = identity_header
    if case_insensitive:
        info = document["info"]
        info["description"] = info["description"].replace("Case matters.", "Case does not matter.")
    for response in document["components"]["responses"].values():
        response.setdefault("headers", {})["X-Request-ID"] = {"$ref": "#/components/headers/RequestId"}
    return document


def _merged(values: Document, added: Document) -> Document:
    """Return an object with another one merged in: objects key by key, while any other value replaces."""

    def both(old: Any, new: Any) -> Any:  # noqa: ANN401 - JSON values are of any type
        return _merged(old, new) if isinstance(old, dict) and isinstance(new, dict) else new

    return values | {key: both(values.get(key), value) for key, value in added.items()}
