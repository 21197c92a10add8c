"""Folds the ids of the users of a database, so that each user is found whatever the case of the id in a request."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

from sqlite_utils import Database

from benefits_core.errors import StorageUnavailableError
from benefits_core.folding import renamings
from benefits_sqlite.connection import connect
from benefits_sqlite.waiting import PATIENCE


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
    user_ids = (user_id for (user_id,) in db.execute("SELECT user_id FROM users ORDER BY user_id"))
    try:
        return renamings(user_ids, fold)
    except StorageUnavailableError as error:
        raise StorageUnavailableError(f"{path}: {error}") from error
