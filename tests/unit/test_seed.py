"""``benefits seed``: what it loads, prints and refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benefits_core import Product
from benefits_sqlite import SqliteStore
from contract.running import SEED
from unit.command import Command


def catalogue(database: str = "benefits.db") -> tuple[Product, ...]:
    """Return the catalogue of a database in this folder."""
    with SqliteStore(database) as store:
        return store.products.list_all()


def test_the_catalogue_takes_the_products_and_the_order_of_the_file(benefits: Command) -> None:
    assert benefits("seed", SEED) == (0, f"benefits.db offers the 15 products of {SEED}.\n", "")
    assert [product.product_id for product in catalogue()][:3] == ["netflix", "spotify", "amazon-prime"]


def test_seed_shows_its_progress_on_a_terminal(benefits: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {"products": [{"id": str(number), "name": "N", "price": 1} for number in range(1000)]}
    Path("many.json").write_text(json.dumps(many), encoding="utf-8")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out, _ = benefits("seed", "many.json")

    assert out.count("Reading") > 1
    assert "100%" in out


def test_a_second_seed_with_the_same_file_changes_nothing(benefits: Command) -> None:
    benefits("seed", SEED)
    before = Path("benefits.db").read_bytes(), catalogue()
    benefits("seed", SEED)

    assert (Path("benefits.db").read_bytes(), catalogue()) == before


def test_the_database_is_an_option_or_an_environment_variable(
    benefits: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENEFITS_DATABASE", "environment.db")
    benefits("seed", SEED)
    benefits("seed", SEED, "--database", "option.db")

    assert sorted(path.name for path in Path().glob("*.db")) == ["environment.db", "option.db"]


def test_an_empty_catalogue_is_valid(benefits: Command) -> None:
    Path("none.json").write_text('{"products": []}')

    assert benefits("seed", "none.json")[0] == 0


def test_if_empty_keeps_an_existing_catalogue(benefits: Command) -> None:
    Path("one.json").write_text('{"products": [{"id": "a", "name": "A", "price": 1}]}')
    benefits("seed", "one.json", "--if-empty")
    assert benefits("seed", SEED, "--if-empty") == (0, "benefits.db has a catalogue already.\n", "")

    assert [product.product_id for product in catalogue()] == ["a"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"id": "a", "name": "A"}], "Object missing required field `price` - at `$.products[0]`"),
        (
            [{"id": "a", "name": "A", "price": "1"}],
            "Expected `int | decimal`, got `str` - at `$.products[0].price`",
        ),
        (
            [{"id": "b", "name": "B", "price": 1}, {"id": "a", "name": "A", "price": -1}],
            (
                "price must be a Decimal from 0 to 9,999,999,999.99 with at most two decimals,"
                " not Decimal('-1') - at `$.products[1]`"
            ),
        ),
        ([{"id": "a", "name": "A", "price": 1}, 2], "Expected `object`, got `int` - at `$.products[1]`"),
        (
            [{"id": "a", "name": "A", "price": 1}, {"id": "a", "name": "A", "price": 2}],
            "The id 'a' occurs twice - at `$.products[1]`",
        ),
    ],
)
def test_an_invalid_file_changes_nothing_and_the_error_names_the_entry_and_the_reason(
    benefits: Command, entries: list[object], message: str
) -> None:
    Path("bad.json").write_text(json.dumps({"products": entries}))

    assert benefits("seed", "bad.json") == (2, "", f"benefits: bad.json: {message}; nothing was changed\n")
    assert not Path("benefits.db").exists()


def test_a_number_out_of_range_is_an_error_of_one_line(benefits: Command) -> None:
    Path("bad.json").write_text('{"products": [{"id": "a", "name": "A", "price": 1e99999999999999999999}]}')

    assert benefits("seed", "bad.json") == (
        2,
        "",
        "benefits: bad.json: A number is out of range; nothing was changed\n",
    )


def test_a_missing_file_is_an_error_of_one_line(benefits: Command) -> None:
    assert benefits("seed", "nowhere.json") == (
        2,
        "",
        "benefits: nowhere.json: No such file or directory; name a catalogue file such as seed.json\n",
    )


def test_a_file_that_is_not_a_database_is_an_error_of_one_line(benefits: Command) -> None:
    Path("notes.txt").write_text("Not a database, whatever its size. " * 100)

    assert benefits("seed", SEED, "--database", "notes.txt") == (
        2,
        "",
        "benefits: notes.txt: it is not a database; name another file\n",
    )


def test_a_file_without_end_is_refused_before_the_memory_is_full(benefits: Command) -> None:
    status, out, err = benefits("seed", "/dev/zero")

    assert (status, out) == (2, "")
    assert err == "benefits: /dev/zero: it is longer than 64 MiB; nothing was changed\n"


def test_the_name_of_a_file_is_one_line_in_what_is_printed(benefits: Command) -> None:
    status, out, _ = benefits("seed", SEED, "--database", "a\nb.db")

    assert (status, out) == (0, f"a\\nb.db offers the 15 products of {SEED}.\n")
    assert benefits("check", "--database", "a\nb.db")[1].startswith("a\\nb.db is sound")
    assert benefits("backup", "c\nd", "--database", "a\nb.db")[1] == "c\\nd is a copy of a\\nb.db.\n"
