"""Gateways, their loss ledger, every stored sample of them, how coarse they are to be, and invitations."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, status

from twincloud.api.auth import Access, allow
from twincloud.api.filtering import Facts, filter_of, gateway_facts, gateway_place, left, scan
from twincloud.api.times import to_text
from twincloud.api.v1.holdings import LossList, SampleList, WishList, WishRequest, WishView
from twincloud.api.v1.paging import (
    PAGE_MAX,
    FilterText,
    GatewayName,
    PageSize,
    PageToken,
    Site,
    SiteFilter,
    listing_of,
    seal,
    slice_of,
    unseal,
)
from twincloud.api.v1.schemas import (
    GatewayList,
    GatewayView,
    InviteRequest,
    InviteView,
)
from twincloud.api.views import loss_view, sample_views, wish_view
from twincloud.estimate.publishing import GATEWAY
from twincloud.filters import Filter
from twincloud.identity.tokens import INVITE_PREFIX, hash_of, new_secret
from twincloud.storage.contract import Gateway, GatewayKey, Store, Wish
from twincloud.storage.selection import GATEWAY_COLUMNS, GATEWAY_FIELDS
from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.errors import ConflictError, InputError
from twinmodel.signal import Stream

SAMPLES_MAX = 50_000
NUMBER_MAX = 2**63 - 1

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["gateways"])

Reader = Annotated[Access, Depends(allow("gateways.read"))]
Auditor = Annotated[Access, Depends(allow("samples.read"))]
Coarsener = Annotated[Access, Depends(allow("gateways.coarsen"))]
Inviter = Annotated[Access, Depends(allow("gateways.invite"))]


@router.get("/gateways")
async def list_gateways(
    request: Request,
    access: Reader,
    site: SiteFilter = "",
    filter_text: FilterText = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> GatewayList:
    """Gateways by site and name; with a filter a page may be short and still not be the last."""
    state = request.app.state
    chosen = filter_of(filter_text, GATEWAY_FIELDS)
    listing = listing_of("gateways", access.tenant, site, filter_text)
    token = unseal(listing, page_token)
    list_all = partial(state.store.gateways, access.tenant, site=site, chosen=chosen)
    rest = left(chosen, GATEWAY_COLUMNS)
    if rest is None:
        page = await state.threads.run(list_all, limit=page_size, token=token)
    else:
        facts = partial(gateway_facts, now_ns=state.clock.wall_ns(), stale_ns=state.fleet.stale_ns)
        passes = partial(_passes, rest, facts)
        page = await state.threads.run(scan, list_all, passes, gateway_place, limit=page_size, token=token)
    views = await state.fleet.gateway_views(access.tenant, page.items)
    return GatewayList(items=views, next_page_token=seal(listing, page.next_token))


def _passes(rest: Filter, facts: Callable[[Gateway], Facts], gateway: Gateway) -> bool:
    return rest.matches(facts(gateway))


@router.get("/sites/{s}/gateways/{g}")
async def get_gateway(request: Request, access: Reader, s: Site, g: GatewayName) -> GatewayView:
    """One gateway."""
    view: GatewayView = await request.app.state.fleet.gateway_view(GatewayKey(access.tenant, s, g))
    return view


@router.get("/sites/{s}/gateways/{g}/losses")
async def list_losses(
    request: Request,
    access: Reader,
    s: Site,
    g: GatewayName,
    page_size: PageSize = PAGE_MAX,
    page_token: PageToken = "",
) -> LossList:
    """The loss ledger: every declared hole, in the order of declaration."""
    state = request.app.state
    listing = f"losses:{access.tenant}:{s}:{g}"
    token = unseal(listing, page_token)
    page = await state.threads.run(state.store.loss_page, GatewayKey(access.tenant, s, g), limit=page_size, token=token)
    return LossList(items=[loss_view(loss) for loss in page.items], next_page_token=seal(listing, page.next_token))


@router.get("/sites/{s}/gateways/{g}/wishes")
async def list_wishes(
    request: Request,
    access: Reader,
    s: Site,
    g: GatewayName,
    page_size: PageSize = PAGE_MAX,
    page_token: PageToken = "",
) -> WishList:
    """Coarser periods the gateway is asked for now."""
    state = request.app.state
    now_ns = state.clock.wall_ns()
    wishes = await state.threads.run(state.store.wishes, GatewayKey(access.tenant, s, g), now_ns)
    listing = f"wishes:{access.tenant}:{s}:{g}"
    items, following = slice_of(
        [wish_view(wish) for wish in wishes], lambda one: (one.stream, one.signal), listing, page_size, page_token
    )
    return WishList(items=items, next_page_token=following)


@router.post("/sites/{s}/gateways/{g}:coarsen")
async def coarsen_gateway(
    request: Request, access: Coarsener, s: Site, g: GatewayName, wanted: WishRequest
) -> WishView:
    """Asks a gateway for a coarser period of signals of no twin, now and in each of its sessions; 0 ends that."""
    state = request.app.state
    now_ns = state.clock.wall_ns()
    key = GatewayKey(access.tenant, s, g)
    wish = Wish(
        Stream[wanted.stream.upper()],
        wanted.signal,
        round(wanted.period_s * 1000) * MILLISECOND_NS,
        now_ns + wanted.ttl_s * SECOND_NS if wanted.ttl_s else 0,
        now_ns,
        access.principal.name,
    )
    await state.threads.run(state.store.wish, key, wish)
    state.on_directive(key)
    return wish_view(wish)


@router.get("/sites/{s}/gateways/{g}/samples", response_model=SampleList)
async def list_samples(
    request: Request,
    access: Auditor,
    s: Site,
    g: GatewayName,
    after: Annotated[str, Query(max_length=20, description="next_page_token of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=SAMPLES_MAX)] = 10_000,
) -> Response:
    """Every sample in the database in commit order, for audits; `archived` says how many the archive holds beside."""
    state = request.app.state
    if after and (re.fullmatch(r"[0-9]{1,19}", after) is None or int(after) > NUMBER_MAX):
        raise InputError("REQUEST_INVALID", "after: it is no token of this list", field="after")
    key = GatewayKey(access.tenant, s, g)
    body = await state.threads.run(_samples, state.store, key, int(after or 0), limit)
    return Response(body, media_type="application/json")


def _samples(store: Store, key: GatewayKey, after: int, limit: int) -> str:
    # Serialised in the thread that read them: tens of thousands of samples would hold up the loop.
    page = store.samples(key, after=after, limit=limit)
    items = [view for signal, batch in page.items for view in sample_views(signal, batch)]
    archived = store.archived_samples(key)
    return SampleList.model_construct(items=items, next_page_token=page.next_token, archived=archived).model_dump_json()


@router.post("/gateways:invite", status_code=status.HTTP_201_CREATED)
async def invite_gateway(request: Request, access: Inviter, wanted: InviteRequest) -> InviteView:
    """Lets one gateway join within the time given; the token is shown this once."""
    state = request.app.state
    if state.ca is None:
        raise ConflictError("NOT_INITIALISED", "this coordinator has no certificate authority")
    token = new_secret(INVITE_PREFIX)
    if wanted.gateway == GATEWAY:
        message = f"gateway: {GATEWAY!r} is the name under which twins in the cloud speak, no machine may have it"
        raise InputError("REQUEST_INVALID", message, hint="choose another name", field="gateway")
    now_ns = state.clock.wall_ns()
    expires_ns = now_ns + wanted.ttl_s * SECOND_NS
    key = GatewayKey(access.tenant, wanted.site, wanted.gateway)
    await state.threads.run(state.store.create_invite, key, hash_of(token), now_ns, expires_ns)
    state.bus.notify_gateway(key)
    url = state.addresses.enrol
    return InviteView(
        site=wanted.site,
        gateway=wanted.gateway,
        url=url,
        token=token,
        ca_sha256=state.ca.fingerprint,
        expires=to_text(expires_ns),
        join=f"twinedge join {url} --token {token} --ca-sha256 {state.ca.fingerprint}",
    )
