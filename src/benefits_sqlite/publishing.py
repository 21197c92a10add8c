"""Gives a finished file its name: at once and for good, and without replacing a file unless that is wanted."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import Final

# From Linux's fcntl.h and fs.h.
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1

# What file systems say that can't flush a folder, or do not let it be opened for that. SQLite ignores it too.
_CAN_NOT_FLUSH: Final = frozenset({errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})

# The name of an unfinished file begins with so many characters of the name that it is to get, so that it is not too long.
_NAME_LENGTH: Final = 40


@contextmanager
def unfinished_beside(target: Path) -> Iterator[tuple[Path, int]]:
    """Create a file that is to get another name in the same folder; return it and its descriptor.

    At the end it is removed, unless :func:`publish` has given it that name.

    :raises OSError: the file system refuses.
    """
    handle, name = mkstemp(prefix=f".{target.name[:_NAME_LENGTH]}.", suffix=".unfinished", dir=target.parent)
    try:
        yield Path(name), handle
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


def publish(unfinished: Path, target: Path, *, overwrite: bool) -> None:
    """Give a file another name in the same folder.

    :param overwrite: whether a file of that name may be replaced.
    :raises FileExistsError: it may not, and there is one.
    :raises OSError: the file system refuses.
    """
    _flush(unfinished)
    if overwrite:
        unfinished.replace(target)
    else:
        _publish_new(unfinished, target)
    try:
        _flush(target.parent)
    except OSError as error:
        if error.errno not in _CAN_NOT_FLUSH:
            raise


def _publish_new(unfinished: Path, target: Path) -> None:
    # Between a check that there is no file and a renaming, one could appear, and would be lost. No step here has that gap.
    try:
        target.hardlink_to(unfinished)
    except FileExistsError:
        raise
    except OSError:  # some file systems have no hard links; each has its own error for it
        if not _rename_to_new(unfinished, target):
            _replace_placeholder(unfinished, target)


def _rename_to_new(unfinished: Path, target: Path) -> bool:
    """Rename a file, and return True; return False if this system, its C library or the file system can't do it."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = os.fsencode(unfinished), os.fsencode(target)
    if rename is None or rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) != 0:
        if ctypes.get_errno() == errno.EEXIST:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        return False
    return True


def _replace_placeholder(unfinished: Path, target: Path) -> None:
    # The last resort, since a process that is killed between the two leaves the placeholder, an empty file.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        unfinished.replace(target)
    except BaseException:
        target.unlink()
        raise


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
