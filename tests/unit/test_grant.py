"""``benefits grant``: what it gives, prints and refuses. ``test_grant_file`` has the files."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from benefits_sqlite import SqliteStore
from contract.builders import add_user, opening
from unit.command import Command

# More than are locked by one call.
MANY = 501


@pytest.fixture(autouse=True)
def database(benefits: Command) -> None:  # noqa: ARG001 - it chooses the folder
    """Create a database with two users in the folder of the command."""
    with SqliteStore("benefits.db") as store:
        add_user(store, "bo")
        add_user(store, "jo")


def assert_nothing_granted(benefits: Command) -> None:
    """Assert that the users are those of the fixture, with their opening grant alone."""
    for user in ("bo", "jo"):
        assert [row["reference"] for row in benefits.rows("show", user)] == ["opening"]
    assert list(benefits.balances()) == ["bo", "jo"]


def test_it_says_how_many_users_got_the_grant_and_how_many_had_it(benefits: Command) -> None:
    outcomes = [
        benefits("grant", "welcome", "50", *users) for users in (["jo"], ["bo", "jo", "bo"], ["jo", "bo"])
    ]

    assert outcomes == [
        (0, "Granted for welcome: 50.00 in all to 1 user; 0 users had it already.\n", ""),
        (0, "Granted for welcome: 50.00 in all to 1 user; 1 user had it already.\n", ""),
        (0, "Granted for welcome: 0.00 in all to 0 users; 2 users had it already.\n", ""),
    ]
    assert benefits.balances() == {"bo": 550, "jo": 550}
    assert benefits("check")[0] == 0


def test_a_second_amount_for_the_same_reference_changes_nothing(benefits: Command) -> None:
    benefits("grant", "welcome", "50", "jo")
    benefits("grant", "welcome", "70", "jo")

    assert benefits.balances()["jo"] == 550


def test_all_users_get_it_however_many_there_are(benefits: Command) -> None:
    with SqliteStore("benefits.db") as store:
        store.change(lambda work: [work.users.get_or_add(opening(f"u{number}")) for number in range(MANY)])

    assert benefits("grant", "budget", "0.01", "--all") == (
        0,
        "Granted for budget: 5.03 in all to 503 users; 0 users had it already.\n",
        "",
    )
    assert set(benefits.balances().values()) == {Decimal("500.01")}


def test_where_there_are_no_users_all_of_them_get_it(benefits: Command) -> None:
    SqliteStore("empty.db").close()

    assert benefits("grant", "budget", "5", "--all", "--database", "empty.db") == (
        0,
        "Granted for budget: 0.00 in all to 0 users; 0 users had it already.\n",
        "",
    )


def test_a_user_may_be_named_in_another_spelling(benefits: Command) -> None:
    with SqliteStore("benefits.db") as store:
        add_user(store, "José")
    granted = benefits("grant", "Prämie", "50", " Jose\u0301 ", "Jos\u00e9")

    assert granted == (0, "Granted for Prämie: 50.00 in all to 1 user; 0 users had it already.\n", "")
    for spelling in ("Pra\u0308mie", " Prämie "):
        assert benefits("grant", spelling, "50", "José")[1].endswith("1 user had it already.\n")
    assert benefits.balances()["José"] == 550


@pytest.mark.parametrize("command", ["grant bonus 5 JO", "grant bonus 5 --from users.csv", "show JO"])
def test_a_service_that_ignores_case_has_commands_that_do(
    benefits: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    Path("users.csv").write_text("user_id\nJO\n", encoding="utf-8")
    assert benefits(*command.split())[0] == 1
    monkeypatch.setenv("BENEFITS_IDENTITY_CASE_INSENSITIVE", "1")

    assert benefits(*command.split())[0] == 0


@pytest.mark.parametrize(
    ("amount", "balance"),
    [
        ("-20", "480.00"),
        ("-500", "0.00"),
        ("-0", "500.00"),
        ("0", "500.00"),
        ("1.230", "501.23"),
        ("9999999499.99", "9999999999.99"),
    ],
)
def test_an_amount_is_exact_and_may_be_negative(benefits: Command, amount: str, balance: str) -> None:
    assert benefits("grant", "fix", amount, "jo")[0] == 0
    assert benefits.balances() == {"bo": 500, "jo": Decimal(balance)}
    assert not any(row["amount"].is_signed() for row in benefits.rows("show", "jo") if not row["amount"])


@pytest.mark.parametrize(
    "amount",
    [
        *("NaN", "Infinity", "1.001", "-0.001", "1,50", "", "five", "10000000000", "-10000000000"),
        *("1e2", "1e-3", "1_0", "\u0665", ".5", "+5", "5 EUR"),
    ],
)
def test_what_is_not_an_amount_is_refused(benefits: Command, amount: str) -> None:
    assert benefits("grant", "fix", amount, "jo") == (
        2,
        "",
        (
            f"benefits: {amount!r} is not an amount of at most 9,999,999,999.99 with at most two decimals."
            " See 'benefits grant --help'.\n"
        ),
    )
    assert_nothing_granted(benefits)


@pytest.mark.parametrize("amount", ["-500.01", "9999999500"])
@pytest.mark.parametrize("users", [["bo", "jo"], ["--all"]])
def test_no_balance_becomes_negative_nor_more_than_money_can_be(
    benefits: Command, amount: str, users: list[str]
) -> None:
    status, out, err = benefits("grant", "fix", amount, *users)

    assert (status, out) == (2, "")
    assert err == (
        f"benefits: the balance of 'bo' is 500.00, and can't be changed by {Decimal(amount):.2f};"
        " nothing was granted\n"
    )
    assert_nothing_granted(benefits)


def test_if_one_of_many_users_can_not_get_it_none_does(benefits: Command) -> None:
    with SqliteStore("benefits.db") as store:
        store.change(lambda work: [work.users.get_or_add(opening(f"u{number}")) for number in range(MANY)])
        add_user(store, "zoe", 4)

    assert benefits("grant", "fix", "-5", "--all")[0] == 2
    assert set(benefits.balances().values()) == {500, 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fix", "5"], "Name users, or use either --all or --from."),
        (["fix", "--all"], "Missing argument AMOUNT."),
        (["fix", "5", "jo", "--all"], "Name users, or use either --all or --from."),
        (["fix", "5", "--all", "--from", "f.csv"], "Name users, or use either --all or --from."),
        (["fix", "5", "jo", "--from", "f.csv"], "Name users, or use either --all or --from."),
        ([], "Missing argument 'REFERENCE'."),
        (["opening", "5", "jo"], "another one than the reserved one, not 'opening'; nothing was granted."),
        (["opening", "5", "--all"], "another one than the reserved one, not 'opening'; nothing was granted."),
        (["", "5", "--all"], "reference must be text of 1 to 64 code points"),
        (["r" * 65, "5", "jo"], "reference must be text of 1 to 64 code points"),
        (["a\nb", "5", "jo"], "reference must be text of 1 to 64 code points"),
        (["\udcff", "5", "jo"], "reference must be text of 1 to 64 code points"),
        (["fix", "5", "\udcff", "--create"], "user_id must be text of 1 to 64 code points"),
        (["fix", "5", " "], "user_id must be text of 1 to 64 code points"),
        (["fix", "5", "jo", "u" * 65, "--create"], "user_id must be text of 1 to 64 code points"),
        (["fix", "5", "--all", "--create"], "--all grants to known users: leave out --create."),
        (["fix", "5", "jo", "--by", ""], "--by must be text of 1 to 200 code points"),
        (["fix", "5", "jo", "--note", "n" * 201], "--note must be text of 1 to 200 code points"),
        (["fix", "5", "jo", "--opening-balance", "-1"], "'-1' is not an amount from 0 to 9,999,999,999.99"),
        (["fix", "5", "jo", "--opening-balance", "1.001"], "'1.001' is not an amount from 0 to"),
        (["fix", "5", "jo", "--opening-balance", "x"], "'x' is not an amount from 0 to"),
        (["fix", "5", "jo", "--database", "none.db"], "none.db: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_granted(
    benefits: Command, arguments: list[str], message: str
) -> None:
    status, out, err = benefits("grant", *arguments)

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert_nothing_granted(benefits)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["fix", "-20", "jo", "--dryrun"], "--dryrun"),
        (["fix", "--dryrun", "-20", "jo"], "--dryrun"),
        (["--dryrun", "fix", "20", "jo"], "--dryrun"),
        (["--dryrun", "20", "jo"], "--dryrun"),
        (["--dryrun", "-20", "jo"], "--dryrun"),
        (["fix", "--dryrun", "--all"], "--dryrun"),
        (["fix", "--from", "f.csv", "--dryrun"], "--dryrun"),
        (["fix", "5", "jo", "-n"], "-n"),
        (["fix", "5", "-20"], "-20"),
        (["fix", "5", "jo", "--", "--dry-run"], "--dry-run"),
        (["fix", "-NaN", "jo"], "-NaN"),
        (["fix", "-x5", "jo"], "-x5"),
    ],
)
def test_a_mistyped_option_is_neither_a_user_nor_a_reference(
    benefits: Command, arguments: list[str], option: str
) -> None:
    assert benefits("grant", *arguments, "--create") == (
        2,
        "",
        f"benefits: No such option: {option}. See 'benefits grant --help'.\n",
    )
    assert_nothing_granted(benefits)


def test_unknown_users_are_named_and_no_user_gets_anything(benefits: Command) -> None:
    assert benefits("grant", "welcome", "5", "jo", "kim", "al") == (
        1,
        "",
        (
            "benefits: there is no user 'kim', 'al'; nothing was granted;"
            " see benefits users, or use --create\n"
        ),
    )
    assert_nothing_granted(benefits)


def test_of_many_unknown_users_ten_are_named(benefits: Command) -> None:
    status, _, err = benefits("grant", "welcome", "5", *(f"u{number}" for number in range(12)))

    assert status == 1
    assert "'u8', 'u9' and 2 more; nothing was granted" in err


@pytest.mark.parametrize(
    ("variable", "options", "balance"),
    [
        (None, [], 505),
        (None, ["--opening-balance", "100.50"], Decimal("105.50")),
        ("0", [], 5),
        ("0", ["--opening-balance", "7"], 12),
    ],
)
def test_users_are_created_with_the_opening_balance(
    benefits: Command,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    options: list[str],
    balance: Decimal,
) -> None:
    if variable is not None:
        monkeypatch.setenv("BENEFITS_OPENING_BALANCE", variable)

    assert benefits("grant", "welcome", "5", "kim", "jo", "--create", *options) == (
        0,
        "Granted for welcome: 10.00 in all to 2 users, 1 user created; 0 users had it already.\n",
        "",
    )
    assert benefits.balances() == {"bo": 500, "jo": 505, "kim": balance}
    assert [row["reference"] for row in benefits.rows("show", "kim")] == ["opening", "welcome"]
    assert benefits("check")[0] == 0


def test_a_new_user_can_not_get_less_than_nothing(benefits: Command) -> None:
    status, _, err = benefits("grant", "fix", "-5.01", "kim", "--create", "--opening-balance", "5")

    assert status == 2
    assert "the balance of 'kim' is 5.00, and can't be changed by -5.01" in err
    assert_nothing_granted(benefits)


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_a_wrong_opening_balance_in_the_environment_is_named(
    benefits: Command, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.setenv("BENEFITS_OPENING_BALANCE", "many")
    status, _, err = benefits("grant", "welcome", "5", "jo", *option)

    assert (status, err.count("\n")) == (2, 1)
    assert "BENEFITS_OPENING_BALANCE" in err


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (["-5", "jo"], "-5.00 in all to 1 user; 0 users had it already."),
        (["5", "jo", "kim", "--create"], "10.00 in all to 2 users, 1 user created; 0 users had it already."),
        (["5", "--all"], "10.00 in all to 2 users; 0 users had it already."),
    ],
)
def test_a_trial_says_what_would_be_granted_and_changes_nothing(
    benefits: Command, arguments: list[str], outcome: str
) -> None:
    before = Path("benefits.db").read_bytes()

    assert benefits("grant", "fix", *arguments, "--dry-run") == (0, f"To be granted for fix: {outcome}\n", "")
    assert Path("benefits.db").read_bytes() == before
    assert benefits("grant", "fix", *arguments) == (0, f"Granted for fix: {outcome}\n", "")


def test_a_trial_fails_as_the_grant_would(benefits: Command) -> None:
    assert benefits("grant", "fix", "-501", "jo", "--dry-run") == benefits("grant", "fix", "-501", "jo")
    assert benefits("grant", "fix", "5", "kim", "--dry-run") == benefits("grant", "fix", "5", "kim")


def test_it_keeps_who_granted_it_and_why(benefits: Command) -> None:
    benefits("grant", "welcome", "5", "jo", "--by", "Ålice", "--note", "first week")

    assert {row["reference"]: (row["by"], row["note"]) for row in benefits.rows("show", "jo")} == {
        "opening": ("benefits", ""),
        "welcome": ("Ålice", "first week"),
    }


def test_after_a_crash_nothing_is_granted_and_it_can_be_run_again(benefits: Command) -> None:
    program = """
import os, sys
from benefits_core.model import User
from benefits_service import main
receive, calls = User.receive, []
def crash(self, grant, granted):
    calls.append(grant)
    return os._exit(9) if len(calls) == 2 else receive(self, grant, granted)
User.receive = crash
sys.argv = ["benefits", "grant", "budget", "5", "--all"]
main()
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert_nothing_granted(benefits)
    assert benefits("grant", "budget", "5", "--all")[1].startswith(
        "Granted for budget: 10.00 in all to 2 users"
    )
    assert benefits("check")[0] == 0
