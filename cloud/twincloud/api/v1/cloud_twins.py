"""Twins that run in the cloud: what feeds them, which model, how far they are."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request, status
from pydantic import Field

from twincloud.api.auth import Access, allow
from twincloud.api.times import parse, to_text, to_text_or_none
from twincloud.api.v1.paging import Site, TwinName
from twincloud.api.v1.schemas import NAME, Shape
from twincloud.estimate.asking import Wanted, run_in_cloud
from twincloud.storage.contract import TwinKey
from twincloud.storage.records_cloud import CloudTwin, Feed
from twinmodel.clock import SECOND_NS

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["cloud twins"])

Reader = Annotated[Access, Depends(allow("twins.read"))]
Runner = Annotated[Access, Depends(allow("twins.run"))]
Role = Literal["measured", "estimate", "prediction", "substitute"]
Port = Annotated[str, Path(max_length=64)]


class FeedShape(Shape):
    """What feeds a port of the model."""

    site: str = Field("", pattern=f"^$|{NAME}", description="the site of the twin itself")
    twin: str = Field(pattern=NAME)
    property: str = Field(min_length=1, max_length=256)
    role: Role = "measured"


class RunRequest(Shape):
    """How a twin shall run in the cloud."""

    model: str = Field(pattern=r"^[^@\s]{1,128}@[^@\s]{1,64}$", description="name@version")
    inputs: dict[str, FeedShape] = Field(max_length=64)
    outputs: dict[str, FeedShape] = Field({}, max_length=64, description="outputs that something measures")
    wait_s: float = Field(60.0, ge=0, le=86_400, description="patience with the slowest feed, in event time")
    since: str = Field("", max_length=64, description="RFC 3339; the first tick is not before; now")


class RunView(Shape):
    """How a twin runs in the cloud; `reason` says why it stands still."""

    site: str
    twin: str
    run: Literal["cloud"]
    model: str
    inputs: dict[str, FeedShape]
    outputs: dict[str, FeedShape]
    wait_s: float
    since: str
    created_by: str
    created: str
    tick: str | None
    ticks: int
    revised: int = Field(description="how often late samples made it compute ticks again")
    too_late: int = Field(description="late samples from before its oldest checkpoint, which changed nothing")
    waits_for: list[FeedShape] = Field(description="feeds that have said nothing yet, or the least far of them")
    reason: str
    detail: str


class RunList(Shape):
    """All twins of a tenant that run in the cloud."""

    items: list[RunView]
    next_page_token: str


def _view(twin: CloudTwin) -> RunView:
    reached = [(twin.reached.get(feed, 0), feed) for feed in twin.wiring.feeds]
    slowest = min((t_ns for t_ns, _ in reached), default=0)
    furthest = max((t_ns for t_ns, _ in reached), default=0)
    waits_for = [feed for t_ns, feed in reached if t_ns == slowest and (slowest < furthest or not slowest)]
    return RunView(
        site=twin.key.site,
        twin=twin.key.twin,
        run="cloud",
        model=twin.model,
        inputs={port: _feed_view(feed) for port, feed in twin.wiring.inputs.items()},
        outputs={port: _feed_view(feed) for port, feed in twin.wiring.outputs.items()},
        wait_s=twin.wait_ns / SECOND_NS,
        since=to_text(twin.since_ns),
        created_by=twin.created_by,
        created=to_text(twin.created_ns),
        tick=to_text_or_none(twin.tick_ns),
        ticks=twin.ticks,
        revised=twin.revised,
        too_late=twin.too_late,
        waits_for=[_feed_view(feed) for feed in waits_for],
        reason=twin.reason,
        detail=twin.detail,
    )


def _feed_view(feed: Feed) -> FeedShape:
    return FeedShape.model_validate({"site": feed.site, "twin": feed.twin, "property": feed.prop, "role": feed.role})


@router.get("/cloudTwins")
async def list_cloud_twins(request: Request, access: Reader) -> RunList:
    """All twins of the tenant that run in the cloud."""
    state = request.app.state
    found = await state.threads.run(state.store.cloud_twins, access.tenant)
    return RunList(items=[_view(twin) for twin in found], next_page_token="")


@router.get("/sites/{s}/twins/{twin}/run")
async def get_run(request: Request, access: Reader, s: Site, twin: TwinName) -> RunView:
    """How a twin runs in the cloud, and how far it is."""
    state = request.app.state
    return _view(await state.threads.run(state.store.cloud_twin, TwinKey(access.tenant, s, twin)))


@router.put("/sites/{s}/twins/{twin}/run")
async def put_run(request: Request, access: Runner, s: Site, twin: TwinName, wanted: RunRequest) -> RunView:
    """Has a twin run in the cloud; the same again, or another model or wiring, begins anew from a fresh state."""
    state = request.app.state
    now_ns = state.clock.wall_ns()
    inputs, outputs = (
        {port: Feed(one.site or s, one.twin, one.property, one.role) for port, one in some.items()}
        for some in (wanted.inputs, wanted.outputs)
    )
    since_ns = parse(wanted.since, "since") if wanted.since else now_ns
    key = TwinKey(access.tenant, s, twin)
    asked = Wanted(
        key, wanted.model, inputs, outputs, round(wanted.wait_s * SECOND_NS), since_ns, access.principal.name
    )
    return _view(await state.threads.run(run_in_cloud, state.store, asked, now_ns))


@router.delete("/sites/{s}/twins/{twin}/run", status_code=status.HTTP_204_NO_CONTENT)
async def delete_run(request: Request, access: Runner, s: Site, twin: TwinName) -> None:
    """Ends a twin in the cloud; what it said stays in history."""
    state = request.app.state
    await state.threads.run(state.store.drop_cloud_twin, TwinKey(access.tenant, s, twin), state.clock.wall_ns())
