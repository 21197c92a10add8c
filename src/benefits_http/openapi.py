"""The OpenAPI document: openapi.yaml as plain values."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from typing import Any

import msgspec

Document = dict[str, Any]
"""An OpenAPI document, or a part of one, as JSON values."""


def describe() -> Document:
    """Return the OpenAPI 3.1 document of the blueprint's endpoints. It is a new one: the caller may add to it.

    The blueprint sets ``servers`` when it serves the document. Every response is in ``components.responses``.
    """
    source = files(__package__).joinpath("openapi.yaml")
    document: Document = msgspec.yaml.decode(source.read_bytes())
    document["info"]["version"] = version("benefits")
    return document
