"""The checked tree of a filter: every literal is of the kind of its field."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from twincloud.filters.fields import Kind, Path

Literal: TypeAlias = str | bool | int | float
"""Times and durations are integers of ns."""


class Op(StrEnum):
    """Operators as they are written."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    PREFIX = "^="
    IN = "in"
    HAS = "has"
    NULL = "= null"


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison; `values` are what stands right of the operator, none for NULL.

    Attributes:
        name: name of the field as it was declared, with `*`.
        path: the steps as they were written.
    """

    name: str
    path: Path
    kind: Kind
    op: Op
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True where its part is false."""

    part: Node


@dataclass(frozen=True, slots=True)
class All:
    """True where all parts are."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """True where any part is."""

    parts: tuple[Node, ...]


Node: TypeAlias = Test | Not | All | Any


def tests_of(node: Node) -> list[Test]:
    """All comparisons in a tree, from left to right."""
    if isinstance(node, Test):
        return [node]
    parts = (node.part,) if isinstance(node, Not) else node.parts
    return [test for part in parts for test in tests_of(part)]
