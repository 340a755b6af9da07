"""What a filter may name: fields by dotted name, each with its kind."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

Path = tuple[str, ...]

ANY: Final = "*"
"""Stands for one name of the record's own, as the property in `estimated.*.value`."""


class Kind(StrEnum):
    """What a field holds; the values are how errors name it."""

    TEXT = "a text in quotes"
    NUMBER = "a number"
    WHOLE = "a whole number"
    BOOLEAN = "true or false"
    TIME = "a time such as 2026-01-31T08:00:00Z"
    DURATION = "a duration such as 90s, 5m or 1.5h"
    NAMES = "names"
    VALUE = "a number, a text in quotes, true or false"

    @property
    def ordered(self) -> bool:
        """Whether `<` means something."""
        return self in (Kind.NUMBER, Kind.WHOLE, Kind.TIME, Kind.DURATION, Kind.VALUE)


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes:
        name: dotted; a `*` stands for any one name.
        kind: what it holds: TIME and DURATION are integers of ns, NAMES a set or the keys of a mapping.
        one_of: all texts it can have, empty when they are not known beforehand.
        about: one phrase for documentation.
    """

    name: str
    kind: Kind
    one_of: tuple[str, ...] = ()
    about: str = ""

    @property
    def path(self) -> Path:
        """Its name in steps."""
        return tuple(self.name.split("."))


@dataclass(frozen=True)
class Fields:
    """The fields of one listing."""

    fields: tuple[Field, ...]

    @classmethod
    def of(cls, *groups: Iterable[Field]) -> Fields:
        """Fields of several groups together."""
        return cls(tuple(field for group in groups for field in group))

    @cached_property
    def _by_path(self) -> dict[Path, Field]:
        return {field.path: field for field in self.fields}

    def find(self, path: Path) -> Field | None:
        """The field a path names, None when it is not among them; a field of the very name comes before a `*`."""
        exact = self._by_path.get(path)
        if exact is not None:
            return exact
        for steps, field in self._by_path.items():
            if len(steps) == len(path) and all(s in (ANY, p) for s, p in zip(steps, path, strict=True)):
                return field
        return None

    def nearest(self, path: Path) -> str:
        """The name of the field that is most like a path, "" when none is."""
        names = []
        for steps in self._by_path:
            own = path + steps[len(path) :]
            names.append(".".join(own[n] if step == ANY else step for n, step in enumerate(steps)))
        written = ".".join(path)
        folded = {name.lower(): name for name in reversed(names)}
        near = difflib.get_close_matches(written.lower(), folded, n=1, cutoff=0.5)
        if near:
            return folded[near[0]]
        # What was meant may be the last step of a longer name, or the start of one: `flow` of `reported.flow.value`.
        tails = {name.rpartition(".")[2].lower(): name for name in reversed(names)}
        near = difflib.get_close_matches(path[-1].lower(), tails, n=1, cutoff=0.7)
        return tails[near[0]] if near else ""
