"""``benefits grant --from``: CSV files that are granted whole, and those that are refused."""

from __future__ import annotations

import codecs
from decimal import Decimal
from pathlib import Path

import pytest

from benefits_service.commands.grant_file import read_grants
from benefits_service.commands.text_files import InvalidFileError
from benefits_sqlite import SqliteStore
from contract.builders import add_user
from unit.command import Command

NOT_AN_AMOUNT = "is not an amount of at most 9,999,999,999.99 with at most two decimals"
NOT_A_USER = "user_id must be text of 1 to 64 code points without control characters, not"


@pytest.mark.parametrize(
    ("file", "amounts"),
    [
        ("user_id,amount\njo,5\nbo,-0.50\n", {"jo": "5", "bo": "-0.50"}),
        ("\ufeffuser_id,amount\njo,5", {"jo": "5"}),
        ("user_id,amount\r\n\r\njo,5\r\n", {"jo": "5"}),
        ("user_id,amount\rjo,5\r", {"jo": "5"}),
        ('"user_id","amount"\n"a, ""b""","5"\n', {'a, "b"': "5"}),
        ("amount,team,user_id\n 5 ,red, Jose\u0301 \n", {"José": "5"}),
        ("user_id,amount,,\njo,5,,\n", {"jo": "5"}),
        (
            "user_id,amount\n'=jo,5\n''=jo,6\n=bo,7\n'jo,8\n",
            {"=jo": "5", "'=jo": "6", "=bo": "7", "'jo": "8"},
        ),
        ("user_id,amount\n", {}),
    ],
    ids=["plain", "mark", "windows", "mac", "quoted", "columns", "empty columns", "apostrophes", "no users"],
)
def test_a_file_says_what_each_user_gets(file: str, amounts: dict[str, str]) -> None:
    assert read_grants(file.encode(), None) == {user: Decimal(amount) for user, amount in amounts.items()}


def test_without_amounts_each_user_gets_the_same() -> None:
    assert read_grants(b"user_id,team\njo,red\nbo\n", Decimal(5)) == {"jo": 5, "bo": 5}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("", "line 1: the header has no column user_id; columns are separated by commas"),
        ("\nuser_id,amount\n", "line 1: the header has no column user_id"),
        ("jo,5\n", "line 1: the header has no column user_id"),
        (
            "user_id;amount\njo;5\n",
            "line 1: the header has no column user_id; columns are separated by commas",
        ),
        ("user_id,money\njo,5\n", "line 1: the header has no column amount"),
        ("USER_ID,amount\njo,5\n", "line 1: the header has no column user_id"),
        ("user_id,amount,amount\njo,5,500\n", "line 1: the header has two columns amount"),
        ("user_id,user_id,amount\njo,bo,5\n", "line 1: the header has two columns user_id"),
        ("user_id,amount\njo,5\nbo,five\n", f"line 3: 'five' {NOT_AN_AMOUNT}"),
        ("user_id,amount\njo,0.005\n", f"line 2: '0.005' {NOT_AN_AMOUNT}"),
        ("user_id,amount\njo,=5\n", f"line 2: '=5' {NOT_AN_AMOUNT}"),
        ("user_id,amount\njo,NaN\n", f"line 2: 'NaN' {NOT_AN_AMOUNT}"),
        ("user_id,amount\njo,10000000000\n", f"line 2: '10000000000' {NOT_AN_AMOUNT}"),
        ("user_id,amount\njo,\n", f"line 2: '' {NOT_AN_AMOUNT}"),
        ("user_id,amount\njo\n", f"line 2: '' {NOT_AN_AMOUNT}"),
        ('user_id,amount\njo,"5,00"\n', f"line 2: '5,00' {NOT_AN_AMOUNT}"),
        (
            "user_id,amount\njo,5,00\n",
            "line 2: it has more cells than the header; an amount has a decimal point",
        ),
        ("user_id,amount\n,5\n", f"line 2: {NOT_A_USER} ''"),
        ("user_id,amount\n\r\n \n", f"line 3: {NOT_A_USER} ' '"),
        ("user_id,amount\nj\0o,5\n", f"line 2: {NOT_A_USER} 'j\\x00o'"),
        ("user_id,amount\njo,5\0\n", f"line 2: '5\\x00' {NOT_AN_AMOUNT}"),
        (f"user_id,amount\n{'u' * 65},5\n", f"line 2: {NOT_A_USER} 'uuu"),
        ("user_id,amount\njo,5\n\n\njo ,5\n", "line 5: 'jo' is in a line before"),
        ("user_id,amount\né,5\ne\u0301,5\n", "line 3: 'é' is in a line before"),
        ("user_id,amount\n'=jo,5\n=jo,5\n", "line 3: '=jo' is in a line before"),
        ('user_id,amount\n"jo\n",5\nbo,x\n', f"line 4: 'x' {NOT_AN_AMOUNT}"),
        ('user_id,amount\n"jo,5\nbo,6\n', "line 3: unexpected end of data"),
        ('user_id,amount\nbo,6\n"jo"x,5\n', "line 3: ',' expected after '\"'"),
        ('user_id,"amount\n', "line 1: unexpected end of data"),
        (f"user_id,amount\n{'u' * 131073},5\n", "line 2: field larger than field limit (131072)"),
    ],
)
def test_the_error_names_the_line_and_the_reason(file: str, message: str) -> None:
    with pytest.raises(InvalidFileError) as raised:
        read_grants(file.encode(), None)
    assert str(raised.value).startswith(message)


