"""Files that operators write: UTF-8 is read, and other encodings and files that are too long are refused."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benefits_service.commands import text_files
from benefits_service.commands.text_files import MAX_FILE_BYTES, InvalidFileError, decode, read_at_most


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_utf_8_is_decoded_with_and_without_a_byte_order_mark(text: str) -> None:
    assert decode(codecs.BOM_UTF8 + text.encode()) == text
    assert decode(text.encode()) == text.removeprefix("\ufeff")


@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "\ufeff\ufeff", "abcd\0"])
def test_short_files_and_late_zero_bytes_are_utf_8(text: str) -> None:
    assert decode(text.encode()) == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        *(
            (f"\ufeff{text}".encode(f"utf-16-{order}"), "UTF-16")
            for text in ("", "a,b")
            for order in ("le", "be")
        ),
        *(
            (f"\ufeff{text}".encode(f"utf-32-{order}"), "UTF-32")
            for text in ("", "a,b")
            for order in ("le", "be")
        ),
        *(("a,b".encode(f"utf-16-{order}"), "UTF-16") for order in ("le", "be")),
        *(("a,b".encode(f"utf-32-{order}"), "UTF-32") for order in ("le", "be")),
        (b"\0", "UTF-16"),
    ],
)
def test_a_wide_encoding_is_named(content: bytes, encoding: str) -> None:
    with pytest.raises(InvalidFileError, match=f"It is encoded in {encoding}; save it as UTF-8"):
        decode(content)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"\xff", "Line 1 is not UTF-8: byte 0xFF"),
        (b"a\n\xe9\n\xff", "Line 2 is not UTF-8: byte 0xE9"),
        (codecs.BOM_UTF8 + b"a\r\n\r\n\xc3", "Line 3 is not UTF-8: byte 0xC3"),
        (b"a\n\xed\xa0\x80", "Line 2 is not UTF-8: byte 0xED"),  # a surrogate
    ],
)
def test_the_line_that_is_not_utf_8_is_named(content: bytes, place: str) -> None:
    with pytest.raises(InvalidFileError, match=f"{place}; save it as UTF-8"):
        decode(content)


def test_a_file_may_be_as_long_as_the_limit_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "MAX_FILE_BYTES", 4)
    file = tmp_path / "file"
    file.write_bytes(b"abcd")
    assert decode(read_at_most(file)) == "abcd"

    file.write_bytes(b"abcdef")
    content = read_at_most(file)
    assert content == b"abcde"
    with pytest.raises(InvalidFileError, match="it is longer than"):
        decode(content)


def test_the_limit_is_64_mebibytes() -> None:
    assert MAX_FILE_BYTES == 67_108_864
    with pytest.raises(InvalidFileError, match="it is longer than 64 MiB"):
        decode(b"a" * (MAX_FILE_BYTES + 1))


@pytest.mark.parametrize(("name", "error"), [("none", FileNotFoundError), (".", IsADirectoryError)])
def test_what_can_not_be_read_is_an_error_of_the_system(
    tmp_path: Path, name: str, error: type[OSError]
) -> None:
    with pytest.raises(error):
        read_at_most(tmp_path / name)
