"""What does not fit together in a file of a plant, told at the place where it stands."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Misfit = tuple[tuple[str | int, ...], str]
"""Keys that lead to the wrong part, and what is wrong with it."""


def refuse(title: str, found: Iterable[Misfit]) -> None:
    """Raises all that was found as one error of pydantic, whose places whoever read the file knows; else nothing."""
    wrong = [
        InitErrorDetails(type=PydanticCustomError("misfit", "{text}", {"text": text}), loc=keys, input=None)
        for keys, text in found
    ]
    if wrong:
        raise ValidationError.from_exception_data(title, wrong)
