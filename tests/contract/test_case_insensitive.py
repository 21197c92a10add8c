"""``--identity-case-insensitive``: one person is one user, however the directory, the page or the client writes the name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from benefits_core import GetUser
from benefits_sqlite import SqliteStore, audit_database
from contract.running import Answer, Service, benefits, running

HEADER = "X-Forwarded-User"
OPTION = "--identity-case-insensitive"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service behind a proxy whose directory ignores case."""
    database = tmp_path_factory.mktemp("folded") / "benefits.db"
    with running(database, "--identity-header", HEADER, OPTION, traced=True) as started:
        yield started


def order(service: Service, header: str, user_id: str, *items: str) -> Answer:
    """Order as the user whom the proxy names."""
    body: Any = {"order": {"items": items, "user_id": user_id}}
    return service.request("POST", "/orders", body, **{HEADER: header})


def user(service: Service, header: str, path: str) -> Answer:
    """Look up a user as the user whom the proxy names."""
    return service.request("GET", f"/users/{path}", **{HEADER: header})


def test_three_spellings_are_one_user_with_one_balance(service: Service) -> None:
    assert order(service, "jdoe", "JDoe", "netflix").status == HTTPStatus.OK
    assert order(service, "JDoe", "JDOE", "netflix").json == {"error": "products_already_purchased"}
    assert order(service, "JDOE", "jdoe", "spotify").status == HTTPStatus.OK
    for header, path in (("jdoe", "JDOE"), ("JDOE", "jdoe"), ("JDoe", "JDoe")):
        answer = user(service, header, path)
        assert answer.json["user"] == {
            "user_id": "jdoe",
            "data": {"balance": 378.02, "product_ids": ["netflix", "spotify"]},
        }


def test_the_api_is_described_as_one_that_ignores_case(service: Service) -> None:
    description = service.request("GET", "/api/openapi.json").json["info"]["description"]

    assert "Case does not matter." in description
    assert "Case matters." not in description


def test_another_user_is_forbidden_as_ever(service: Service) -> None:
    assert user(service, "jdoe", "JDof").status == HTTPStatus.FORBIDDEN
    assert order(service, "JDOE", "boss", "gym-membership").status == HTTPStatus.FORBIDDEN


def test_the_length_counts_once_the_name_is_folded(service: Service) -> None:
    sharp_s = "%C3%9F"
    assert user(service, "jdoe", sharp_s * 33).json["error"] == "invalid_user_id"


def test_without_a_header_the_names_in_paths_and_bodies_are_folded(database: Path) -> None:
    with running(database, OPTION, workers=1) as service:
        assert service.order("JDoe", "netflix").status == HTTPStatus.OK
        assert service.user("jdoe") == service.user("JDOE")

    assert audit_database(str(database)).users == 1


def test_without_the_option_case_matters(database: Path) -> None:
    with running(database, workers=1) as service:
        assert service.order("JDoe", "netflix").status == HTTPStatus.OK
        assert service.user("jdoe")["product_ids"] == []


def test_ids_that_differ_only_by_case_are_refused_by_name_at_the_start(database: Path) -> None:
    with closing(SqliteStore(database)) as store:
        for name in ("jdoe", "JDoe", "Al"):
            GetUser(store)(name)
    done = benefits("serve", OPTION, "--port", "1", "--database", database)

    message = (
        f"benefits: {database}: user ids differ only by case: 'JDoe' and 'jdoe'; rename all but one of each\n"
    )
    assert (done.returncode, done.stderr) == (2, message)
    with closing(SqliteStore(database)) as store:
        assert store.users.get("Al") is not None


def test_a_user_who_is_stored_in_another_case_does_not_get_a_second_account(database: Path) -> None:
    with running(database, workers=1) as service:
        assert service.order("JDoe", "netflix").status == HTTPStatus.OK
    with running(database, OPTION, traced=True) as service:
        assert "User ids that were case-folded: 1." in service.log.read_text()
        for name in ("jdoe", "JDoe", "JDOE"):
            assert service.user(name)["product_ids"] == ["netflix"]
        assert service.order("JDoe", "netflix").json == {"error": "products_already_purchased"}

    assert audit_database(str(database)).users == 1
