"""``benefits products``, ``users``, ``orders`` and ``show``: rows as a table, as CSV and as JSON lines."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benefits_core import CancelOrders, GetUser, GrantMoney, OfferProducts, PlaceOrder, Product, Signature
from benefits_service.commands.tables import _csv, _harmless, text_of
from benefits_sqlite import SqliteStore
from contract.builders import add_user, stocked
from unit.command import Command

# The last second of a day in UTC, which is a day later in Tokyo, and the first of the next.
LATE = datetime(2026, 11, 27, 23, 59, 59, tzinfo=UTC)
EARLY = datetime(2026, 11, 28, tzinfo=UTC)
LATER = datetime(2026, 11, 28, 12, 0, 1, 999_999, tzinfo=UTC)

PRODUCTS = """\
product_id  name              price
netflix     Netflix           75.99
spotify     Spotify           45.99
gym         Gym              400.00
flu-shot    Flu vaccination    0.00
"""
USERS = """\
user_id  balance  granted   spent
=jo       378.02   500.00  121.98
al        500.00   500.00    0.00
bo        424.01   500.00   75.99
"""
ORDERS = """\
order_id  user_id  placed_at              total  items            cancelled_at
1         =jo      2026-11-27T23:59:59Z  121.98  netflix spotify
2         bo       2026-11-28T00:00:00Z   75.99  netflix
3         bo       2026-11-28T00:00:00Z    0.00  flu-shot         2026-11-28T12:00:01Z
"""
STORY = """\
at                    what          reference  amount  balance  items     by        note
2026-11-28T00:00:00Z  grant         opening    500.00   500.00            benefits
2026-11-28T00:00:00Z  order         2          -75.99   424.01  netflix
2026-11-28T00:00:00Z  order         3            0.00   424.01  flu-shot
2026-11-28T12:00:01Z  cancellation  3            0.00   424.01  flu-shot  Al        =wrong, one
"""


@pytest.fixture(autouse=True)
def database(benefits: Command) -> None:  # noqa: ARG001 - it chooses the folder
    """Create a database in the folder of the command."""
    with SqliteStore("benefits.db") as store:
        stocked(store)
        PlaceOrder(store, now=lambda: LATE)("=jo", ["netflix", "spotify"])
        PlaceOrder(store, now=lambda: EARLY)("bo", ["netflix"])
        PlaceOrder(store, now=lambda: EARLY)("bo", ["flu-shot"])
        CancelOrders(store)(["3"], Signature("Al", LATER, "=wrong, one"))
        add_user(store, "al")


@pytest.mark.parametrize(("command", "table"), [("products", PRODUCTS), ("users", USERS), ("orders", ORDERS)])
def test_a_table_is_aligned_and_amounts_are_to_the_right(benefits: Command, command: str, table: str) -> None:
    assert benefits(command) == (0, table, "")


def test_an_empty_table_has_its_columns() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benefits_service", "orders", "--user", "al"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "order_id  user_id  placed_at  total  items  cancelled_at\n"


def test_a_cell_that_is_longer_than_those_before_is_whole(benefits: Command) -> None:
    """The columns are as wide as the first 500 rows need."""
    with SqliteStore("benefits.db") as store:
        OfferProducts(store)([Product(f"p{number}", "Product", Decimal(1)) for number in range(500)])
    _, out, _ = benefits("products")

    lines = out.splitlines()
    assert lines[1] == "p0          Product   1.00"
    assert lines[-1] == "flu-shot    Flu vaccination   0.00"


def test_a_row_for_each_product_can_be_printed(benefits: Command) -> None:
    columns = ["order_id", "user_id", "placed_at", "product_id", "name", "price", "cancelled_at"]

    assert benefits.rows("orders", "--lines") == [
        dict(zip(columns, row, strict=True))
        for row in [
            ("1", "=jo", "2026-11-27T23:59:59Z", "netflix", "Netflix", Decimal("75.99"), None),
            ("1", "=jo", "2026-11-27T23:59:59Z", "spotify", "Spotify", Decimal("45.99"), None),
            ("2", "bo", "2026-11-28T00:00:00Z", "netflix", "Netflix", Decimal("75.99"), None),
            ("3", "bo", "2026-11-28T00:00:00Z", "flu-shot", "Flu vaccination", 0, "2026-11-28T12:00:01Z"),
        ]
    ]


def test_lines_have_the_names_that_the_products_had(benefits: Command) -> None:
    with SqliteStore("benefits.db") as store:
        OfferProducts(store)([Product("netflix", "Netflix 4K", Decimal(99))])

    assert "Netflix 4K" in benefits("products")[1]
    assert "Netflix 4K" not in benefits("orders", "--lines")[1]


def test_json_has_the_items_of_an_order_as_a_list(benefits: Command) -> None:
    _, out, _ = benefits("orders", "--format", "jsonl", "--user", "=jo")

    assert json.loads(out)["items"] == ["netflix", "spotify"]


def test_csv_is_read_back_as_it_was_and_holds_no_formula(benefits: Command) -> None:
    """A spreadsheet takes a cell that begins with = + - or @ for a formula."""
    names = ['a "quoted", name', "+1", "-1", "@me", "é \U0001f469"]
    with SqliteStore("benefits.db") as store:
        for name in names:
            GetUser(store)(name)
    status, out, _ = benefits("users", "--format", "csv")

    assert status == 0
    assert out.startswith("user_id,balance,granted,spent\r\n")
    rows = {row["user_id"]: row for row in csv.DictReader(io.StringIO(out))}
    assert set(rows) == {"al", "bo", "'=jo", "'+1", "'-1", "'@me", names[0], names[-1]}
    assert rows["bo"] == {"user_id": "bo", "balance": "424.01", "granted": "500.00", "spent": "75.99"}


@given(st.text() | st.text("'=+@-\t\r\n a", max_size=5))
def test_any_text_is_harmless_in_a_cell_and_is_read_back_as_it_was(text: str) -> None:
    cell = str(_harmless(text))

    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert text_of(cell) == text


@given(st.lists(st.text(max_size=5) | st.text("'=+@-\t\r\n\",", max_size=5), min_size=1))
def test_rows_of_csv_are_read_back_as_they_were(texts: list[str]) -> None:
    file = "".join(_csv(texts, iter([texts])))

    header, row = csv.reader(io.StringIO(file, newline=""), strict=True)
    assert [text_of(cell) for cell in header] == [text_of(cell) for cell in row] == texts


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@me", "\ta", "\ra", "'=1", "''-1"])
def test_an_apostrophe_is_before_what_a_spreadsheet_takes_for_a_formula(text: str) -> None:
    assert _harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "'", "''", "'a", "a=1", " =1", "1"])
def test_other_texts_are_as_they_are(text: str) -> None:
    assert _harmless(text) == text


@pytest.mark.parametrize("amount", ["-1.00", "0.00", "9999999999.99", "-0.01"])
def test_amounts_are_plain_decimals_in_csv(amount: str) -> None:
    assert "".join(_csv(["amount"], iter([[Decimal(amount)]]))) == f"amount\r\n{amount}\r\n"


@pytest.mark.parametrize(
    ("command", "amount"), [("products", "price"), ("users", "balance"), ("orders", "total")]
)
def test_the_currency_is_the_last_column(
    benefits: Command, monkeypatch: pytest.MonkeyPatch, command: str, amount: str
) -> None:
    assert "currency" not in benefits(command)[1]
    with_option = benefits.rows(command, "--currency", "EUR")
    monkeypatch.setenv("BENEFITS_CURRENCY", "EUR")

    assert {row["currency"] for row in with_option} == {"EUR"}
    assert all(amount in row for row in with_option)
    assert benefits.rows(command) == with_option
    assert benefits(command)[1].splitlines()[0].endswith("  currency")
    assert {row["currency"] for row in benefits.rows(command, "--currency", "CHF")} == {"CHF"}


def test_a_wrong_currency_in_the_environment_is_named(
    benefits: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENEFITS_CURRENCY", "Euro")
    status, out, err = benefits("users")

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "BENEFITS_CURRENCY" in err


def test_the_address_of_a_service_is_no_currency(benefits: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENEFITS_CURRENCY", "tcp://10.0.0.1:80")
    status, out, err = benefits("users")

    assert (status, USERS in out) == (0, True)
    assert "BENEFITS_CURRENCY is ignored: tcp://10.0.0.1:80 is the address of a service" in out + err


def test_the_story_of_a_balance_ends_at_the_balance(benefits: Command) -> None:
    status, out, err = benefits("show", " bo ")

    assert (status, err) == (0, "")
    assert out == STORY
    for user, balance in benefits.balances().items():
        assert benefits.rows("show", user)[-1]["balance"] == balance


def test_the_story_in_csv_has_negative_amounts_and_no_formula(benefits: Command) -> None:
    _, out, _ = benefits("show", "bo", "--format", "csv", "--currency", "EUR")

    lines = out.splitlines()
    assert lines[2] == "2026-11-28T00:00:00Z,order,2,-75.99,424.01,netflix,,,EUR"
    assert lines[4] == '2026-11-28T12:00:01Z,cancellation,3,0.00,424.01,flu-shot,Al,"\'=wrong, one",EUR'


def test_corrections_and_cancellations_are_in_the_story(benefits: Command) -> None:
    with SqliteStore("benefits.db") as store:
        GrantMoney(store)("fix", {"=jo": Decimal("-78.02")}, Signature("Bo", LATER, "too much"))
        CancelOrders(store)(["1"], Signature("Bo", LATER))

    assert [
        (row["what"], row["reference"], row["amount"], row["balance"], row["items"])
        for row in benefits.rows("show", "=jo")
    ] == [
        ("grant", "opening", 500, 500, []),
        ("order", "1", Decimal("-121.98"), Decimal("378.02"), ["netflix", "spotify"]),
        ("grant", "fix", Decimal("-78.02"), 300, []),
        ("cancellation", "1", Decimal("121.98"), Decimal("421.98"), ["netflix", "spotify"]),
    ]
    assert benefits.balances()["=jo"] == Decimal("421.98")


@pytest.mark.parametrize(
    ("options", "order_ids"),
    [
        (["--since", "2026-11-27", "--until", "2026-11-27", "--timezone", "UTC"], ["1"]),
        (["--since", "2026-11-28", "--timezone", "UTC"], ["2", "3"]),
        (["--until", "2026-11-26", "--timezone", "UTC"], []),
        (["--since", "2026-11-28", "--until", "2026-11-28", "--timezone", "Asia/Tokyo"], ["1", "2", "3"]),
        (["--until", "2026-11-27", "--timezone", "America/New_York"], ["1", "2", "3"]),
        (["--user", " bo "], ["2", "3"]),
        (["--cancelled"], ["3"]),
        (["--cancelled", "--lines"], ["3"]),
        (["--cancelled", "--user", "=jo"], []),
        (["--cancelled", "--until", "2026-11-27", "--timezone", "UTC"], []),
        (["--user", "bo", "--until", "2026-11-27", "--timezone", "UTC"], []),
        (["--user", "al"], []),
    ],
)
def test_orders_of_a_user_and_of_days_can_be_chosen(
    benefits: Command, options: list[str], order_ids: list[str]
) -> None:
    _, out, _ = benefits("orders", "--format", "jsonl", *options)

    assert [json.loads(line)["order_id"] for line in out.splitlines()] == order_ids


@pytest.mark.parametrize(("zone", "order_ids"), [("Asia/Tokyo", ["1", "2", "3"]), ("UTC", ["2", "3"])])
def test_without_a_timezone_days_are_those_of_the_machine(zone: str, order_ids: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benefits_service", "orders", "--since", "2026-11-28", "--format", "jsonl"],
        capture_output=True,
        env=os.environ | {"TZ": zone},
        check=True,
    )
    assert [json.loads(line)["order_id"] for line in done.stdout.splitlines()] == order_ids


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--user", "nobody"], 1, "there is no user 'nobody'; see benefits users"),
        (["--user", " "], 2, "user_id must be text of 1 to 64 code points"),
        (["--since", "2026-02-30"], 2, "'2026-02-30' does not match the format"),
        (["--until", "9999-12-31"], 2, "the year must be between 1900 and 9000."),
        (["--timezone", "Mars/Olympus"], 2, "'Mars/Olympus' is not a timezone such as Europe/Berlin."),
        (["--timezone", "../etc/passwd"], 2, "'../etc/passwd' is not a timezone"),
        (["--currency", "eur"], 2, "'eur' is not a code of three capital letters such as EUR."),
        (["--currency", ""], 2, "'' is not a code of three capital letters such as EUR."),
        (["--currency", "EURO"], 2, "'EURO' is not a code of three capital letters such as EUR."),
        (["--currency", "EUR\n"], 2, "is not a code of three capital letters such as EUR."),
        (["--database", "missing.db"], 2, "missing.db: there is no such file"),
    ],
)
def test_a_mistake_is_one_line(benefits: Command, options: list[str], status: int, message: str) -> None:
    result, out, err = benefits("orders", *options)

    assert (result, out, err.count("\n")) == (status, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("user", "status", "message"),
    [
        (["nobody"], 1, "there is no user 'nobody'; see benefits users"),
        ([" "], 2, "user_id must be text of 1 to 64 code points"),
        ([], 2, "Missing argument 'USER'."),
        (["bo", "--currency", "x"], 2, "'x' is not a code of three capital letters such as EUR."),
    ],
)
def test_a_mistake_about_a_user_is_one_line(
    benefits: Command, user: list[str], status: int, message: str
) -> None:
    result, out, err = benefits("show", *user)

    assert (result, out, err.count("\n")) == (status, "", 1)
    assert message in err


@pytest.mark.parametrize("command", [["products"], ["users"], ["orders"], ["show", "bo"], ["report"]])
def test_a_listing_that_can_not_be_written_is_no_success(command: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "benefits_service", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        "benefits: can't write to standard output: No space left on device\n",
    )


def test_nothing_more_is_read_when_the_reader_has_gone() -> None:
    program = """
import sys
from benefits_service.output import protect
protect()
from benefits_service.commands.tables import Table
rows = iter([("row",)] * 10_000)
Table("csv").print(["column"], rows)
print(len(list(rows)), file=sys.stderr)
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, check=True
    )
    os.close(writer)
    assert int(done.stderr) > 9000
