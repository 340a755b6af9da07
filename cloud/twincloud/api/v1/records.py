"""Records of twins: what people say of them, changed one by one or in bulk, each under its own condition."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, status

from twincloud.api.auth import Access, allow
from twincloud.api.bodies import MERGE_PATCH, demand_of, json_of
from twincloud.api.conditional import condition_of, tag_of, unchanged
from twincloud.api.twin_views import change_view, record_view
from twincloud.api.v1.paging import PageSize, PageToken, Site, SiteFilter, TwinName, seal, unseal
from twincloud.api.v1.twin_shapes import (
    BatchRequest,
    BatchView,
    ChangeRequest,
    DesiredRequest,
    DesiredView,
    Run,
    StateName,
    TwinRecordList,
    TwinRecordRequest,
    TwinRecordView,
)
from twincloud.storage.contract import TwinKey
from twincloud.storage.records_twins import ChangeKind, Demand, TwinChange, TwinRecord
from twinmodel.errors import InputError, TwinError

CHUNK = 250
"""Changes of one transaction: others wait for no more than these."""

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["twins"])

Reader = Annotated[Access, Depends(allow("twins.read"))]
Writer = Annotated[Access, Depends(allow("twins.write"))]
Desirer = Annotated[Access, Depends(allow("twins.desire"))]

_CHANGED: dict[int | str, dict[str, Any]] = {
    412: {"description": "it has changed meanwhile; the answer carries the ETag of now"},
    415: {"description": "the body is of another type"},
}
_MADE: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "made",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/TwinRecordView"}}},
    }
}


def _body(shape: dict[str, Any], *kinds: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {kind: {"schema": shape} for kind in kinds}}}


_PUT = _body(TwinRecordRequest.model_json_schema(ref_template="#/components/schemas/{model}"), "application/json")
_PATCH = _body({"type": "object", "description": "a merge patch, RFC 7396"}, MERGE_PATCH, "application/json")


@router.get("/twinRecords")
async def list_twin_records(
    request: Request,
    access: Reader,
    site: SiteFilter = "",
    state: StateName | None = None,
    run: Run | None = None,
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> TwinRecordList:
    """Records by site and name; those of retired twins only with `state=retired`."""
    app = request.app.state
    listing = f"twinRecords:{access.tenant}:{site}:{state}:{run}"
    page = await app.threads.run(
        app.store.twin_records, access.tenant, site=site, state=state or "", run=run or "", limit=page_size,
        token=unseal(listing, page_token),
    )  # fmt: skip
    return TwinRecordList(
        items=[record_view(one) for one in page.items], next_page_token=seal(listing, page.next_token)
    )


@router.get(
    "/sites/{s}/twins/{twin}/record", response_model=TwinRecordView, responses={304: {"description": "unchanged"}}
)
async def get_twin_record(request: Request, access: Reader, s: Site, twin: TwinName) -> Response:
    """What people say of a twin."""
    app = request.app.state
    record = await app.threads.run(app.store.twin_record, TwinKey(access.tenant, s, twin))
    if unchanged(request, tag_of(record.revision)):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": tag_of(record.revision)})
    return _answer(record)


@router.put(
    "/sites/{s}/twins/{twin}/record", response_model=TwinRecordView, responses=_CHANGED | _MADE, openapi_extra=_PUT
)
async def put_twin_record(request: Request, access: Writer, s: Site, twin: TwinName) -> Response:
    """Makes a record (`If-None-Match: *`) or replaces it (`If-Match`); what is left out is as at the beginning."""
    demand = demand_of(condition_of(request, required=True))
    return await _changed(request, access, TwinKey(access.tenant, s, twin), await json_of(request), "put", demand)


@router.patch("/sites/{s}/twins/{twin}/record", response_model=TwinRecordView, responses=_CHANGED, openapi_extra=_PATCH)
async def patch_twin_record(request: Request, access: Writer, s: Site, twin: TwinName) -> Response:
    """Changes a record by a merge patch (RFC 7396): what is left out stays, null removes."""
    demand = demand_of(condition_of(request))
    return await _changed(request, access, TwinKey(access.tenant, s, twin), await json_of(request), "patch", demand)


@router.delete("/sites/{s}/twins/{twin}/record", status_code=status.HTTP_204_NO_CONTENT, responses=_CHANGED)
async def delete_twin_record(request: Request, access: Writer, s: Site, twin: TwinName) -> Response:
    """Deletes a draft or a retired twin that no gateway ever reported, with its own relationships."""
    demand = demand_of(condition_of(request, required=True))
    return await _changed(request, access, TwinKey(access.tenant, s, twin), None, "delete", demand)


@router.get("/sites/{s}/twins/{twin}/desired", response_model=dict[str, DesiredView])
async def get_desired(request: Request, access: Reader, s: Site, twin: TwinName) -> Response:
    """What is desired of a twin, by property; its ETag is that of the record."""
    app = request.app.state
    return _desired(await app.threads.run(app.store.twin_record, TwinKey(access.tenant, s, twin)))


@router.patch(
    "/sites/{s}/twins/{twin}/desired",
    response_model=dict[str, DesiredView],
    responses=_CHANGED,
    openapi_extra=_body(
        {"type": "object", "additionalProperties": {"anyOf": [DesiredRequest.model_json_schema(), {"type": "null"}]}},
        MERGE_PATCH,
        "application/json",
    ),
)
async def patch_desired(request: Request, access: Desirer, s: Site, twin: TwinName) -> Response:
    """Changes what is desired by a merge patch: `{"speed": {"value": 1450}}`; null ends it."""
    demand = demand_of(condition_of(request))
    body = {"desired": await json_of(request)}
    record = await _change(
        request, TwinChange(TwinKey(access.tenant, s, twin), body, access.principal.name, demand=demand)
    )
    assert record is not None
    return _desired(record)


@router.post("/twins:batch")
async def change_twins(request: Request, access: Writer, wanted: BatchRequest) -> BatchView:
    """Up to 1,000 changes, each with its own condition and its own answer, in their order."""
    app = request.app.state
    changes = [_change_of(access, one) for one in wanted.items]
    items = []
    for at in range(0, len(changes), CHUNK):
        some = changes[at : at + CHUNK]
        answers = await app.threads.run(app.store.patch_twins, access.tenant, some, app.clock.wall_ns())
        app.bus.notify_twins([c.key for c, a in zip(some, answers, strict=True) if not isinstance(a, TwinError)])
        items += [change_view(change, answer) for change, answer in zip(some, answers, strict=True)]
    return BatchView(items=items, refused=sum(one.problem is not None for one in items))


def _change_of(access: Access, one: ChangeRequest) -> TwinChange:
    demand = Demand(absent=bool(one.if_none_match))
    if one.if_match:
        tag = one.if_match.strip('"')
        if one.if_match != "*" and not (tag.isascii() and tag.isdigit() and len(tag) < 20):
            raise InputError("REQUEST_INVALID", f"if_match: {one.if_match!r} is no ETag of a record", field="if_match")
        demand = Demand(None if one.if_match == "*" else frozenset({int(tag)}), present=True, absent=demand.absent)
    return TwinChange(TwinKey(access.tenant, one.site, one.twin), one.body, access.principal.name, one.op, demand)


async def _changed(
    request: Request, access: Access, key: TwinKey, body: Any, kind: ChangeKind, demand: Demand
) -> Response:
    record = await _change(request, TwinChange(key, body, access.principal.name, kind, demand))
    if record is None:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    return _answer(record, status.HTTP_201_CREATED if demand.absent else status.HTTP_200_OK)


async def _change(request: Request, change: TwinChange) -> TwinRecord | None:
    app = request.app.state
    record: TwinRecord | None = await app.changes.make(change)
    return record


def _answer(record: TwinRecord, code: int = status.HTTP_200_OK) -> Response:
    headers = {"ETag": tag_of(record.revision), "Cache-Control": "private, no-cache"}
    return Response(record_view(record).model_dump_json(), code, headers, "application/json")


def _desired(record: TwinRecord) -> Response:
    headers = {"ETag": tag_of(record.revision), "Cache-Control": "private, no-cache"}
    view = record_view(record)
    body = view.model_dump_json(include={"desired"})
    return Response(body[len('{"desired":') : -1], 200, headers, "application/json")
