"""For authors of stores: which users get another id when the case of user ids becomes irrelevant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from benefits_core.errors import InvalidUserIdError, StorageUnavailableError

_MAX_NAMED: Final = 10


def renamings(user_ids: Iterable[str], fold: Callable[[str], str]) -> list[tuple[str, str]]:
    """Return a pair for each user whose id changes: the new id and the old id.

    :param user_ids: the ids of all users.
    :param fold: returns the folded id; folding it again changes nothing.
    :raises StorageUnavailableError: the folded ids of some users are the same, or one of them is invalid. The message
        names the ids.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for user_id in user_ids:
        try:
            groups[fold(user_id)].append(user_id)
        except InvalidUserIdError as error:
            raise StorageUnavailableError(
                f"the user id {user_id!r} is invalid once it is case-folded: {error}"
            ) from error
    twins = [" and ".join(map(repr, ids)) for ids in groups.values() if len(ids) > 1]
    if twins:
        more = f"; and {len(twins) - _MAX_NAMED} more" if len(twins) > _MAX_NAMED else ""
        raise StorageUnavailableError(
            f"user ids differ only by case: {'; '.join(twins[:_MAX_NAMED])}{more}; rename all but one of each"
        )
    return [(folded, user_id) for folded, [user_id] in groups.items() if folded != user_id]
