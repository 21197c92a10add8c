"""The Flask adapter: ``create_app`` for those who deploy, ``benefits_blueprint`` for those who have an application."""

from importlib import import_module
from typing import Any

__all__ = ["benefits_blueprint", "create_app"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes are of any type
    # Late, because the command in service/ has to start, and say so in one line, where Flask is not installed.
    homes = {"benefits_blueprint": "benefits_http.blueprint", "create_app": "benefits_http.app"}
    if name in homes:
        return getattr(import_module(homes[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
