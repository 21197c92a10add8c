"""``benefits export-user`` and ``erase``: what is kept of a person, and how it is forgotten."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benefits_sqlite import SqliteStore
from contract.builders import add_user, order, stocked
from unit.command import Command

ERASED = re.compile(r"Erased: johanna is (erased-[0-9a-f]{16}) now\.\n")


@pytest.fixture(autouse=True)
def database(benefits: Command) -> bytes:
    """Create a database in the folder of the command, and return its content.

    Johanna has got a grant, and has one order and one that was cancelled.
    """
    with SqliteStore("benefits.db") as store:
        stocked(store)
        order(store, "johanna", "netflix", "flu-shot")
        order(store, "johanna", "spotify")
        order(store, "bo", "gym")
    benefits("grant", "welcome", "0.10", "johanna", "--by", "Al", "--note", "first week")
    benefits("cancel", "2", "--by", "Bo", "--note", "wrong one")
    return Path("benefits.db").read_bytes()


def exported(benefits: Command, user: str, *options: str) -> Any:
    """Return what is kept of a user. Times become ``at``, or None."""
    status, out, err = benefits("export-user", user, *options)
    assert (status, err) == (0, "")

    def without_time(value: dict[str, Any]) -> dict[str, Any]:
        for key in {"at", "placed_at"} & value.keys():
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value.pop(key))
        return value

    return json.loads(out, parse_float=Decimal, object_hook=without_time)


def test_all_that_is_kept_of_a_user_is_exported_exactly(benefits: Command) -> None:
    names = {"netflix": "Netflix", "flu-shot": "Flu vaccination", "spotify": "Spotify"}
    prices = {"netflix": Decimal("75.99"), "flu-shot": Decimal(0), "spotify": Decimal("45.99")}

    def expected(order_id: str, items: list[str], cancelled: dict[str, str] | None) -> dict[str, Any]:
        return {
            "order_id": order_id,
            "user_id": "johanna",
            "lines": [{"product_id": key, "name": names[key], "price": prices[key]} for key in items],
            "cancelled": cancelled,
            "total": sum(prices[key] for key in items),
        }

    assert exported(benefits, " johanna ") == {
        "user": {
            "user_id": "johanna",
            "balance": Decimal("424.11"),
            "product_ids": ["netflix", "flu-shot"],
        },
        "grants": [
            {
                "user_id": "johanna",
                "reference": "opening",
                "amount": 500,
                "signature": {"by": "benefits", "note": ""},
            },
            {
                "user_id": "johanna",
                "reference": "welcome",
                "amount": Decimal("0.10"),
                "signature": {"by": "Al", "note": "first week"},
            },
        ],
        "orders": [
            expected("1", ["netflix", "flu-shot"], None),
            expected("2", ["spotify"], {"by": "Bo", "note": "wrong one"}),
        ],
    }


def test_the_currency_is_named_beside_the_amounts(benefits: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exported(benefits, "bo", "--currency", "EUR")["currency"] == "EUR"
    monkeypatch.setenv("BENEFITS_CURRENCY", "CHF")
    assert exported(benefits, "bo")["currency"] == "CHF"


def test_an_export_that_can_not_be_written_is_no_success() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "benefits_service", "export-user", "bo"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        "benefits: can't write to standard output: No space left on device\n",
    )


def test_an_erased_user_is_found_nowhere_under_the_old_id(benefits: Command) -> None:
    status, out, err = benefits("erase", " johanna ", "--yes")

    said = ERASED.fullmatch(out)
    assert (status, err) == (0, "")
    assert said is not None
    for command in (["users"], ["orders"], ["orders", "--lines"], ["show", said[1]], ["report"]):
        assert "johanna" not in benefits(*command)[1]
    kept = json.dumps(exported(benefits, said[1]), default=str)
    assert "johanna" not in kept
    for command in (["show", "johanna"], ["export-user", "johanna"], ["orders", "--user", "johanna"]):
        assert benefits(*command) == (1, "", "benefits: there is no user 'johanna'; see benefits users\n")
    assert benefits("check") == (0, "benefits.db is sound: 2 users, 3 orders, 4 products.\n", "")


def test_orders_and_grants_of_an_erased_user_stay(benefits: Command) -> None:
    before = benefits("report")
    new_id = benefits("erase", "johanna", "--yes")[1].split()[3]

    assert benefits.balances()[new_id] == Decimal("424.11")
    assert [row["what"] for row in benefits.rows("show", new_id)] == [
        "grant",
        "order",
        "order",
        "grant",
        "cancellation",
    ]
    assert benefits("report") == before
    assert [row["user_id"] for row in benefits.rows("orders")] == [new_id, new_id, "bo"]


def test_an_erased_user_who_comes_back_is_a_new_user(benefits: Command) -> None:
    benefits("erase", "johanna", "--yes")
    with SqliteStore("benefits.db") as store:
        add_user(store, "johanna", 7)

    assert benefits.balances()["johanna"] == 7
    assert [row["reference"] for row in benefits.rows("show", "johanna")] == ["opening"]
    first, second = (benefits("erase", name, "--yes")[0] for name in ("johanna", "johanna"))
    assert (first, second) == (0, 1)
    assert benefits("check")[0] == 0


def test_a_trial_says_whom_it_would_erase_and_changes_nothing(benefits: Command, database: bytes) -> None:
    assert benefits("erase", "johanna", "--dry-run") == (0, "To be erased: johanna.\n", "")
    assert Path("benefits.db").read_bytes() == database


def test_after_a_crash_the_user_is_not_erased_and_it_can_be_run_again(benefits: Command) -> None:
    program = """
