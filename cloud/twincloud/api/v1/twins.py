"""Twins, their history, and the model that shall run for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response, status

from twincloud.api.auth import Access, allow
from twincloud.api.conditional import unchanged
from twincloud.api.filtering import filter_of, left, scan, twin_facts
from twincloud.api.fleets import twin_place
from twincloud.api.times import parse, to_text
from twincloud.api.v1.paging import (
    FilterText,
    PageSize,
    PageToken,
    Site,
    SiteFilter,
    TwinName,
    listing_of,
    seal,
    unseal,
)
from twincloud.api.v1.schemas import AssignRequest, DirectiveView, HistoryView, TwinList, TwinView
from twincloud.api.v1.twin_shapes import StateName
from twincloud.api.views import bucket_view, directive_view, history_view
from twincloud.filters import Filter
from twincloud.storage.contract import Gateway, Store, Twin, TwinKey
from twincloud.storage.kept import Kept
from twincloud.storage.selection import TWIN_COLUMNS, TWIN_FIELDS
from twincloud.storage.tiers import KNOWN_ALL
from twincloud.twins.buckets import WIDTHS_NS
from twincloud.twins.history import KNOWN_ROLES, ROLES
from twincloud.twins.retention import DAY_NS
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError

POINTS_MAX = 20_000
SPAN_DEFAULT_NS = 3_600 * SECOND_NS

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["twins"])

AsOf = Annotated[str, Query(max_length=64, description="event time, RFC 3339: what came after it does not count")]
KnownAt = Annotated[str, Query(max_length=64, description="RFC 3339: what became known after it does not count")]
Resolution = Literal["auto", "raw", "1m", "15m", "1h"]
BUCKETS: tuple[Resolution, ...] = ("1m", "15m", "1h")

Reader = Annotated[Access, Depends(allow("twins.read"))]
Assigner = Annotated[Access, Depends(allow("models.assign"))]


@router.get("/twins", response_model=TwinList)
async def list_twins(
    request: Request,
    access: Reader,
    site: SiteFilter = "",
    filter_text: FilterText = "",
    state: StateName | None = None,
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> Response:
    """Twins by site and name, retired ones if asked for; with a filter a page may be short and not be last."""
    wanted, app = state or "", request.app.state
    chosen = filter_of(filter_text, TWIN_FIELDS)
    listing = listing_of("twins", access.tenant, site, wanted, filter_text)
    token = unseal(listing, page_token)
    list_all = partial(app.store.twins, access.tenant, site=site, state=wanted, chosen=chosen)
    rest = left(chosen, TWIN_COLUMNS)
    if rest is None:
        page = await app.threads.run(list_all, limit=page_size, token=token)
    else:
        gateways, now_ns = await app.fleet.gateways(access.tenant), app.clock.wall_ns()
        passes = partial(_passes, rest, gateways, now_ns=now_ns, stale_ns=app.fleet.stale_ns)
        page = await app.threads.run(scan, list_all, passes, twin_place, limit=page_size, token=token)
    views = await app.fleet.twin_views(access.tenant, page.items)
    # Not handed to the framework: it would look at each value once more, which costs as much as reading them.
    shown = TwinList(items=views, next_page_token=seal(listing, page.next_token))
    return Response(shown.model_dump_json(), media_type="application/json")


def _passes(
    rest: Filter, gateways: Mapping[tuple[str, str], Gateway], twin: Twin, *, now_ns: int, stale_ns: int
) -> bool:
    gateway = gateways.get((twin.key.site, twin.gateway))
    return rest.matches(twin_facts(twin, gateway, now_ns=now_ns, stale_ns=stale_ns))


@router.get("/sites/{s}/twins/{twin}", response_model=TwinView, responses={304: {"description": "unchanged"}})
async def get_twin(
    request: Request, access: Reader, s: Site, twin: TwinName, as_of: AsOf = "", known_at: KnownAt = ""
) -> Response:
    """One twin; the ETag changes with its revision and with its health, which also time alone can change.

    With `as_of` or `known_at` its values are those of then; binding, model and health are those of now.
    """
    if as_of or known_at:
        body = await _twin_of_then(request, TwinKey(access.tenant, s, twin), as_of, known_at)
        return Response(body, headers={"Cache-Control": "private, no-cache"}, media_type="application/json")
    held = await request.app.state.views.twin(TwinKey(access.tenant, s, twin))
    headers = {"ETag": held.tag, "Cache-Control": "private, no-cache"}
    if unchanged(request, held.tag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(held.body, headers=headers, media_type="application/json")


@router.get("/sites/{s}/twins/{twin}/history", response_model=HistoryView)
async def get_history(
    request: Request,
    access: Reader,
    s: Site,
    twin: TwinName,
    prop: Annotated[str, Query(alias="property", min_length=1, max_length=256)],
    roles: Annotated[str, Query(max_length=200, description="comma-separated")] = ",".join(ROLES),
    from_: Annotated[str, Query(alias="from", max_length=64, description="RFC 3339; an hour before `to`")] = "",
    to: Annotated[str, Query(max_length=64, description="RFC 3339; now")] = "",
    points: Annotated[int, Query(ge=1, le=POINTS_MAX)] = 2_000,
    resolution: Annotated[Resolution, Query(description="buckets; auto: raw where the points suffice")] = "raw",
    as_of: AsOf = "",
    known_at: KnownAt = "",
) -> Response:
    """History of one property by role; longer runs keep the newest points and say so.

    In buckets `value` is the mean, `quality` the worst one. With `known_at` the answer is the same for ever.
    """
    state = request.app.state
    # The end is exclusive: by default the value of this very moment is still inside.
    to_ns = parse(to, "to") if to else state.clock.wall_ns() + 1
    from_ns = parse(from_, "from") if from_ else to_ns - SPAN_DEFAULT_NS
    if from_ns >= to_ns:
        raise InputError("REQUEST_INVALID", "from: it is not before `to`", field="from")
    wanted = tuple(dict.fromkeys(role.strip() for role in roles.split(",") if role.strip()))
    unknown = [role for role in wanted if role not in KNOWN_ROLES]
    if unknown or not wanted:
        named = f"{unknown[0]!r} is unknown" if unknown else "none is given"
        raise InputError("REQUEST_INVALID", f"roles: {named}", hint=f"use {', '.join(KNOWN_ROLES)}", field="roles")
    if as_of:
        to_ns = max(from_ns + 1, min(to_ns, parse(as_of, "as_of") + 1))
    key = TwinKey(access.tenant, s, twin)
    known = await _commit_known_at(request, known_at)
    span, of_prop = (from_ns, to_ns), (prop, wanted)
    # Retention keeps a day at least: the charts of now need not ask.
    kept: Mapping[str, Kept] = {}
    if from_ns < state.clock.wall_ns() - DAY_NS:
        kept = await state.threads.run(state.store.kept, key, prop, wanted)
    if known_at:
        _refuse_expired(parse(known_at, "known_at"), max((one.raw_ns for one in kept.values()), default=0))
        kept = {role: Kept(one.raw_ns, one.raw_ns) for role, one in kept.items()}
    if resolution == "auto":
        resolution = resolution_for(to_ns - from_ns, points)
        if resolution == "raw" and any(one.buckets_ns <= from_ns < one.raw_ns for one in kept.values()):
            resolution = "1m"  # minutes outlive their samples
    body = await state.threads.run(_history, state.store, key, of_prop, span, points, resolution, known, kept)
    return Response(body, media_type="application/json")


async def _commit_known_at(request: Request, known_at: str) -> int:
    """The number of the last commit that counts; raises KNOWN_AT_OPEN."""
    if not known_at:
        return KNOWN_ALL
    state = request.app.state
    t_ns = parse(known_at, "known_at")
    number: int = await state.threads.run(state.store.known_at, t_ns, state.clock.wall_ns())
    return number


async def _twin_of_then(request: Request, key: TwinKey, as_of: str, known_at: str) -> str:
    state = request.app.state
    known = await _commit_known_at(request, known_at)
    as_of_ns = parse(as_of, "as_of") if as_of else state.clock.wall_ns()
    twin = await state.threads.run(state.store.twin_as_of, key, as_of_ns, known)
    (view,) = await state.fleet.twin_views(key.tenant, [twin])
    since_ns = (await state.threads.run(state.store.kept_of_twin, key)).raw_ns
    missing = [one for one in view.properties if one.reported is None and one.estimated is None]
    if known_at and len(missing) == len(view.properties):
        _refuse_expired(parse(known_at, "known_at"), since_ns)
    if since_ns and (as_of_ns < since_ns or missing):
        view.expired, view.kept_from = True, to_text(since_ns)
    body: str = view.model_dump_json()
    return body


def _refuse_expired(known_ns: int, since_ns: int) -> None:
    if known_ns < since_ns:
        raise MissingError(
            "KNOWN_AT_EXPIRED",
            f"known_at: retention keeps history from {to_text(since_ns)} on, nothing of what was known before",
            field="known_at",
        )


def resolution_for(span_ns: int, points: int) -> Resolution:
    """The finest resolution of which the points cover a span, samples taken as one a second."""
    fitting: tuple[tuple[Resolution, int], ...] = (("raw", SECOND_NS), *((r, WIDTHS_NS[r]) for r in BUCKETS))
    return next((name for name, width_ns in fitting if span_ns <= points * width_ns), "1h")


def _history(
    store: Store,
    key: TwinKey,
    of_prop: tuple[str, tuple[str, ...]],
    span: tuple[int, int],
    points: int,
    resolution: Resolution,
    known_to: int,
    kept: Mapping[str, Kept],
) -> str:
    (prop, roles), (from_ns, to_ns) = of_prop, span
    known = {p.name: p for p in store.twin(key).properties}
    if prop not in known:
        raise MissingError(
            "NOT_FOUND",
            f"twin {key.twin} has no property {prop!r}",
            hint=f"use one of {', '.join(sorted(known)) or 'none: it has no properties yet'}",
        )
    if resolution == "raw":
        series = store.history(key, prop, roles, from_ns, to_ns, points, known=known_to)
        view = history_view(known[prop], dict(series), from_ns=from_ns, to_ns=to_ns)
    else:
        found = store.buckets(key, prop, roles, from_ns, to_ns, resolution, known=known_to)
        view = bucket_view(known[prop], found, resolution, points, from_ns=from_ns, to_ns=to_ns)
    for role, one in kept.items():
        since_ns = one.raw_ns if resolution == "raw" else one.buckets_ns
        if from_ns < since_ns:
            view.series[role].expired, view.series[role].kept_from = True, to_text(since_ns)
            view.expired = True
    return view.model_dump_json()


@router.put("/sites/{s}/twins/{twin}/model", status_code=status.HTTP_202_ACCEPTED)
async def assign_model(
    request: Request, access: Assigner, s: Site, twin: TwinName, wanted: AssignRequest
) -> DirectiveView:
    """Sets the model that shall run for a twin; the directive tells how that went."""
    state = request.app.state
    now_ns = state.clock.wall_ns()
    directive = await state.threads.run(
        state.store.assign_model,
        TwinKey(access.tenant, s, twin),
        wanted.model,
        by=access.principal.name,
        now_ns=now_ns,
        deadline_ns=now_ns + wanted.deadline_s * SECOND_NS,
    )
    state.bus.notify()
    await state.threads.run(state.on_directive, directive.gateway)
    return directive_view(directive)
