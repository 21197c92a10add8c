"""User ids whose case does not matter: for a proxy whose directory takes ``jdoe`` and ``JDoe`` for the same person."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import attrs

from benefits_core import UseCases
from benefits_core.values import MAX_ID_LENGTH, normal_user_id

# No character is composed of more code points. A longer name stays too long, so it is refused before the work on it.
_MAX_LENGTH: Final = 4 * MAX_ID_LENGTH

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def folded_user_id(name: str) -> str:
    """Return a user id without differences of case: trimmed, case-folded, then NFC-normalised, then measured.

    Folding is Unicode's full case folding, the same in every language: ``ß`` becomes ``ss``. The name is decomposed
    before (Unicode, definition D145); otherwise two spellings of one name could be folded to two.

    :raises InvalidUserIdError: it has not 1 to 64 code points then, or holds a control character.
    """
    trimmed = name.strip()
    if len(trimmed) > _MAX_LENGTH:
        return normal_user_id(name)  # which refuses it
    return normal_user_id(unicodedata.normalize("NFD", trimmed).casefold())


def with_folded_user_ids(use_cases: UseCases) -> UseCases:
    """Return use cases that fold the user ids that they receive."""
    return attrs.evolve(
        use_cases,
        get_user=_with_folded_user_id(use_cases.get_user),
        place_order=_with_folded_user_id(use_cases.place_order),
    )


def _with_folded_user_id(
    use_case: Callable[Concatenate[str, _Arguments], _Result],
) -> Callable[Concatenate[str, _Arguments], _Result]:
    def with_folded_user_id(
        user_id: str, /, *arguments: _Arguments.args, **options: _Arguments.kwargs
    ) -> _Result:
        return use_case(folded_user_id(user_id), *arguments, **options)

    return with_folded_user_id
