"""Routing: it leads where Werkzeug's own would, and asks it only about what is not the API's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from flask import Flask
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter, RequestRedirect, Rule

from benefits_core import MemoryStore, UseCases
from benefits_http.app import create_app
from benefits_http.routing import Router, Rules

METHODS = ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "get"]
PARTS = ["api", "users", "products", "orders", "jo", "me", "photo", "7", "", "ü", " a\n", "<user_id>"]

# All of two parts, and the longer ones where there is something to be found.
PATHS = [
    "",
    *("/" + "/".join(parts) for length in range(3) for parts in product(PARTS, repeat=length)),
    *(
        f"{beginning}/{first}/{second}"
        for beginning, first, second in product(["/users", "/api/users"], PARTS, PARTS)
    ),
    *(f"/api/{first}/{second}" for first, second in product(PARTS, PARTS)),
]

# What programs add that embed the application.
EMBEDDINGS: dict[str, Callable[[Flask], object]] = {
    "alone": lambda _: None,
    "below users": lambda app: app.add_url_rule("/api/users/me", "me", view),
    "below any user": lambda app: app.add_url_rule("/users/<name>/photo", "photo", view),
    "below products": lambda app: app.add_url_rule("/products/<int:number>", "number", view),
    "everywhere": lambda app: app.add_url_rule("/<path:rest>", "rest", view),
    "in two parts": lambda app: app.add_url_rule("/<first>/<second>", "two", view),
    "other methods": lambda app: app.add_url_rule("/api/products", "put", view, methods=["DELETE"]),
    "doubled slashes": lambda app: app.add_url_rule("/api//users/me", "me", view, merge_slashes=True),
    "a default": lambda app: app.add_url_rule("/api/users/me", "benefits.user", defaults={"user_id": "me"}),
    "a default elsewhere": lambda app: app.add_url_rule("/me", "benefits.user", defaults={"user_id": "me"}),
    "a redirect": lambda app: app.add_url_rule("/jo", "benefits.products", redirect_to="/api/products"),
    "an alias": lambda app: app.add_url_rule("/jo", "benefits.products", alias=True),
    "no path": lambda app: app.add_url_rule("/jo", "benefits.products", build_only=True),
    "a subdomain": lambda app: app.add_url_rule("/users/jo", "jo", view, subdomain="www"),
    "a subdomain of all": lambda app: setattr(app.url_map, "default_subdomain", "www"),
}


def view(**_: object) -> str:
    """Return a page of somebody else's."""
    return "theirs"


def application() -> Flask:
    """Return the application."""
    return create_app(UseCases.over(MemoryStore()))


def destination(adapter: MapAdapter) -> object:
    """Return where a request leads."""
    try:
        rule, arguments = adapter.match(return_rule=True)
    except RequestRedirect as error:
        return error.new_url
    except MethodNotAllowed as error:
        return sorted(error.valid_methods or ())
    except NotFound:
        return None
    assert adapter.match() == (rule.endpoint, arguments)
    return id(rule), arguments


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_it_leads_where_werkzeug_would(embedding: str) -> None:
    app = application()
    EMBEDDINGS[embedding](app)
    rules = app.url_map
    assert isinstance(rules, Rules)

    for path in PATHS:
        for method in METHODS:
            ours = Router(rules, method, path)
            theirs = rules.bind("", path_info=path, default_method=method)
            assert destination(ours) == destination(theirs), (method, path)
            assert sorted(ours.allowed_methods()) == sorted(theirs.allowed_methods()), (method, path)
            assert vars(ours) == vars(theirs)  # so URLs are made alike


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/users/jo", 200),
        ("GET", "/users/jo/ann", 200),
        ("GET", "/products", 200),
        ("POST", "/orders", 415),
        ("HEAD", "/users/jo", 200),
    ],
)
def test_what_is_asked_for_all_the_time_is_found_without_werkzeug(
    prefix: str, method: str, path: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = application().test_client()
    monkeypatch.delattr(MapAdapter, "match")

    assert client.open(prefix + path, method=method).status_code == status
    assert client.open("/elsewhere").status_code == 500  # there is nobody to be asked


def test_rules_that_come_later_are_seen() -> None:
    app = application()
    with app.test_request_context("/api/users/me"):
        pass  # it has been routed
    app.add_url_rule("/api/users/me", "me", view)
    client = app.test_client()
    assert client.get("/api/users/me").text == "theirs"

    app.url_map.add(Rule("/users/me", endpoint="me"))

    assert client.get("/users/me").text == "theirs"
    assert client.get("/users/jo").json == {
        "user": {"user_id": "jo", "data": {"balance": 500, "product_ids": []}}
    }


def test_an_adapter_that_is_turned_elsewhere_leads_there() -> None:
    app = application()
    with app.test_request_context("/api/users/me") as context:
        assert context.url_adapter is not None
        context.url_adapter.path_info = "/api/products"
        context.match_request()
        assert context.request.endpoint == "benefits.products"
