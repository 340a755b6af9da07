"""Shapes of what people say of twins: definitions, records, relationships, graphs and changes in bulk."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from twincloud.api.v1.schemas import NAME, Problem, Shape
from twinmodel.definition.schema import DefinitionSpec, PropertySpec, RelationshipSpec

BATCH_MAX = 1_000
DEFINITIONS_MAX = 200

StateName = Literal["draft", "commissioned", "active", "suspended", "retired"]
Run = Literal["edge", "cloud"]
Scalar = float | int | bool | str


class DesiredView(Shape):
    """What a property should be, who says so and since when."""

    value: Scalar
    unit: str
    by: str
    at: str


class TwinRecordView(Shape):
    """What people say of a twin; `revision` is its strong ETag."""

    tenant: str
    site: str
    twin: str
    definition: str
    state: StateName
    run: Run
    tags: dict[str, str]
    attributes: dict[str, Any]
    desired: dict[str, DesiredView]
    revision: int
    created: str | None
    updated: str | None
    updated_by: str


class TwinRecordList(Shape):
    """Page of records."""

    items: list[TwinRecordView]
    next_page_token: str = ""


class DesiredRequest(Shape):
    """What a property should be; in a merge patch null in place of this object removes it."""

    value: Scalar
    unit: str | None = Field(None, max_length=64)


class TwinRecordRequest(Shape):
    """A record, or a merge patch of one: what is left out stays, null removes."""

    definition: str | None = None
    state: StateName | None = None
    run: Run | None = None
    tags: dict[str, str | None] | None = None
    attributes: dict[str, Any] | None = None
    desired: dict[str, DesiredRequest | None] | None = None


class ChangeRequest(Shape):
    """One change of a batch; `if_match` is an ETag as it came, or `*`; `if_none_match` is `*` or nothing."""

    op: Literal["create", "put", "patch", "delete"] = "patch"
    site: str = Field(pattern=NAME)
    twin: str = Field(pattern=NAME)
    if_match: str = Field("", max_length=64)
    if_none_match: Literal["", "*"] = ""
    body: dict[str, Any] = Field(default_factory=dict)


class BatchRequest(Shape):
    """Changes, made in their order."""

    items: list[ChangeRequest] = Field(max_length=BATCH_MAX)


class ChangeView(Shape):
    """The answer to one change of a batch; `etag` is empty for what was deleted or refused."""

    site: str
    twin: str
    status: int
    etag: str = ""
    problem: Problem | None = None


class BatchView(Shape):
    """Answers in the order of the changes; `refused` counts those with a problem."""

    items: list[ChangeView]
    refused: int


class RelationRequest(Shape):
    """What is said of a relationship."""

    properties: dict[str, Scalar] = Field(default_factory=dict)


class RelationView(Shape):
    """One relationship."""

    site: str
    twin: str
    type: str
    target_site: str
    target: str
    properties: dict[str, Scalar]
    revision: int
    updated: str
    updated_by: str


class RelationList(Shape):
    """Page of relationships."""

    items: list[RelationView]
    next_page_token: str = ""


class NodeView(Shape):
    """A twin of a graph."""

    site: str
    twin: str
    depth: int
    definition: str
    state: str


class GraphView(Shape):
    """What was found; `truncated` says what ended the search early, `cycle` names one circle among it."""

    site: str
    twin: str
    nodes: list[NodeView]
    relationships: list[RelationView]
    truncated: Literal["", "depth", "nodes"]
    cycle: list[str]


class DefinitionView(Shape):
    """One version of a definition: as it was written, and with all it inherits."""

    name: str
    version: str
    digest: str
    created: str
    created_by: str
    spec: DefinitionSpec
    chain: list[str]
    properties: dict[str, PropertySpec]
    relationships: dict[str, RelationshipSpec]
    origins: dict[str, str]


class DefinitionList(Shape):
    """Page of definitions."""

    items: list[DefinitionView]
    next_page_token: str = ""


class DefinitionsRequest(Shape):
    """Definitions that are published together, all or none."""

    items: list[DefinitionSpec] = Field(min_length=1, max_length=DEFINITIONS_MAX)
