"""The OpenAPI document as a page for people: rendered here, whole, so that a browser needs no script and no internet."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

import attrs
import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from benefits_http.openapi import Document

_STYLE: Final = files("benefits_http").joinpath("templates/docs.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What browsers let the page do: nothing but use its own style."""

_LIMITS: Final = [
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " code points"),
    ("minItems", "maxItems", " items"),
]

_SHORT: Final = 80
"""How many characters of JSON fit into one line of the page."""


@attrs.frozen
class _Field:
    path: str
    required: bool
    kind: str
    description: str


def page(document: Document) -> str:
    """Return an OpenAPI document as HTML.

    :param document: of the form that ``benefits_http.openapi`` describes; it names one server.
    """

    def resolved(node: Document) -> Document:
        if "$ref" not in node:
            return node
        found: Document = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return found

    def fields(node: Document, path: str = "") -> Iterator[_Field]:
        schema = resolved(node)
        required = schema.get("required", ())
        for name, property_ in schema.get("properties", {}).items():
            field = resolved(property_)
            inner = f"{path}{name}"
            yield _Field(inner, name in required, _kind(field), field.get("description", ""))
            yield from fields(field, f"{inner}.")
            yield from fields(field.get("items", {}), f"{inner}[].")

    return _template.render(
        document=document,
        mount=document["servers"][0]["url"].rstrip("/"),
        style=Markup(_STYLE),  # noqa: S704 - our own file
        resolved=resolved,
        fields=fields,
    )


def _kind(schema: Document) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "any value"))
    if kind == "array":
        kind = f"array of {schema['items'].get('type', 'object')}s"
    for low, high, unit in _LIMITS:
        if high in schema:
            kind += f", {schema.get(low, 0):,} to {schema[high]:,}{unit}"
    return kind


def _text(text: str) -> Markup:
    # Of CommonMark, the descriptions use code and paragraphs.
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))).replace("\n\n", "</p><p>")
    return Markup(f"<p>{html}</p>")  # noqa: S704 - escaped just there


def _json(value: Any) -> str:  # noqa: ANN401 - JSON is of any type
    encoded = msgspec.json.encode(value)
    short = msgspec.json.format(encoded, indent=0).decode()
    return short if len(short) <= _SHORT else msgspec.json.format(encoded).decode()


_environment: Final = Environment(
    loader=PackageLoader("benefits_http"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_environment.filters |= {"text": _text, "json": _json}
_template: Final = _environment.get_template("docs.html")
