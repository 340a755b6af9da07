"""The records of what people say of twins: definitions, twin records, relationships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from twincloud.storage.records import TwinKey
from twincloud.twins.document import Document
from twinmodel.definition.resolve import Resolved
from twinmodel.definition.schema import DefinitionSpec

Direction = Literal["out", "in", "both"]
ChangeKind = Literal["create", "put", "patch", "delete"]


@dataclass(frozen=True, slots=True)
class Definition:
    """A published version of a definition; `digest` is of its content."""

    spec: DefinitionSpec
    resolved: Resolved
    digest: str
    created_ns: int
    created_by: str


@dataclass(frozen=True, slots=True)
class TwinRecord:
    """What people say of a twin.

    Attributes:
        revision: grows with each change and is never given twice; 0 for a twin that nobody has described.
        updated_by: "" as long as only a gateway has told of it.
    """

    key: TwinKey
    document: Document
    revision: int
    created_ns: int
    updated_ns: int
    updated_by: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What must hold for a change to be made.

    Attributes:
        revisions: the revision must be one of these, None for any.
        present: something must be there.
        absent: nothing may be there.
    """

    revisions: frozenset[int] | None = None
    present: bool = False
    absent: bool = False


ANYTHING = Demand()


@dataclass(frozen=True, slots=True)
class TwinChange:
    """One change of one twin's record; `body` is a merge patch, or for create and put the document, as JSON."""

    key: TwinKey
    body: Any
    by: str
    kind: ChangeKind = "patch"
    demand: Demand = ANYTHING


@dataclass(frozen=True, slots=True, order=True)
class RelationKey:
    """A relationship: of a twin, by its type, to a twin of the same tenant; one of a kind between the two."""

    source: TwinKey
    name: str
    target: TwinKey


@dataclass(frozen=True, slots=True)
class Relation:
    """A relationship with what is said of it."""

    key: RelationKey
    properties: Mapping[str, Any]
    revision: int
    created_ns: int
    updated_ns: int
    updated_by: str


@dataclass(frozen=True, slots=True)
class Node:
    """A twin of a graph, and how many relationships lie between it and where the search began."""

    key: TwinKey
    depth: int
    definition: str
    state: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Twins and relationships found from one twin on.

    Attributes:
        truncated: "" when it is whole, else what ended the search: `depth` or `nodes`.
        cycle: twins of one circle of relationships, first and last the same; empty when there is none.
    """

    root: TwinKey
    nodes: tuple[Node, ...]
    relations: tuple[Relation, ...]
    truncated: str = ""
    cycle: tuple[TwinKey, ...] = field(default=())
