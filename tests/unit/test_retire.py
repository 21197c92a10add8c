"""``benefits retire`` and ``benefits seed --retire-others``: what they change, print and refuse."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benefits_core import Signature
from benefits_sqlite import SqliteStore
from contract.builders import stocked
from unit.command import Command


@pytest.fixture(autouse=True)
def database(benefits: Command) -> None:  # noqa: ARG001 - it chooses the folder
    """Create a database in the folder of the command."""
    with SqliteStore("benefits.db") as store:
        stocked(store)


def offered() -> list[str]:
    """Return the ids of the catalogue."""
    with SqliteStore("benefits.db") as store:
        return [product.product_id for product in store.products.list_all()]


def signatures() -> dict[str, Signature]:
    """Return who retired what."""
    with SqliteStore("benefits.db") as store:
        return dict(store.products.retired())


def test_it_says_what_was_retired_and_keeps_who_did_it_and_why(benefits: Command) -> None:
    done = benefits("retire", "gym", "netflix", "--by", "Al", "--note", "contract ended")

    assert done == (0, "Retired: gym, netflix.\n", "")
    assert offered() == ["spotify", "flu-shot"]
    assert {(key, signed.by, signed.note) for key, signed in signatures().items()} == {
        ("gym", "Al", "contract ended"),
        ("netflix", "Al", "contract ended"),
    }
    assert benefits("check") == (0, "benefits.db is sound: 0 users, 0 orders, 4 products.\n", "")


def test_without_a_name_it_is_the_login_name(benefits: Command) -> None:
    benefits("retire", "gym")

    assert signatures()["gym"].by == getpass.getuser()


def test_a_user_without_a_name_is_known_by_its_number() -> None:
    without = {
        name: value
        for name, value in os.environ.items()
        if name not in {"LOGNAME", "USER", "LNAME", "USERNAME"}
    }
    program = (
        "import os, pwd, sys\n"
        "def missing(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = missing\n"
        "sys.argv = ['benefits', 'retire', 'gym']\n"
        "from benefits_service import main; main()"
    )
    subprocess.run([sys.executable, "-c", program], env=without, check=True)

    assert signatures()["gym"].by == f"user {os.getuid()}"


def test_again_it_changes_nothing_and_says_so(benefits: Command) -> None:
    benefits("retire", "gym", "--by", "Al")

    assert benefits("retire", "gym", "--by", "Bo") == (
        0,
        "No product was retired: none of them is in the catalogue.\n",
        "",
    )
    assert signatures()["gym"].by == "Al"


def test_a_trial_changes_nothing(benefits: Command) -> None:
    before = Path("benefits.db").read_bytes()

    assert benefits("retire", "gym", "--dry-run") == (0, "To be retired: gym.\n", "")
    assert (len(offered()), Path("benefits.db").read_bytes()) == (4, before)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["gym", "nothing", "no"], 1, "there is no product 'nothing', 'no'; see benefits products"),
        (["gym", "--by", ""], 2, "--by must be text of 1 to 200 code points"),
        (["gym", "--note", "a\tb"], 2, "--note must be text of 1 to 200 code points"),
        ([], 2, "Missing argument"),
        (["gym", "--database", "missing.db"], 2, "missing.db: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    benefits: Command, arguments: list[str], status: int, message: str
) -> None:
    result, out, err = benefits("retire", *arguments)

    assert (result, out, err.count("\n")) == (status, "", 1)
    assert message in err
    assert len(offered()) == 4


def test_seed_can_retire_what_is_not_in_the_file(benefits: Command) -> None:
    entries = [{"id": "gym", "name": "Gym", "price": 1}, {"id": "bike", "name": "Bike", "price": 2}]
    Path("new.json").write_text(json.dumps({"products": entries}), encoding="utf-8")
    retired = "netflix, spotify, flu-shot.\n"

    assert benefits("seed", "new.json", "--retire-others", "--dry-run") == (
        0,
        f"To be retired: {retired}",
        "",
    )
    assert benefits("seed", "new.json", "--dry-run") == (0, "new.json is valid.\n", "")
    assert len(offered()) == 4
    status, out, _ = benefits("seed", "new.json", "--retire-others", "--by", "Al")
    assert (status, out) == (0, f"benefits.db offers the 2 products of new.json.\nRetired: {retired}")
    assert offered() == ["gym", "bike"]
    assert {signed.by for signed in signatures().values()} == {"Al"}
    assert benefits("seed", "new.json", "--retire-others")[1].endswith(
        "No product was retired: none of them is in the catalogue.\n"
    )
