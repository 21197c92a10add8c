"""Owner and mode: the files beside a database may be used by whoever may use the database, as SQLite's own files may."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

_PERMISSIONS: Final = 0o777


def copy_ownership(source: str, target: int) -> None:
    """Give a file the owner, the group and the permissions of another one, as far as this process may.

    :param source: the path of the other file. If there is none, nothing happens.
    :param target: the descriptor of the file.
    """
    try:
        wanted = os.stat(source)  # noqa: PTH116 - beside fstat
    except FileNotFoundError:
        return
    # Only root may change the owner. Another user may change the group of their own file to a group of theirs.
    for owner in (wanted.st_uid, -1):
        with suppress(OSError):  # not permitted, or a file system without owners
            os.fchown(target, owner, wanted.st_gid)
            break
    with suppress(OSError):
        os.fchmod(target, wanted.st_mode & _PERMISSIONS)


def share_logs(database: str) -> None:
    """Give the logs beside a database its group, as far as this process may: SQLite itself gives them its mode only.

    :param database: the path of the database, which is open.
    """
    if os.geteuid() == 0:  # for whom SQLite does it, and more carefully than by a name
        return
    group = os.stat(database).st_gid  # noqa: PTH116 - beside chown
    for log in (f"{database}-wal", f"{database}-shm"):
        # Not by a descriptor: to close it would release the locks that SQLite holds in this process.
        with suppress(OSError):
            os.chown(log, -1, group, follow_symlinks=False)
