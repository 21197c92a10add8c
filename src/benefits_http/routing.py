"""Routing: where the paths of the API lead is known beforehand; about all others Werkzeug is asked.

Werkzeug follows each path through all rules, part by part, which takes a sixth of the time of an answer about a user.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from werkzeug.routing import Map, MapAdapter, Rule, RuleFactory

from benefits_http.blueprint import USER_IN_PATH, UserPath

_is_user: Final = re.compile(UserPath.regex).fullmatch


class ApiRoutes:
    """Where the paths of the API lead.

    What the rules of others may change is not among them: paths that others begin with, and endpoints that others lead to.

    :param api: the rules of the API.
    :param rules: all rules.
    """

    def __init__(self, api: Collection[Rule], rules: Collection[Rule]) -> None:
        ours = set(map(id, api))  # rules can't be hashed
        others = [rule for rule in rules if id(rule) not in ours]
        taken = {rule.endpoint for rule in others}
        paths = [re.sub("/+", "/", rule.rule) for rule in others]
        self._fixed: dict[tuple[str, str], Rule] = {}
        self._users: list[tuple[str, Rule]] = []
        for rule in api:
            path = rule.rule.removesuffix(USER_IN_PATH)
            if rule.endpoint in taken or any(other.startswith(path) for other in paths):
                continue
            if path == rule.rule:
                self._fixed |= {(method, path): rule for method in rule.methods or ()}
            else:
                self._users.append((path, rule))

    def find(self, method: str, path: str) -> tuple[Rule, dict[str, str]] | None:
        """Return a rule, and the arguments for its view; None if Werkzeug has to say."""
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed, {}
        for beginning, rule in self._users:
            if path.startswith(beginning) and method in (rule.methods or ()):
                user_id = path[len(beginning) :]
                if _is_user(user_id):
                    return rule, {"user_id": user_id}
        return None


class Rules(Map):
    """All rules of the application.

    :ivar api: those of the API.
    """

    api: Sequence[Rule] = ()
    _routes: ApiRoutes | None = None

    def add(self, rulefactory: RuleFactory) -> None:
        """Add a rule."""
        super().add(rulefactory)
        self._routes = None  # it may change where the others lead

    @property
    def routes(self) -> ApiRoutes:
        """Where the paths of the API lead now."""
        if self._routes is None:
            self._routes = ApiRoutes(self.api, list(self.iter_rules()))
        return self._routes


class Router(MapAdapter):
    """What routes one request, whatever host it was sent to.

    :param rules: where requests may lead.
    """

    map: Rules

    def __init__(self, rules: Rules, method: str, path: str) -> None:
        # What `bind` would do, which makes no routers but Werkzeug's own.
        super().__init__(
            rules,
            server_name="",
            script_name="/",
            subdomain=None if rules.host_matching else rules.default_subdomain,
            url_scheme="http",
            path_info=path,
            default_method=method,
        )

    def match(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - see there
        """Return where the request leads; or answer another question, as Werkzeug's own does."""
        found = None
        if options == {"return_rule": True} and not arguments and not self.subdomain:
            found = self.map.routes.find(self.default_method, self.path_info)
        return found or super().match(*arguments, **options)