@pytest.fixture
def database(benefits: Command) -> bytes:  # noqa: ARG001 - it chooses the folder
    """Create a database with two users in the folder of the command, and return its content."""
    with SqliteStore("benefits.db") as store:
        add_user(store, "bo")
        add_user(store, "jo")
    return Path("benefits.db").read_bytes()


def test_the_users_of_a_file_get_its_amounts(benefits: Command, database: bytes) -> None:
    Path("f.csv").write_text("user_id,amount\njo,5\nbo,-0.50\nkim,100\n", encoding="utf-8")

    assert benefits("grant", "fix", "--from", "f.csv")[0] == 1
    trial = benefits("grant", "fix", "--from", "f.csv", "--create", "--dry-run")
    assert Path("benefits.db").read_bytes() == database
    done = benefits("grant", "fix", "--from", "f.csv", "--create")
    outcome = "for fix: 104.50 in all to 3 users, 1 user created; 0 users had it already.\n"
    assert (trial, done) == ((0, f"To be granted {outcome}", ""), (0, f"Granted {outcome}", ""))
    assert benefits.balances() == {"bo": Decimal("499.50"), "jo": 505, "kim": 600}
    assert benefits("grant", "fix", "--from", "f.csv") == (
        0,
        "Granted for fix: 0.00 in all to 0 users; 3 users had it already.\n",
        "",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"user_id,amount\njo,5\nbo,x\n", f"line 3: 'x' {NOT_AN_AMOUNT}; nothing was granted"),
        (
            b"user_id,amount\nj\xf6,5\n",
            "Line 2 is not UTF-8: byte 0xF6; save it as UTF-8; nothing was granted",
        ),
        *(
            (
                mark + "user_id,amount\njo,5\n".encode(f"utf-16-{order}"),
                "It is encoded in UTF-16; save it as UTF-8; nothing was granted",
            )
            for mark, order in [(codecs.BOM_UTF16_LE, "le"), (codecs.BOM_UTF16_BE, "be"), (b"", "le")]
        ),
    ],
)
def test_an_invalid_file_is_one_line_and_nothing_is_granted(
    benefits: Command, database: bytes, content: bytes, message: str
) -> None:
    Path("f.csv").write_bytes(content)

    assert benefits("grant", "fix", "--from", "f.csv") == (2, "", f"benefits: f.csv: {message}\n")
    assert Path("benefits.db").read_bytes() == database


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("none.csv", "No such file or directory; name a CSV file"),
        (".", "Is a directory; name a CSV file"),
        ("/dev/zero", "it is longer than 64 MiB; nothing was granted"),
    ],
)
def test_what_is_not_a_file_is_one_line(benefits: Command, database: bytes, file: str, message: str) -> None:
    assert benefits("grant", "fix", "--from", file) == (2, "", f"benefits: {file}: {message}\n")
    assert Path("benefits.db").read_bytes() == database


@pytest.mark.usefixtures("database")
def test_an_amount_beside_a_file_that_has_amounts_is_refused(benefits: Command) -> None:
    Path("f.csv").write_text("user_id,amount\njo,5\n", encoding="utf-8")

    assert benefits("grant", "fix", "-7", "--from", "f.csv") == (
        2,
        "",
        (
            "benefits: f.csv: line 1: the header has a column amount; leave it out, or do not name an AMOUNT;"
            " nothing was granted\n"
        ),
    )


@pytest.mark.usefixtures("database")
def test_if_one_line_is_refused_none_is_granted(benefits: Command) -> None:
    Path("f.csv").write_text("user_id,amount\nbo,5\njo,-500.01\n", encoding="utf-8")

    assert benefits("grant", "fix", "--from", "f.csv") == (
        2,
        "",
        ("benefits: the balance of 'jo' is 500.00, and can't be changed by -500.01; nothing was granted\n"),
    )
    assert benefits.balances() == {"bo": 500, "jo": 500}


@pytest.mark.usefixtures("database")
def test_users_that_were_exported_can_be_granted_to(benefits: Command) -> None:
    names = [
        "=jo",
        "'=jo",
        "''=jo",
        "'jo",
        "-1",
        "+1",
        "@me",
        'a "b", c',
        "Jörg",
        "\U0001f469\u200d\U0001f680",
        "'",
    ]
    with SqliteStore("benefits.db") as store:
        for name in names:
            add_user(store, name)
    _, exported, _ = benefits("users", "--format", "csv")
    Path("users.csv").write_text(exported, encoding="utf-8", newline="")

    assert benefits("grant", "budget", "5", "--from", "users.csv") == (
        0,
        "Granted for budget: 65.00 in all to 13 users; 0 users had it already.\n",
        "",
    )
    assert benefits.balances() == dict.fromkeys(["bo", "jo", *names], Decimal(505))


def test_lines_that_a_spreadsheet_leaves_empty_are_skipped() -> None:
    assert read_grants(b"user_id,amount\njo,5\n,\n\n,\nbo,6\n", None) == {"jo": Decimal(5), "bo": Decimal(6)}
