"""Definitions, twins and relationships as one document in the formats of others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from twincloud.api.auth import Access, allow
from twincloud.api.bodies import json_of
from twincloud.api.exchanging import export_graph, import_graph
from twincloud.api.v1.paging import SiteFilter
from twincloud.api.v1.schemas import Shape
from twincloud.storage.contract import TwinKey

REFUSED_MAX = 1_000
NOT_CARRIED = "HT-Not-Carried"

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["twins"])

Reader = Annotated[Access, Depends(allow("twins.read"))]
Publisher = Annotated[Access, Depends(allow("definitions.publish"))]
Format = Annotated[
    Literal["dtdl", "wot"], Query(description="DTDL 3 with its graph file, or WoT Things and Thing Models")
]


class RefusedPart(Shape):
    """A part that was not carried: where it stands in the source, and why not."""

    place: str
    reason: str
    message: str


class ImportView(Shape):
    """What came of an import: `carried` and the refused add up to `found`; the first 1,000 refused are named."""

    dry_run: bool
    found: int
    carried: int
    refused: int
    definitions: int
    twins: int
    relationships: int
    items: list[RefusedPart]


@router.get("/twinGraph:export", response_class=JSONResponse, response_model=None)
async def export_twin_graph(request: Request, access: Reader, format: Format = "dtdl", site: SiteFilter = "") -> Any:  # noqa: A002
    """Everything people say of twins as one document; `HT-Not-Carried` counts what the format has no word for."""
    app = request.app.state
    document, tally = await app.threads.run(export_graph, app.store, access.tenant, format, site)
    return JSONResponse(document, headers={NOT_CARRIED: str(len(tally.refused)), "Cache-Control": "no-store"})


@router.post(
    "/twinGraph:import",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}},
    responses={415: {"description": "the body is of another type"}},
)
async def import_twin_graph(
    request: Request, access: Publisher, format: Format = "dtdl", site: SiteFilter = "",  # noqa: A002 - in the query
    dry_run: bool = False,  # noqa: FBT001, FBT002 - in the query
) -> ImportView:  # fmt: skip
    """Publishes the definitions of a document, all or none, then takes each twin and relationship by itself."""
    app = request.app.state
    found = await app.threads.run(
        import_graph, app.store, access.tenant, format, await json_of(request), site=site, by=access.principal.name,
        now_ns=app.clock.wall_ns(), dry=dry_run,
    )  # fmt: skip
    bundle, tally = found.bundle, found.tally
    if not dry_run:
        app.bus.notify_twins([TwinKey(access.tenant, one.site, one.twin) for one in bundle.twins])
    parts = [RefusedPart(place=p.place, reason=p.reason, message=p.message) for p in tally.refused[:REFUSED_MAX]]
    return ImportView(
        dry_run=dry_run, found=tally.found, carried=len(tally.carried), refused=len(tally.refused),
        definitions=len(bundle.definitions), twins=len(bundle.twins), relationships=len(bundle.links), items=parts,
    )  # fmt: skip