import os, sys
from benefits_service import main
from benefits_sqlite.repositories import SqliteUserRepository
rename = SqliteUserRepository.rename
SqliteUserRepository.rename = lambda *arguments: (rename(*arguments), os._exit(9))
sys.argv = ["benefits", "erase", "johanna", "--yes"]
main()
"""
    crashed = subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, check=False)
    assert crashed.returncode == 9
    assert list(benefits.balances()) == ["bo", "johanna"]
    assert benefits("erase", "johanna", "--yes")[0] == 0
    assert benefits("check")[0] == 0


@pytest.mark.parametrize("command", ["export-user", "erase"])
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nobody"], 1, "there is no user 'nobody'; see benefits users"),
        (["Johanna"], 1, "there is no user 'Johanna'"),
        ([""], 2, "user_id must be text of 1 to 64 code points"),
        (["bo", "johanna"], 2, "unexpected extra argument (johanna)"),
        ([], 2, "Missing argument 'USER'"),
        (["johanna", "--dryrun"], 2, "No such option '--dryrun'"),
        (["johanna", "--database", "none.db"], 2, "none.db: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    benefits: Command, command: str, arguments: list[str], status: int, message: str
) -> None:
    before = Path("benefits.db").read_bytes()
    result, out, err = benefits(command, *arguments)

    assert (result, out, err.count("\n")) == (status, "", 1)
    assert message in err
    assert Path("benefits.db").read_bytes() == before


def test_a_trial_for_an_unknown_user_fails_too(benefits: Command) -> None:
    assert benefits("erase", "nobody", "--dry-run") == benefits("erase", "nobody")


@pytest.mark.parametrize(
    ("typed", "options", "status", "erased"),
    [
        (b"y\n", [], 0, True),
        (b"n\n", [], 130, False),
        (b"\n", [], 130, False),
        (b"\x04", [], 130, False),
        (b"n\n", ["--dry-run"], 0, False),
    ],
    ids=["yes", "no", "nothing", "end", "trial"],
)
def test_on_a_terminal_it_asks_first(
    benefits: Command, typed: bytes, options: list[str], status: int, *, erased: bool
) -> None:
    terminal, stdin = os.openpty()
    os.write(terminal, typed)
    done = subprocess.run(
        [sys.executable, "-m", "benefits_service", "erase", "johanna", *options],
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(stdin)
    os.close(terminal)

    question = "" if options else "Erase johanna for ever? [y/N]: "
    assert (done.returncode, done.stderr.rstrip("\n")) == (status, question)
    assert ("johanna" not in benefits.balances()) is erased


def test_without_a_terminal_it_has_to_be_told_yes(benefits: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benefits_service", "erase", "johanna"],
        input="y\n",
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (2, "benefits: there is no terminal to ask at; use --yes\n")
    assert "johanna" in benefits.balances()
