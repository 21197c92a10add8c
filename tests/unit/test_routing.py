"""Routing: it leads where Werkzeug's own would, and asks it only about what is not the API's."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter
from werkzeug.test import EnvironBuilder

from benefits_core import MemoryStore, UseCases
from benefits_http.app import create_app
from benefits_http.routing import ApiRoutes


def application(*others: str) -> Flask:
    """Return the application, with rules of somebody else."""
    app = create_app(UseCases.over(MemoryStore()))
    for rule in others:
        app.add_url_rule(rule, endpoint=rule, view_func=lambda **_: "")
    return app


PLAIN = application()
CROWDED = application("/api/users/me", "/users/<name>/photo", "/products/<int:number>", "/<path:rest>")

methods = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
parts = st.sampled_from(["api", "users", "products", "orders", "jo", "me", "photo", "7", "", "ü", " a\n"])
paths = st.lists(parts, max_size=5).map(lambda some: "/" + "/".join(some))


def router(app: Flask, method: str, path: str) -> MapAdapter:
    """Return what routes a request."""
    environ = EnvironBuilder(method=method, path=path).get_environ()
    environ["PATH_INFO"] = path.encode().decode(
        "latin-1"
    )  # which the builder takes for a URL, whose host may be in it
    adapter = app.create_url_adapter(app.request_class(environ))
    assert adapter is not None
    return adapter


def destination(adapter: MapAdapter) -> Any:
    """Return where a request leads, and which methods there are."""
    methods = set(adapter.allowed_methods())
    try:
        rule, arguments = adapter.match(return_rule=True)
    except (MethodNotAllowed, NotFound) as error:
        return type(error), methods
    return rule.endpoint, rule.rule, arguments, methods


@pytest.mark.parametrize("app", [PLAIN, CROWDED], ids=["plain", "crowded"])
@given(method=methods, path=paths)
def test_it_leads_where_werkzeug_would(app: Flask, method: str, path: str) -> None:
    asked = "/\0" if path.startswith("//") else path  # where it would ignore a slash, nothing is found
    werkzeug = app.url_map.bind("", path_info=asked, default_method=method)

    assert destination(router(app, method, path)) == destination(werkzeug)


class TestApiRoutes:
    @staticmethod
    def routes(app: Flask) -> ApiRoutes:
        """Return the routes of an application's API."""
        rules = list(app.url_map.iter_rules())
        return ApiRoutes(rules, {rule.endpoint for rule in rules if rule.endpoint.startswith("benefits")})

    @pytest.mark.parametrize("prefix", ["", "/api"])
    @pytest.mark.parametrize(
        ("method", "path", "arguments"),
        [
            ("GET", "/users/jo", {"user_id": "jo"}),
            ("GET", "/users/jo/ann", {"user_id": "jo/ann"}),
            ("GET", "/users", {}),
            ("GET", "/products", {}),
            ("POST", "/orders", {}),
        ],
    )
    def test_what_is_asked_for_all_the_time_is_found_without_werkzeug(
        self, prefix: str, method: str, path: str, arguments: dict[str, str]
    ) -> None:
        found = self.routes(PLAIN).find(method, prefix + path)

        assert found is not None
        assert found[1] == arguments

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/orders"), ("POST", "/users/jo"), ("GET", "/users/jo/"), ("GET", "/jo")]
    )
    def test_what_needs_another_answer_is_left_to_werkzeug(self, method: str, path: str) -> None:
        assert self.routes(PLAIN).find(method, path) is None

    def test_so_is_what_others_have_rules_below(self) -> None:
        routes = self.routes(CROWDED)

        assert routes.find("GET", "/api/users/jo") is None
        assert routes.find("GET", "/users/jo") is None
        assert routes.find("GET", "/products") is None
        assert routes.find("GET", "/api/products") is not None
