"""The Flask adapter: ``create_app`` returns a whole application, ``benefits_blueprint`` a part of one."""

from benefits_http.app import create_app
from benefits_http.blueprint import benefits_blueprint

__all__ = ["benefits_blueprint", "create_app"]
