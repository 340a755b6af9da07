"""From records of what people say of twins to shapes of the API: pure functions."""

from __future__ import annotations

from http import HTTPStatus

from twincloud.api.conditional import tag_of
from twincloud.api.problems import problem_body
from twincloud.api.times import to_text, to_text_or_none
from twincloud.api.v1.twin_shapes import (
    ChangeView,
    DefinitionView,
    DesiredView,
    GraphView,
    NodeView,
    RelationView,
    TwinRecordView,
)
from twincloud.storage.records_twins import Definition, Graph, Relation, TwinChange, TwinRecord
from twincloud.twins.document import Desired
from twinmodel.errors import TwinError


def desired_view(desired: Desired) -> DesiredView:
    """What a property should be."""
    return DesiredView(value=desired.value, unit=desired.unit, by=desired.by, at=to_text(desired.at_ns))


def record_view(record: TwinRecord) -> TwinRecordView:
    """A record."""
    document = record.document
    return TwinRecordView.model_construct(
        tenant=record.key.tenant,
        site=record.key.site,
        twin=record.key.twin,
        definition=document.definition,
        state=document.state.value,
        run="cloud" if document.run == "cloud" else "edge",
        tags=dict(document.tags),
        attributes=dict(document.attributes),
        desired={name: desired_view(one) for name, one in document.desired.items()},
        revision=record.revision,
        created=to_text_or_none(record.created_ns),
        updated=to_text_or_none(record.updated_ns),
        updated_by=record.updated_by,
    )


def change_view(change: TwinChange, answer: TwinRecord | TwinError | None) -> ChangeView:
    """The answer to one change of a batch."""
    key = change.key
    if isinstance(answer, TwinError):
        body = problem_body(answer)
        return ChangeView(site=key.site, twin=key.twin, status=body.status, problem=body)
    if answer is None:
        return ChangeView(site=key.site, twin=key.twin, status=HTTPStatus.NO_CONTENT)
    made = answer.created_ns == answer.updated_ns and change.kind != "patch"
    status = HTTPStatus.CREATED if made else HTTPStatus.OK
    return ChangeView(site=key.site, twin=key.twin, status=status, etag=tag_of(answer.revision))


def relation_view(relation: Relation) -> RelationView:
    """A relationship."""
    key = relation.key
    return RelationView(
        site=key.source.site,
        twin=key.source.twin,
        type=key.name,
        target_site=key.target.site,
        target=key.target.twin,
        properties=dict(relation.properties),
        revision=relation.revision,
        updated=to_text(relation.updated_ns),
        updated_by=relation.updated_by,
    )


def graph_view(graph: Graph) -> GraphView:
    """A graph."""
    nodes = [
        NodeView(site=n.key.site, twin=n.key.twin, depth=n.depth, definition=n.definition, state=n.state)
        for n in graph.nodes
    ]
    return GraphView.model_validate(
        {
            "site": graph.root.site,
            "twin": graph.root.twin,
            "nodes": nodes,
            "relationships": [relation_view(one) for one in graph.relations],
            "truncated": graph.truncated,
            "cycle": [f"{key.site}/{key.twin}" for key in graph.cycle],
        }
    )


def definition_view(definition: Definition) -> DefinitionView:
    """A definition."""
    spec, resolved = definition.spec, definition.resolved
    return DefinitionView(
        name=spec.definition,
        version=spec.version,
        digest=definition.digest,
        created=to_text(definition.created_ns),
        created_by=definition.created_by,
        spec=spec,
        chain=list(resolved.chain),
        properties=dict(resolved.properties),
        relationships=dict(resolved.relationships),
        origins=dict(resolved.origins),
    )
