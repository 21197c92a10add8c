"""Whether a database has a second name. SQLite keeps the write-ahead log beside the name by which the file was opened.

A process that opens the file by its other name reads without that log, and writes to another one: the two diverge, and
what one of them keeps is lost when the other writes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs


@attrs.frozen
class SecondName:
    """What shows that a file has a second name.

    :param fact: a sentence about the file, without a full stop.
    :param remedy: what to do about it.
    """

    fact: str
    remedy: str


def find_second_name(path: str) -> SecondName | None:
    """Return what shows that a file has a second name, or None. Symbolic links are followed, and are no second name."""
    file = os.path.realpath(path)
    try:
        status = Path(file).stat()
    except OSError:  # it is missing, for example
        return None
    if not stat.S_ISREG(status.st_mode):  # the inspection refuses it
        return None
    if status.st_nlink > 1:
        return SecondName(
            f"it has {status.st_nlink} names (hard links), and SQLite keeps a log beside each",
            "remove the other names, or copy the file",
        )
    if _mount(file) != _mount(str(Path(file).parent)):
        return SecondName(
            "it is mounted without its folder, so SQLite's log is not kept beside the original",
            "mount the folder instead",
        )
    return None


def _mount(path: str) -> str | None:
    """Return which mount a file belongs to. None on systems other than Linux, where only folders are mounted."""
    try:
        # O_PATH does not open the file itself: closing it would release the locks that SQLite holds in this process.
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (AttributeError, OSError):
        return None
    try:
        facts = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="utf-8").splitlines()
    except OSError:  # no /proc here
        return None
    finally:
        os.close(handle)
    return next((fact for fact in facts if fact.startswith("mnt_id:")), None)
