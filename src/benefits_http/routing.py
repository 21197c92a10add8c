"""Routing: where the paths of the API lead is known beforehand; about all others Werkzeug is asked.

Werkzeug follows each path through all rules, part by part, which takes a sixth of the time of an answer about a user.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container
from typing import Any, Final

from werkzeug.routing import Map, MapAdapter, Rule

from benefits_http.blueprint import USER_IN_PATH, UserPath

_Found = tuple[Rule, dict[str, str]]
"""A rule, and the arguments for its view."""

_is_user: Final = re.compile(UserPath.regex).fullmatch


class ApiRoutes:
    """Where the paths of the API lead.

    :param rules: those of the whole application. Where others are below a path of the API, that is left to Werkzeug.
    :param api: the endpoints of the API, whose rules are the first.
    """

    def __init__(self, rules: Collection[Rule], api: Container[str]) -> None:
        self._fixed: dict[tuple[str, str], Rule] = {}
        self._users: list[tuple[str, Rule]] = []
        others = [rule.rule for rule in rules if rule.endpoint not in api]
        for rule in rules:
            path = rule.rule.removesuffix(USER_IN_PATH)
            if any(other.startswith(path) for other in others):  # it may be one of them
                continue
            if path == rule.rule:
                self._fixed |= {(method, path): rule for method in rule.methods or ()}
            else:
                self._users.append((path, rule))

    def find(self, method: str, path: str) -> _Found | None:
        """Return where a request leads; None if Werkzeug has to say."""
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed, {}
        for beginning, rule in self._users:
            if path.startswith(beginning) and method in (rule.methods or ()):
                user_id = path[len(beginning) :]
                if _is_user(user_id):
                    return rule, {"user_id": user_id}
        return None


class Router(MapAdapter):
    """What routes one request, whatever host it was sent to.

    :param routes: those of the API.
    :param rules: the rules of the whole application.
    """

    def __init__(self, routes: ApiRoutes, rules: Map, method: str, path: str) -> None:
        super().__init__(rules, "", "/", "", "http", path, method)
        self._found = routes.find(method, path)

    def match(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - see there
        """Return where the request leads, or answer another question, as Werkzeug's own does."""
        if self._found and not arguments and options == {"return_rule": True}:
            return self._found
        return super().match(*arguments, **options)
