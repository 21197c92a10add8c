"""Exported CSV as a real spreadsheet reads it: texts are texts, amounts are numbers, and no cell is a formula."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benefits_core import OfferProducts, PlaceOrder, Product
from benefits_service.commands.tables import text_of
from benefits_sqlite import SqliteStore
from contract.builders import add_user
from unit.command import Command
from waiting import A_LONG_TIME

OFFICE = shutil.which("soffice")

# Without LibreOffice these tests are skipped. With REQUIRE_OFFICE they fail.
if OFFICE is None and not os.environ.get("REQUIRE_OFFICE"):
    pytest.skip(
        "NO LIBREOFFICE, SO NOT TESTED: exported CSV, as a spreadsheet reads it;"
        " apt-get install --no-install-recommends libreoffice-calc",
        allow_module_level=True,
    )

USERS = [
    *("=1+1", "'=1+1", "+1+1", "-1+1", "@SUM(1)", '=HYPERLINK("http://example.com")', "''-1", "\uff1d1+1"),
    *("Jörg Müller", 'José, "Pepe"', "\U0001f469\u200d\U0001f680", "\u7530\u4e2d", "' =x", "a;b"),
]
NAMES = [
    'Größe "XL", 50 % \u2013 =1+1',
    "=1+1",
    "-2+3+cmd|' /C calc'!A0",
    "\U0001f3cb\ufe0f Gym; pool",
    "'=x",
]

Cells = list[list[str | Decimal]]

TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
OFFICE_NAMES = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"

COMMANDS = {
    "users": ["users", "--currency", "EUR"],
    "products": ["products"],
    "lines": ["orders", "--lines"],
    "orders": ["orders"],
    "report": ["report"],
    "show": ["show", "bo"],
}


def cells_of(document: Path) -> Cells:
    """Return the values of a sheet: numbers, and texts. A formula is a text that begins with ``formula``."""
    return [list(_values(row)) for row in ET.parse(document).iter(f"{TABLE}table-row")]  # noqa: S314 - our own file


def _values(row: ET.Element) -> Iterator[str | Decimal]:
    for cell in row.iter(f"{TABLE}table-cell"):
        value: str | Decimal = "\n".join("".join(text.itertext()) for text in cell.iter(f"{TEXT}p"))
        if f"{TABLE}formula" in cell.attrib:
            value = "formula " + cell.attrib[f"{TABLE}formula"]
        elif cell.attrib.get(f"{OFFICE_NAMES}value-type") == "float":
            value = Decimal(cell.attrib[f"{OFFICE_NAMES}value"])
        yield from [value] * int(cell.attrib.get(f"{TABLE}number-columns-repeated", 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the files of all tests: LibreOffice takes seconds to start."""
    return tmp_path_factory.mktemp("office")


@pytest.fixture
def sheets(benefits: Command, folder: Path) -> dict[str, Cells]:
    """Return what LibreOffice reads from the CSV of each command, and from one that is not made harmless."""
    assert OFFICE, "REQUIRE_OFFICE is set, and there is no LibreOffice"
    if not any(folder.iterdir()):
        with SqliteStore("benefits.db") as store:
            OfferProducts(store)(
                [Product(f"={number}", name, Decimal("75.99")) for number, name in enumerate(NAMES)]
            )
            for user in USERS:
                add_user(store, user)
            PlaceOrder(store)("bo", [f"={number}" for number in range(len(NAMES))])
        benefits("grant", "=fix", "-0.01", "bo", "--by", "+Al", "--note", "=1+1")
        for name, arguments in COMMANDS.items():
            exported = benefits(*arguments, "--format", "csv")[1]
            (folder / f"{name}.csv").write_text(exported, encoding="utf-8", newline="")
        (folder / "raw.csv").write_text("=1+1,1.50\n", encoding="utf-8")
        files = sorted(folder.glob("*.csv"))
        utf_8_with_commas = "--infilter=Text - txt - csv (StarCalc):44,34,76,1,,0,false,true"
        profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
        command: list[str | Path] = [
            OFFICE,
            profile,
            "--headless",
            utf_8_with_commas,
            "--convert-to",
            "fods",
            "--outdir",
            folder,
            *files,
        ]
        subprocess.run(command, capture_output=True, check=True, timeout=A_LONG_TIME)
    return {name: cells_of(folder / f"{name}.fods") for name in (*COMMANDS, "raw")}


def test_what_is_not_made_harmless_is_a_formula(sheets: dict[str, Cells]) -> None:
    """So the other tests would see one."""
    assert sheets["raw"] == [["formula of:=1+1", Decimal("1.5")]]


def test_no_cell_is_a_formula(sheets: dict[str, Cells]) -> None:
    for name in COMMANDS:
        assert len(sheets[name]) > 1
        assert not [cell for row in sheets[name] for cell in row if str(cell).startswith("formula")]


def test_user_ids_are_texts_that_can_be_read_back_and_amounts_are_numbers(sheets: dict[str, Cells]) -> None:
    header, *rows = sheets["users"]

    assert header == ["user_id", "balance", "granted", "spent", "currency"]
    assert {text_of(str(row[0])): row[1:] for row in rows} == {
        **{user: [500, 500, 0, "EUR"] for user in USERS},
        "bo": [Decimal("120.04"), Decimal("499.99"), Decimal("379.95"), "EUR"],
    }


def test_names_and_prices_of_products_are_read_as_they_are(sheets: dict[str, Cells]) -> None:
    expected = [(f"={number}", name, Decimal("75.99")) for number, name in enumerate(NAMES)]
    for sheet, first in (("products", 0), ("lines", 3)):
        rows = [row[first : first + 3] for row in sheets[sheet][1:]]
        assert [(text_of(str(key)), text_of(str(name)), price) for key, name, price in rows] == expected


def test_totals_counts_and_negative_amounts_are_numbers(sheets: dict[str, Cells]) -> None:
    assert sheets["orders"][1][3] == Decimal("379.95")
    assert [row[3:5] for row in sheets["report"][1:]] == [[1, Decimal("75.99")]] * len(NAMES)
    assert {tuple(row[3:5]) for row in sheets["show"][1:]} == {
        (500, 500),
        (Decimal("-379.95"), Decimal("120.05")),
        (Decimal("-0.01"), Decimal("120.04")),
    }
    assert [text_of(str(cell)) for row in sheets["show"] for cell in row if "fix" in str(cell)] == ["=fix"]
