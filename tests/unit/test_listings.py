"""``benefits products``, ``users`` and ``orders``: rows as a table, as CSV and as JSON lines."""

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

from benefits_core import GetUser, OfferProducts, PlaceOrder, Product
from benefits_sqlite import SqliteStore
from contract.builders import add_user, stocked
from unit.command import Command

# The last second of a day in UTC, which is a day later in Tokyo, and the first of the next.
LATE = datetime(2026, 11, 27, 23, 59, 59, tzinfo=UTC)
EARLY = datetime(2026, 11, 28, tzinfo=UTC)

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
order_id  user_id  placed_at              total  items
1         =jo      2026-11-27T23:59:59Z  121.98  netflix spotify
2         bo       2026-11-28T00:00:00Z   75.99  netflix
"""


@pytest.fixture(autouse=True)
def database(benefits: Command) -> None:  # noqa: ARG001 - it chooses the folder
    """Create a database in the folder of the command."""
    with SqliteStore("benefits.db") as store:
        stocked(store)
        PlaceOrder(store, now=lambda: LATE)("=jo", ["netflix", "spotify"])
        PlaceOrder(store, now=lambda: EARLY)("bo", ["netflix"])
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
    assert done.stdout == "order_id  user_id  placed_at  total  items\n"


def test_a_cell_that_is_longer_than_those_before_is_whole(benefits: Command) -> None:
    """The columns are as wide as the first 500 rows need."""
    with SqliteStore("benefits.db") as store:
        OfferProducts(store)([Product(f"p{number}", "Product", Decimal(1)) for number in range(500)])
    _, out, _ = benefits("products")

    lines = out.splitlines()
    assert lines[1] == "p0          Product   1.00"
    assert lines[-1] == "flu-shot    Flu vaccination   0.00"


def test_a_row_for_each_product_can_be_printed(benefits: Command) -> None:
    _, out, _ = benefits("orders", "--lines", "--format", "jsonl")

    assert [json.loads(line, parse_float=Decimal) for line in out.splitlines()] == [
        {"order_id": order, "user_id": user, "placed_at": at, "product_id": product, "price": price}
        for order, user, at, product, price in [
            ("1", "=jo", "2026-11-27T23:59:59Z", "netflix", Decimal("75.99")),
            ("1", "=jo", "2026-11-27T23:59:59Z", "spotify", Decimal("45.99")),
            ("2", "bo", "2026-11-28T00:00:00Z", "netflix", Decimal("75.99")),
        ]
    ]


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


@pytest.mark.parametrize(
    ("options", "order_ids"),
    [
        (["--since", "2026-11-27", "--until", "2026-11-27", "--timezone", "UTC"], ["1"]),
        (["--since", "2026-11-28", "--timezone", "UTC"], ["2"]),
        (["--until", "2026-11-26", "--timezone", "UTC"], []),
        (["--since", "2026-11-28", "--until", "2026-11-28", "--timezone", "Asia/Tokyo"], ["1", "2"]),
        (["--until", "2026-11-27", "--timezone", "America/New_York"], ["1", "2"]),
        (["--user", " bo "], ["2"]),
        (["--user", "bo", "--until", "2026-11-27", "--timezone", "UTC"], []),
        (["--user", "al"], []),
    ],
)
def test_orders_of_a_user_and_of_days_can_be_chosen(
    benefits: Command, options: list[str], order_ids: list[str]
) -> None:
    _, out, _ = benefits("orders", "--format", "jsonl", *options)

    assert [json.loads(line)["order_id"] for line in out.splitlines()] == order_ids


@pytest.mark.parametrize(("zone", "order_ids"), [("Asia/Tokyo", ["1", "2"]), ("UTC", ["2"])])
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
        (["--database", "missing.db"], 2, "missing.db: there is no such file"),
    ],
)
def test_a_mistake_is_one_line(benefits: Command, options: list[str], status: int, message: str) -> None:
    result, out, err = benefits("orders", *options)

    assert (result, out, err.count("\n")) == (status, "", 1)
    assert message in err


@pytest.mark.parametrize("command", ["products", "users", "orders"])
def test_a_listing_that_can_not_be_written_is_no_success(command: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "benefits_service", command],
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
from benefits_service.commands.tables import print_table
rows = iter([("row",)] * 10_000)
print_table(["column"], rows, "csv")
print(len(list(rows)), file=sys.stderr)
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, check=True
    )
    os.close(writer)
    assert int(done.stderr) > 9000
