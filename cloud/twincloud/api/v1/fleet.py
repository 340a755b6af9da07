"""The fleet and its sites."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from twincloud.api.auth import Access, allow
from twincloud.api.v1.paging import PAGE_MAX, PageSize, PageToken, slice_of
from twincloud.api.v1.schemas import FleetSummary, SiteList

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["fleet"])

Reader = Annotated[Access, Depends(allow("fleet.read"))]


@router.get("/fleet")
async def get_fleet(request: Request, access: Reader) -> FleetSummary:
    """The FLEET page in numbers, at most a second old."""
    summary: FleetSummary = await request.app.state.fleet.summary(access.tenant)
    return summary


@router.get("/sites")
async def list_sites(
    request: Request, access: Reader, page_size: PageSize = PAGE_MAX, page_token: PageToken = ""
) -> SiteList:
    """All sites with their health."""
    summary: FleetSummary = await request.app.state.fleet.summary(access.tenant)
    items, following = slice_of(summary.sites, lambda one: (one.site,), f"sites:{access.tenant}", page_size, page_token)
    return SiteList(items=items, next_page_token=following)
