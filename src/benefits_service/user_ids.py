"""Converts the user ids that use cases receive, for example to ignore case.

Case is ignored for a directory that treats ``jdoe`` and ``JDoe`` as one user.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import attrs

from benefits_core import UseCases
from benefits_core.values import MAX_DECOMPOSED_LENGTH, normal_user_id

# The use cases that concern no user. Every other one takes the id of its user first, also a new one.
_WITHOUT_USER: Final = frozenset({"list_products", "ping"})

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def folded_user_id(name: str) -> str:
    """Return a user id without differences of case: trimmed, case-folded, then NFC-normalised, then measured.

    Folding is Unicode's full case folding, the same in every language: ``ß`` becomes ``ss``. The name is decomposed
    before (Unicode, definition D145); otherwise two spellings of one name could be folded to two.

    :raises InvalidUserIdError: it has not 1 to 64 code points then, or holds a control character.
    """
    trimmed = name.strip()
    if len(trimmed) > MAX_DECOMPOSED_LENGTH:
        return normal_user_id(name)  # which refuses it
    return normal_user_id(unicodedata.normalize("NFD", trimmed).casefold())


def with_folded_user_ids(use_cases: UseCases) -> UseCases:
    """Return use cases that fold the user ids that they receive."""
    return converting_user_ids(use_cases, folded_user_id)


def converting_user_ids(use_cases: UseCases, convert: Callable[[str], str]) -> UseCases:
    """Return use cases that convert each user id that they receive.

    :param convert: returns the user id that the use case gets, or raises an error.
    """
    names = [field.name for field in attrs.fields(UseCases) if field.name not in _WITHOUT_USER]
    converted: dict[str, Any] = {name: _converting(getattr(use_cases, name), convert) for name in names}
    return attrs.evolve(use_cases, **converted)


def _converting(
    use_case: Callable[Concatenate[str, _Arguments], _Result], convert: Callable[[str], str]
) -> Callable[Concatenate[str, _Arguments], _Result]:
    def converting(user_id: str, /, *arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        return use_case(convert(user_id), *arguments, **options)

    return converting
