"""``benefits cancel``: what it undoes, prints and refuses."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from benefits_sqlite import SqliteStore
from contract.builders import order, stocked
from unit.command import Command


@pytest.fixture(autouse=True)
def database(benefits: Command) -> bytes:  # noqa: ARG001 - it chooses the folder
    """Create a database with three orders in the folder of the command, and return its content."""
    with SqliteStore("benefits.db") as store:
        stocked(store)
        order(store, "jo", "netflix", "flu-shot")
        order(store, "jo", "spotify")
        order(store, "bo", "gym")
    return Path("benefits.db").read_bytes()


def cancelled(benefits: Command) -> list[str]:
    """Return the ids of the orders that are cancelled."""
    return [row["order_id"] for row in benefits.rows("orders", "--cancelled")]


def test_the_total_is_credited_and_the_order_stays_in_the_book(benefits: Command) -> None:
    assert benefits("cancel", "1") == (0, "Cancelled: order 1; 75.99 credited to jo.\n", "")
    assert benefits.balances() == {"bo": 100, "jo": Decimal("454.01")}
    assert cancelled(benefits) == ["1"]
    assert len(benefits.rows("orders")) == 3
    assert benefits("check")[0] == 0


def test_orders_of_one_user_and_of_several_are_cancelled_together(benefits: Command) -> None:
    assert benefits("cancel", "3", "2", "1", "3") == (
        0,
        (
            "Cancelled: order 3; 400.00 credited to bo.\n"
            "Cancelled: order 2; 45.99 credited to jo.\n"
            "Cancelled: order 1; 75.99 credited to jo.\n"
        ),
        "",
    )
    assert benefits.balances() == {"bo": 500, "jo": 500}
    assert benefits("check")[0] == 0


def test_an_order_is_cancelled_once(benefits: Command) -> None:
    benefits("cancel", "1", "--by", "Al")
    before = Path("benefits.db").read_bytes()

    assert benefits("cancel", "1", "--by", "Bo") == (
        0,
        "No order was cancelled: each of them is already.\n",
        "",
    )
    assert Path("benefits.db").read_bytes() == before
    assert benefits("cancel", "1", "2")[1] == "Cancelled: order 2; 45.99 credited to jo.\n"
    assert benefits.balances()["jo"] == 500


def test_what_was_cancelled_can_be_ordered_and_cancelled_again(benefits: Command) -> None:
    benefits("cancel", "1")
    with SqliteStore("benefits.db") as store:
        again = order(store, "jo", "netflix")

    assert benefits.balances()["jo"] == Decimal("378.02")
    assert benefits("cancel", again.order_id)[1] == "Cancelled: order 4; 75.99 credited to jo.\n"
    assert cancelled(benefits) == ["1", "4"]
    assert benefits("check")[0] == 0


def test_it_keeps_who_cancelled_it_and_why(benefits: Command) -> None:
    benefits("cancel", "1", "--by", "Al", "--note", "wrong size")
    last = benefits.rows("show", "jo")[-1]

    assert (last["what"], last["reference"], last["amount"], last["items"], last["by"], last["note"]) == (
        "cancellation",
        "1",
        Decimal("75.99"),
        ["netflix", "flu-shot"],
        "Al",
        "wrong size",
    )


def test_a_trial_says_what_would_be_cancelled_and_changes_nothing(benefits: Command, database: bytes) -> None:
    assert benefits("cancel", "1", "3", "--dry-run") == (
        0,
        "To be cancelled: order 1; 75.99 credited to jo.\nTo be cancelled: order 3; 400.00 credited to bo.\n",
        "",
    )
    assert Path("benefits.db").read_bytes() == database


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["1", "7", "2", "8"], 1, "there is no order '7', '8'; nothing was cancelled; see benefits orders"),
        *(
            ([order_id], 1, f"there is no order {order_id!r}; nothing was cancelled; see benefits orders")
            for order_id in ("0", "01", " 1", "+1", "1.0", "\u0661", "", "9" * 30, "jo", "\udcff")
        ),
        (["1", "7", "--dry-run"], 1, "there is no order '7'"),
        (["--", "-1"], 1, "there is no order '-1'"),
        (["-1"], 2, "No such option '-1'"),
        (["1", "--dryrun"], 2, "No such option '--dryrun'"),
        ([], 2, "Missing argument 'ORDER...'"),
        (["1", "--by", " \n"], 2, "--by must be text of 1 to 200 code points"),
        (["1", "--note", "n" * 201], 2, "--note must be text of 1 to 200 code points"),
        (["1", "--database", "none.db"], 2, "none.db: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_cancelled(
    benefits: Command, database: bytes, arguments: list[str], status: int, message: str
) -> None:
    result, out, err = benefits("cancel", *arguments)

    assert (result, out, err.count("\n")) == (status, "", 1)
    assert message in err
    assert Path("benefits.db").read_bytes() == database


def test_after_a_crash_nothing_is_cancelled_and_it_can_be_run_again(benefits: Command) -> None:
    program = """
import os, sys
from benefits_core.model import User
from benefits_service import main
cancel, calls = User.cancel, []
def crash(self, order, signature):
    calls.append(order)
    return os._exit(9) if len(calls) == 2 else cancel(self, order, signature)
User.cancel = crash
sys.argv = ["benefits", "cancel", "1", "2"]
main()
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert cancelled(benefits) == []
    assert benefits("cancel", "1", "2")[1].count("Cancelled: ") == 2
    assert benefits.balances()["jo"] == 500
    assert benefits("check")[0] == 0
