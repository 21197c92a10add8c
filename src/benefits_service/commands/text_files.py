"""Files that operators write: text in UTF-8, of limited size, whose mistakes are named."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final

MAX_FILE_BYTES: Final = 64 << 20
"""How long a file may be: several hundred thousand products, or some million users."""

# Of the four bytes of an ASCII character.
_ZEROS_IN_UTF_32: Final = 3


class InvalidFileError(Exception):
    """A file that is not what it should be; the message names the place and the reason."""


def read_at_most(file: Path) -> bytes:
    """Return the content of a file; of one that is too long, one byte more than it may have.

    :raises OSError: it can't be read.
    """
    with file.open("rb") as opened:
        return opened.read(MAX_FILE_BYTES + 1)


def decode(content: bytes) -> str:
    """Return the text of a file in UTF-8. It may begin with a byte order mark, as editors on Windows write it.

    :raises InvalidFileError: it is too long, or has another encoding.
    """
    if len(content) > MAX_FILE_BYTES:
        raise InvalidFileError(f"it is longer than {MAX_FILE_BYTES >> 20} MiB")
    encoding = _wide_encoding(content)
    if encoding is not None:
        raise InvalidFileError(f"It is encoded in {encoding}; save it as UTF-8")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidFileError(
            f"Line {line} is not UTF-8: byte 0x{error.object[error.start]:02X}; save it as UTF-8"
        ) from error


def _wide_encoding(content: bytes) -> str | None:
    """Return "UTF-16" or "UTF-32" if the file has that encoding; otherwise None.

    Without a byte order mark, the zero bytes tell it: such a file begins with ASCII characters (as JSON: RFC 4627, section 3).
    """
    zeros = tuple(byte == 0 for byte in content[:4])
    # First UTF-32: its byte order mark in little-endian order begins with that of UTF-16.
    if (
        content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE))
        or zeros.count(True) == _ZEROS_IN_UTF_32
    ):
        return "UTF-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or True in zeros[:2]:
        return "UTF-16"
    return None
