"""Definitions of twins: published once, never changed; and the relationships they allow."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status

from twincloud.api.auth import Access, allow
from twincloud.api.bodies import demand_of
from twincloud.api.conditional import condition_of, tag_of
from twincloud.api.twin_views import definition_view, graph_view, relation_view
from twincloud.api.v1.paging import PageSize, PageToken, Site, TwinName, seal, unseal
from twincloud.api.v1.schemas import NAME
from twincloud.api.v1.twin_shapes import (
    DefinitionList,
    DefinitionsRequest,
    DefinitionView,
    GraphView,
    RelationList,
    RelationRequest,
    RelationView,
)
from twincloud.storage.contract import TwinKey
from twincloud.storage.records_twins import RelationKey
from twinmodel.definition.schema import VERSION, DefinitionSpec
from twinmodel.errors import InputError

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["twins"])

Reader = Annotated[Access, Depends(allow("twins.read"))]
Writer = Annotated[Access, Depends(allow("twins.write"))]
Publisher = Annotated[Access, Depends(allow("definitions.publish"))]
DefinitionName = Annotated[str, Path(pattern=NAME)]
VersionName = Annotated[str, Path(pattern=VERSION)]
TypeName = Annotated[str, Path(pattern=NAME)]
Direction = Literal["out", "in", "both"]


@router.get("/twinDefinitions")
async def list_definitions(
    request: Request,
    access: Reader,
    name: Annotated[str, Query(pattern=rf"^$|{NAME}")] = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> DefinitionList:
    """Definitions by name and version."""
    app = request.app.state
    listing = f"twinDefinitions:{access.tenant}:{name}"
    token = unseal(listing, page_token)
    page = await app.threads.run(app.store.definitions, access.tenant, name=name, limit=page_size, token=token)
    items = [definition_view(one) for one in page.items]
    return DefinitionList(items=items, next_page_token=seal(listing, page.next_token))


@router.post("/twinDefinitions", status_code=status.HTTP_201_CREATED)
async def publish_definitions(request: Request, access: Publisher, wanted: DefinitionsRequest) -> DefinitionList:
    """Publishes definitions together, all or none; they may extend one another, in any order."""
    app = request.app.state
    made = await app.threads.run(
        app.store.publish_definitions, access.tenant, wanted.items, by=access.principal.name, now_ns=app.clock.wall_ns()
    )
    app.bus.notify()
    return DefinitionList(items=[definition_view(one) for one in made])


@router.get("/twinDefinitions/{d}/versions/{v}")
async def get_definition(request: Request, access: Reader, d: DefinitionName, v: VersionName) -> DefinitionView:
    """One version, as it was written and with all it inherits."""
    app = request.app.state
    return definition_view(await app.threads.run(app.store.definition, access.tenant, f"{d}@{v}"))


@router.put("/twinDefinitions/{d}/versions/{v}", status_code=status.HTTP_201_CREATED)
async def publish_definition(
    request: Request, access: Publisher, d: DefinitionName, v: VersionName, spec: DefinitionSpec
) -> DefinitionView:
    """Publishes one version; the same content again is no error, another one is ALREADY_EXISTS."""
    if spec.reference != f"{d}@{v}":
        raise InputError("REQUEST_INVALID", f"definition, version: the body is {spec.reference}, the path {d}@{v}")
    app = request.app.state
    made = await app.threads.run(
        app.store.publish_definitions, access.tenant, [spec], by=access.principal.name, now_ns=app.clock.wall_ns()
    )
    app.bus.notify()
    return definition_view(made[0])


@router.get("/sites/{s}/twins/{twin}/relationships")
async def list_relationships(
    request: Request,
    access: Reader,
    s: Site,
    twin: TwinName,
    type: Annotated[str, Query(pattern=rf"^$|{NAME}")] = "",  # noqa: A002 - the name in the query
    direction: Direction = "out",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> RelationList:
    """Relationships of a twin."""
    app = request.app.state
    listing = f"relationships:{access.tenant}:{s}:{twin}:{type}:{direction}"
    page = await app.threads.run(
        app.store.relations, TwinKey(access.tenant, s, twin), direction=direction, name=type, limit=page_size,
        token=unseal(listing, page_token),
    )  # fmt: skip
    items = [relation_view(one) for one in page.items]
    return RelationList(items=items, next_page_token=seal(listing, page.next_token))


_ONE = "/sites/{s}/twins/{twin}/relationships/{type}/{target_site}/{target}"


@router.get(_ONE)
async def get_relationship(
    request: Request, response: Response, access: Reader, s: Site, twin: TwinName, type: TypeName,  # noqa: A002 - path
    target_site: Site, target: TwinName,
) -> RelationView:  # fmt: skip
    """One relationship."""
    app = request.app.state
    key = RelationKey(TwinKey(access.tenant, s, twin), type, TwinKey(access.tenant, target_site, target))
    relation = await app.threads.run(app.store.relation, key)
    response.headers["ETag"] = tag_of(relation.revision)
    return relation_view(relation)


@router.put(_ONE)
async def put_relationship(
    request: Request, response: Response, access: Writer, s: Site, twin: TwinName, type: TypeName,  # noqa: A002 - path
    target_site: Site, target: TwinName, said: RelationRequest,
) -> RelationView:  # fmt: skip
    """Relates a twin to another, or says other things of it; the definitions must allow it."""
    app = request.app.state
    key = RelationKey(TwinKey(access.tenant, s, twin), type, TwinKey(access.tenant, target_site, target))
    relation = await app.threads.run(
        app.store.relate, key, said.properties, by=access.principal.name, now_ns=app.clock.wall_ns(),
        demand=demand_of(condition_of(request)),
    )  # fmt: skip
    app.bus.notify_twins([key.source])
    response.headers["ETag"] = tag_of(relation.revision)
    return relation_view(relation)


@router.delete(_ONE, status_code=status.HTTP_204_NO_CONTENT)
async def delete_relationship(
    request: Request, access: Writer, s: Site, twin: TwinName, type: TypeName,  # noqa: A002 - path
    target_site: Site, target: TwinName,
) -> None:  # fmt: skip
    """Removes a relationship."""
    app = request.app.state
    key = RelationKey(TwinKey(access.tenant, s, twin), type, TwinKey(access.tenant, target_site, target))
    demand = demand_of(condition_of(request))
    await app.threads.run(app.store.unrelate, key, now_ns=app.clock.wall_ns(), demand=demand)
    app.bus.notify_twins([key.source])


@router.get("/sites/{s}/twins/{twin}/graph")
async def get_graph(
    request: Request,
    access: Reader,
    s: Site,
    twin: TwinName,
    type: Annotated[str, Query(pattern=rf"^$|{NAME}")] = "",  # noqa: A002 - the name in the query
    depth: Annotated[int, Query(ge=1, le=10)] = 1,
    direction: Direction = "out",
    nodes: Annotated[int, Query(ge=1, le=1_000)] = 200,
) -> GraphView:
    """Twins related to a twin, breadth first, each once; what ended the search early and one circle are named."""
    app = request.app.state
    key = TwinKey(access.tenant, s, twin)
    found = await app.threads.run(app.store.graph, key, name=type, depth=depth, direction=direction, nodes_max=nodes)
    return graph_view(found)
