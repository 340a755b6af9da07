"""Fleets: what they are, who is in them, what they add up to, and who stands out."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status

from twincloud.api.auth import Access, allow
from twincloud.api.conditional import Condition, condition_of, tag_of, unchanged
from twincloud.api.fleets import Fleets
from twincloud.api.standing import aggregate_view, fleet_view, outliers_view, peer_views
from twincloud.api.times import to_text
from twincloud.api.v1.fleet_shapes import (
    FleetAggregate,
    FleetList,
    FleetRequest,
    FleetView,
    MemberList,
    MemberName,
    OutlierList,
    PeerList,
    PeerView,
    Role,
)
from twincloud.api.v1.paging import PageSize, PageToken, Site, TwinName, seal, unseal
from twincloud.api.v1.schemas import NAME
from twincloud.storage.contract import Store, TwinKey
from twincloud.storage.records_fleets import FleetSpec
from twincloud.storage.records_twins import Demand
from twinmodel.errors import InputError

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["fleets"])

Reader = Annotated[Access, Depends(allow("fleets.read"))]
Writer = Annotated[Access, Depends(allow("fleets.write"))]
FleetName = Annotated[str, Path(pattern=NAME)]
PropertyName = Annotated[str, Query(alias="property", max_length=256, description="one property; all without it")]
RoleFilter = Annotated[Role | None, Query(description="one role; both without it")]


@router.get("/fleets")
async def list_fleets(
    request: Request, access: Reader, page_size: PageSize = 100, page_token: PageToken = ""
) -> FleetList:
    """Fleets by name."""
    state = request.app.state
    listing = f"fleets:{access.tenant}"
    token = unseal(listing, page_token)
    page = await state.threads.run(partial(state.store.fleets, access.tenant, limit=page_size, token=token))
    items = [fleet_view(record, members=False) for record in page.items]
    return FleetList(items=items, next_page_token=seal(listing, page.next_token))


@router.get("/fleets/{f}", responses={304: {"description": "unchanged"}})
async def get_fleet_by_name(request: Request, response: Response, access: Reader, f: FleetName) -> FleetView:
    """One fleet."""
    state = request.app.state
    record = await state.threads.run(state.store.fleet, access.tenant, f)
    response.headers["ETag"] = tag_of(record.revision)
    if unchanged(request, tag_of(record.revision)):
        response.status_code = status.HTTP_304_NOT_MODIFIED
    return fleet_view(record, members=True)


@router.put("/fleets/{f}")
async def put_fleet(
    request: Request, response: Response, access: Writer, f: FleetName, wanted: FleetRequest
) -> FleetView:
    """Makes a fleet (`If-None-Match: *`) or replaces what it is (`If-Match`)."""
    state = request.app.state
    if bool(wanted.filter.strip()) == bool(wanted.members):
        raise InputError(
            "REQUEST_INVALID",
            "body: a fleet has either a filter or members",
            hint="give one of the two",
            field="filter",
        )
    members = tuple(TwinKey(access.tenant, m.site, m.twin) for m in wanted.members)
    put = partial(
        state.store.put_fleet,
        access.tenant,
        f,
        FleetSpec(wanted.description, wanted.filter.strip(), members),
        by=access.principal.name,
        now_ns=state.clock.wall_ns(),
        demand=_demand(condition_of(request, required=True)),
    )
    record = await state.threads.run(put)
    response.headers["ETag"] = tag_of(record.revision)
    return fleet_view(record, members=True)


@router.delete("/fleets/{f}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_fleet(request: Request, access: Writer, f: FleetName) -> Response:
    """Forgets a fleet; its members stay."""
    state = request.app.state
    demand = _demand(condition_of(request, required=True))
    delete = partial(state.store.delete_fleet, access.tenant, f, now_ns=state.clock.wall_ns(), demand=demand)
    await state.threads.run(delete)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/fleets/{f}/members")
async def list_members(
    request: Request, access: Reader, f: FleetName, page_size: PageSize = 100, page_token: PageToken = ""
) -> MemberList:
    """Members of a fleet by site and name, as they are now; a page may be short and still not be the last."""
    state = request.app.state
    listing = f"members:{access.tenant}:{f}"
    token = unseal(listing, page_token)
    page = await state.threads.run(partial(state.fleets.members, access.tenant, f, limit=page_size, token=token))
    items = [MemberName(site=key.site, twin=key.twin) for key in page.items]
    return MemberList(items=items, next_page_token=seal(listing, page.next_token))


@router.get("/fleets/{f}/aggregate")
async def get_aggregate(
    request: Request, access: Reader, f: FleetName, prop: PropertyName = "", role: RoleFilter = None
) -> FleetAggregate:
    """A fleet in numbers by property and role: with its uncertainty, and who is missing from them and why."""
    fleets = request.app.state.fleets
    view = partial(aggregate_view, f, stale_ns=fleets.stale_ns, prop=prop, role=role or "")
    found: FleetAggregate = await request.app.state.threads.run(
        fleets.read, access.tenant, f, view, ("aggregate", prop, role)
    )
    return found


@router.get("/fleets/{f}/outliers")
async def list_outliers(
    request: Request, access: Reader, f: FleetName, prop: PropertyName = "", role: RoleFilter = None
) -> OutlierList:
    """Members too far from the others, the farthest first; stale ones and noisy ones are none."""
    fleets = request.app.state.fleets
    view = partial(outliers_view, f, prop=prop, role=role or "")
    found: OutlierList = await request.app.state.threads.run(
        fleets.read, access.tenant, f, view, ("outliers", prop, role)
    )
    return found


@router.get("/sites/{s}/twins/{twin}/peers")
async def list_peers(
    request: Request,
    access: Reader,
    s: Site,
    twin: TwinName,
    fleet: Annotated[str, Query(pattern=rf"^$|{NAME}", description="one fleet; without it all it is in")] = "",
) -> PeerList:
    """How a twin stands among its peers: rank, percentile and distance from the median."""
    state = request.app.state
    key = TwinKey(access.tenant, s, twin)
    items = await state.threads.run(_peers, state.store, state.fleets, key, fleet)
    return PeerList(site=s, twin=twin, time=to_text(state.clock.wall_ns()), items=items)


def _peers(store: Store, fleets: Fleets, key: TwinKey, fleet: str) -> list[PeerView]:
    store.twin(key)
    names = [fleet] if fleet else fleets.fleets_of(key)
    found = []
    for name in names:
        found += fleets.read(key.tenant, name, partial(peer_views, name, stale_ns=fleets.stale_ns, key=key))
    return found


def _demand(condition: Condition) -> Demand:
    nothing = condition.if_none_match
    return Demand(
        revisions=condition.revisions,
        present=condition.if_match is not None,
        absent=nothing is not None and nothing.everything,
    )
