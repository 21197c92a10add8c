"""Folds the ids of the users of a database, so that each user is found whatever the case of the id in a request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from benefits_core.errors import BenefitsError, StorageUnavailableError
from benefits_core.folding import renamings
from benefits_postgres.connection import PATIENCE, Database, shown

# No change may hold a user: each locks its users first, and writes to the table later, which this one would not let it do.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; LOCK TABLE users IN EXCLUSIVE MODE"
_RENAME = """
    UPDATE users SET user_id = new_id FROM unnest(%s::text[], %s::text[]) AS renaming(new_id, old_id) WHERE user_id = old_id;
    COMMIT
    """


def fold_user_ids(url: str, fold: Callable[[str], str]) -> int:
    """Replace the id of each user by the folded one, all in one transaction; return how many have changed.

    :param url: a database of this version.
    :param fold: returns the folded id; folding it again changes nothing.
    :raises StorageUnavailableError: the folded ids of some users are the same, or one of them is invalid. Nothing has
        changed, and the message names the ids. Or the database can't be written to.
    """
    with closing(Database(url, PATIENCE)) as database:
        try:
            if not _renamings(database, fold):  # without a lock: nearly always, nothing is to be done
                return 0
            database.run(_BEGIN, limit=None)
            changes = _renamings(database, fold)
            database.run(_RENAME, [[new for new, _ in changes], [old for _, old in changes]], limit=None)
        except BenefitsError as error:
            raise StorageUnavailableError(f"{shown(url)}: {error}") from error
        return len(changes)


def _renamings(database: Database, fold: Callable[[str], str]) -> list[tuple[str, str]]:
    [rows] = database.run("SELECT user_id FROM users ORDER BY user_id", limit=None)
    return renamings((user_id for (user_id,) in rows), fold)
