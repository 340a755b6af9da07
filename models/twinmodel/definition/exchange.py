"""What other systems and this one exchange of twins: definitions, twins, relationships, and what became of each part.

Whoever reads or writes a format takes each part by `Tally.take` or leaves it by `Tally.leave`, so that what was carried
and what was refused add up to what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import InputError

PARTS_MAX: Final = 100_000
Scalar = float | int | bool | str
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class TwinSpec:
    """A twin as people describe it; `definition` is `name@version` or ""."""

    site: str
    twin: str
    definition: str = ""
    desired: Mapping[str, Scalar] = field(default_factory=dict)
    state: str = "draft"
    run: str = "edge"
    tags: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A relationship of a twin, by its type, to another twin."""

    site: str
    twin: str
    type: str
    target_site: str
    target: str
    properties: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Definitions, twins and relationships that travel together."""

    definitions: tuple[DefinitionSpec, ...] = ()
    twins: tuple[TwinSpec, ...] = ()
    links: tuple[LinkSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A part that was not carried: its place in the source, a reason of the registry, and why."""

    place: str
    reason: str
    message: str


class Tally:
    """Parts found so far, each carried or refused."""

    def __init__(self) -> None:
        self.carried: list[str] = []
        self.refused: list[Refusal] = []

    @property
    def found(self) -> int:
        """Parts of the source."""
        return len(self.carried) + len(self.refused)

    def take(self, place: str, convert: Callable[[], T]) -> T | None:
        """Carries a part; None, and a refusal, where the conversion raises InputError."""
        try:
            made = convert()
        except InputError as wrong:
            self._refuse(place, wrong.reason, wrong.message)
            return None
        self._count()
        self.carried.append(place)
        return made

    def leave(self, place: str, why: str, reason: str = "VALUE_INVALID") -> None:
        """Refuses a part that has no place on the other side."""
        self._refuse(place, reason, why)

    def join(self, other: Tally, whole: InputError | None = None) -> None:
        """Adds the parts of a larger part; all are refused where the larger one is."""
        if whole is None:
            self.carried += other.carried
        else:
            self.refused += [Refusal(place, whole.reason, whole.message) for place in other.carried]
        self.refused += other.refused
        self._count()

    def _refuse(self, place: str, reason: str, message: str) -> None:
        self._count()
        self.refused.append(Refusal(place[:300], reason, message[:500]))

    def _count(self) -> None:
        if self.found > PARTS_MAX:
            raise InputError("LIMIT_EXCEEDED", f"more than {PARTS_MAX} parts", hint="split the file")


def made(shape: type[M], fields: Mapping[str, object]) -> M:
    """One of our shapes; raises InputError VALUE_INVALID with the first thing that is wrong."""
    try:
        return shape.model_validate(dict(fields))
    except ValidationError as wrong:
        first = wrong.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError("VALUE_INVALID", f"{place}: {first['msg']}" if place else str(first["msg"])) from None


def refuse(why: str, reason: str = "VALUE_INVALID") -> InputError:
    """The error of a part that cannot be carried."""
    return InputError(reason, why)
