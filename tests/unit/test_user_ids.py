"""User ids whose case does not matter: how they are folded, and what becomes of those that are stored."""

from __future__ import annotations

import sqlite3
import sys
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benefits_core import GetUser, InvalidUserIdError, MemoryStore, StorageUnavailableError, UseCases
from benefits_service.user_ids import folded_user_id, with_folded_user_ids
from benefits_sqlite import SqliteStore, audit_database, fold_user_ids
from contract.builders import order, stocked

SHARP_S = "\N{LATIN SMALL LETTER SHARP S}"
ACUTE = "\N{COMBINING ACUTE ACCENT}"
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
SMALL_IOTA = "\N{GREEK SMALL LETTER IOTA}"
IOTA = "\N{COMBINING GREEK YPOGEGRAMMENI}"


@pytest.mark.parametrize(
    ("name", "user_id"),
    [
        ("JDoe", "jdoe"),
        (" JDOE\t", "jdoe"),
        ("jdoe", "jdoe"),
        (f"JOSE{ACUTE}", "josé"),
        ("JOSÉ", "josé"),
        ("STRASSE", "strasse"),
        (f"Stra{SHARP_S}e", "strasse"),
        ("\N{LATIN CAPITAL LETTER SHARP S}", "ss"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("Сергей/A", "сергей/a"),
        ("\N{KELVIN SIGN}", "k"),
        ("\N{LATIN SMALL LIGATURE FF}", "ff"),
        # In two orders of the marks, which are one name.
        (f"{ALPHA}{ACUTE}{IOTA}", f"{ALPHA}{ACUTE}{SMALL_IOTA}"),
        (f"{ALPHA}{IOTA}{ACUTE}", f"{ALPHA}{ACUTE}{SMALL_IOTA}"),
    ],
)
def test_a_name_is_folded_fully_and_then_normalised(name: str, user_id: str) -> None:
    assert folded_user_id(name) == unicodedata.normalize("NFC", user_id)


def test_its_length_counts_once_it_is_folded() -> None:
    assert folded_user_id(SHARP_S * 32) == "s" * 64
    with pytest.raises(InvalidUserIdError):
        folded_user_id(SHARP_S * 33)


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a" * 65, "a" * 100_000, "\ud800", f"a{ACUTE * 100_000}"])
def test_what_is_no_user_id_is_refused(name: str) -> None:
    with pytest.raises(InvalidUserIdError):
        folded_user_id(name)


def test_folding_again_changes_nothing_for_any_character() -> None:
    characters = map(chr, range(sys.maxunicode + 1))
    folding = [one for one in characters if unicodedata.normalize("NFD", one).casefold() != one]
    assert len(folding) > 10_000  # most of them are Korean
    for character in folding:
        folded = folded_user_id(f"a{character}b")
        assert folded_user_id(folded) == folded


@given(st.text(max_size=20))
def test_the_spelling_of_a_name_does_not_matter(name: str) -> None:
    try:
        folded = folded_user_id(name)
    except InvalidUserIdError:
        return
    assert folded_user_id(folded) == folded
    assert folded_user_id(unicodedata.normalize("NFC", name)) == folded
    assert folded_user_id(unicodedata.normalize("NFD", name)) == folded


def test_use_cases_fold_the_ids_that_they_receive() -> None:
    store = MemoryStore()
    stocked(store)
    use_cases = with_folded_user_ids(UseCases.over(store))

    assert use_cases.place_order("JDoe", ["netflix"], None).user_id == "jdoe"
    assert use_cases.get_user("JDOE") == use_cases.get_user(" jdoe ")
    assert use_cases.get_user("jdOE").product_ids == ("netflix",)
    assert store.users.get("JDoe") is store.users.get("JDOE") is None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database: JDoe has ordered, and al is there."""
    path = tmp_path / "benefits.db"
    with SqliteStore(path) as store:
        order(stocked(store), "JDoe", "netflix")
        GetUser(store)("al")
    return path


def user_ids(path: Path) -> list[str]:
    """Return the ids of all users."""
    with closing(sqlite3.connect(path)) as connection:
        return [
            user_id for (user_id,) in connection.execute("SELECT user_id FROM users ORDER BY user_number")
        ]


class TestStoredIds:
    def test_a_user_keeps_everything_under_the_folded_id(self, path: Path) -> None:
        assert fold_user_ids(str(path), folded_user_id) == 1
        assert user_ids(path) == ["jdoe", "al"]
        with SqliteStore(path) as store:
            assert GetUser(store)("jdoe").product_ids == ("netflix",)
            assert [placed.user_id for placed in store.orders.of_user("jdoe")] == ["jdoe"]
        assert audit_database(str(path)).findings == ()

    def test_a_second_time_changes_nothing(self, path: Path) -> None:
        fold_user_ids(str(path), folded_user_id)
        before = path.read_bytes()

        assert fold_user_ids(str(path), folded_user_id) == 0
        assert path.read_bytes() == before

    def test_ids_that_differ_only_by_case_are_named_and_nothing_changes(self, path: Path) -> None:
        with SqliteStore(path) as store:
            for name in ("jdoe", "JDOE", "AL", "Other"):
                GetUser(store)(name)
        before = user_ids(path)

        with pytest.raises(StorageUnavailableError) as refused:
            fold_user_ids(str(path), folded_user_id)
        assert str(refused.value) == (
            f"{path}: user ids differ only by case: 'AL' and 'al'; 'JDOE' and 'JDoe' and 'jdoe'; rename all but one of each"
        )
        assert user_ids(path) == before

    def test_not_all_of_very_many_are_named(self, path: Path) -> None:
        with SqliteStore(path) as store:
            for number in range(30):
                GetUser(store)(f"user{number}")
                GetUser(store)(f"USER{number}")

        with pytest.raises(StorageUnavailableError, match="; and 20 more; rename all but one of each"):
            fold_user_ids(str(path), folded_user_id)

    def test_an_id_that_folding_makes_too_long_is_named(self, path: Path) -> None:
        with SqliteStore(path) as store:
            GetUser(store)(SHARP_S * 33)

        with pytest.raises(StorageUnavailableError, match=f"the user id '{SHARP_S * 33}' is invalid"):
            fold_user_ids(str(path), folded_user_id)
        assert user_ids(path)[0] == "JDoe"

    def test_a_database_that_can_not_be_written_to_is_named(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TRIGGER forbid UPDATE ON users BEGIN SELECT RAISE(ABORT, 'forbidden'); END"
            )

        with pytest.raises(StorageUnavailableError, match="benefits.db: forbidden"):
            fold_user_ids(str(path), folded_user_id)
        assert user_ids(path) == ["JDoe", "al"]
