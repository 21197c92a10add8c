"""Folds the ids of the users of a database, so that each user is found whatever the case of the id in a request."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from typing import Final

from sqlite_utils import Database

from benefits_core.errors import InvalidUserIdError, StorageUnavailableError
from benefits_sqlite.connection import connect
from benefits_sqlite.waiting import PATIENCE

_MAX_NAMED: Final = 10


def fold_user_ids(path: str, fold: Callable[[str], str]) -> int:
    """Replace the id of each user by the folded one, all in one transaction; return how many have changed.

    Without this, a user whose stored id is not folded would not be found, and would get a second account.

    :param path: a database of this version.
    :param fold: returns the folded id; folding it again changes nothing.
    :raises StorageUnavailableError: the folded ids of some users are the same, or one of them is invalid. Nothing has
        changed, and the message names the ids. Or the file can't be written to.
    """
    try:
        with closing(connect(os.path.realpath(path), timeout=PATIENCE)) as db:
            if not _changes(path, db, fold):  # without a lock: nearly always, nothing is to be done
                return 0
            db.execute("BEGIN IMMEDIATE")
            with db.conn:
                changes = _changes(path, db, fold)
                db.conn.executemany("UPDATE users SET user_id = ? WHERE user_id = ?", changes)
            return len(changes)
    except sqlite3.DatabaseError as error:
        raise StorageUnavailableError(f"{path}: {error}") from error


def _changes(path: str, db: Database, fold: Callable[[str], str]) -> list[tuple[str, str]]:
    """Return the new and the old id of each user whose id changes."""
    groups: dict[str, list[str]] = defaultdict(list)
    for (user_id,) in db.execute("SELECT user_id FROM users ORDER BY user_id"):
        try:
            groups[fold(user_id)].append(user_id)
        except InvalidUserIdError as error:
            raise StorageUnavailableError(
                f"{path}: the user id {user_id!r} is invalid once it is case-folded: {error}"
            ) from error
    twins = [" and ".join(map(repr, ids)) for ids in groups.values() if len(ids) > 1]
    if twins:
        more = f"; and {len(twins) - _MAX_NAMED} more" if len(twins) > _MAX_NAMED else ""
        raise StorageUnavailableError(
            f"{path}: user ids differ only by case: {'; '.join(twins[:_MAX_NAMED])}{more}; rename all but one of each"
        )
    return [(folded, user_id) for folded, [user_id] in groups.items() if folded != user_id]
