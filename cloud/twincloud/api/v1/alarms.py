"""Alarms: what stands, what led to it, and what people have to say of it."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from twincloud.api.alarm_views import acked_view, alarm_view, counts_view, step_view
from twincloud.api.auth import Access, allow
from twincloud.api.filtering import filter_of
from twincloud.api.times import parse
from twincloud.api.v1.alarm_shapes import (
    ID,
    AckAllRequest,
    AckAllView,
    AckRequest,
    AlarmJournal,
    AlarmList,
    AlarmPriority,
    AlarmState,
    AlarmView,
    CommentRequest,
    ShelveRequest,
)
from twincloud.api.v1.paging import FilterText, PageSize, PageToken, SiteFilter, listing_of, seal, unseal
from twincloud.api.v1.schemas import NAME, AlarmCounts
from twincloud.storage.alarms import ALARM_FIELDS
from twincloud.storage.records_alarms import Alarm, AlarmAsk, AlarmChoice, Do
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, TwinError

JOURNAL_MAX = 1_000
JOURNAL_NS = 7 * 86_400 * SECOND_NS

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["alarms"])

Reader = Annotated[Access, Depends(allow("alarms.read"))]
Acker = Annotated[Access, Depends(allow("alarms.ack"))]
Shelver = Annotated[Access, Depends(allow("alarms.shelve"))]
Keeper = Annotated[Access, Depends(allow("alarms.service"))]
AlarmId = Annotated[str, Path(pattern=ID)]
Name = Annotated[str, Query(pattern=rf"^$|{NAME}")]


@router.get("/alarms")
async def list_alarms(
    request: Request,
    access: Reader,
    site: SiteFilter = "",
    gateway: Name = "",
    twin: Name = "",
    state: AlarmState | None = None,
    priority: AlarmPriority | None = None,
    cause: Annotated[str, Query(max_length=256, description="consequences of this alarm or device")] = "",
    active: Annotated[bool | None, Query(description="whether the condition holds")] = None,
    acked: Annotated[bool | None, Query(description="whether somebody has seen it")] = None,
    standing: Annotated[bool | None, Query(description="whether its state is another than NORM")] = None,
    filter_text: FilterText = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> AlarmList:
    """Alarms by priority, those that changed last first."""
    app = request.app.state
    wanted = AlarmChoice(site, gateway, twin, state or "", priority or "", cause, active, acked, standing)
    listing = listing_of("alarms", access.tenant, repr(wanted) + filter_text)
    find = partial(app.store.alarms, access.tenant, wanted, chosen=filter_of(filter_text, ALARM_FIELDS))
    page = await app.threads.run(find, limit=page_size, token=unseal(listing, page_token))
    return AlarmList(items=[alarm_view(one) for one in page.items], next_page_token=seal(listing, page.next_token))


@router.get("/alarms:summary")
async def get_alarm_summary(request: Request, access: Reader) -> AlarmCounts:
    """All alarms in numbers, as a console shows them on each of its pages."""
    app = request.app.state
    return counts_view(await app.threads.run(app.store.alarm_marks, access.tenant))


@router.get("/alarms/{alarm}")
async def get_alarm(request: Request, access: Reader, alarm: AlarmId) -> AlarmView:
    """One alarm."""
    app = request.app.state
    return alarm_view(await app.threads.run(app.store.alarm, access.tenant, alarm))


@router.get("/alarms/{alarm}/journal")
async def get_alarm_journal(
    request: Request,
    access: Reader,
    alarm: AlarmId,
    from_: Annotated[str, Query(alias="from", max_length=64, description="RFC 3339; a week before `to`")] = "",
    to: Annotated[str, Query(max_length=64, description="RFC 3339; now")] = "",
    limit: Annotated[int, Query(ge=1, le=JOURNAL_MAX)] = 100,
) -> AlarmJournal:
    """Every step of an alarm, out of the history of its gateway; of the coordinator's own alarms nothing is kept."""
    app = request.app.state
    # The end is exclusive: by default the step of this very moment is still inside.
    to_ns = parse(to, "to") if to else app.clock.wall_ns() + SECOND_NS
    from_ns = parse(from_, "from") if from_ else to_ns - JOURNAL_NS
    if from_ns >= to_ns:
        raise InputError("REQUEST_INVALID", "from: it is not before `to`", field="from")
    found = await app.threads.run(app.store.alarm, access.tenant, alarm)
    steps = await app.threads.run(app.store.alarm_journal, found, from_ns, to_ns, limit + 1)
    return AlarmJournal(items=[step_view(step) for step in steps[:limit]], truncated=len(steps) > limit)


@router.post("/alarms/{alarm}:ack")
async def acknowledge_alarm(request: Request, access: Acker, alarm: AlarmId, wanted: AckRequest) -> AlarmView:
    """Acknowledges an alarm; `pending` until its gateway says so."""
    asked = AlarmAsk(alarm, "ack", access.principal.name, wanted.occurrence, comment=wanted.comment)
    return await _ask_one(request, access.tenant, asked)


@router.post("/alarms/{alarm}:shelve")
async def shelve_alarm(request: Request, access: Shelver, alarm: AlarmId, wanted: ShelveRequest) -> AlarmView:
    """Hides an alarm for a time, after which it is told anew if it still holds."""
    asked = AlarmAsk(alarm, "shelve", access.principal.name, wanted.occurrence, wanted.for_s, wanted.comment)
    return await _ask_one(request, access.tenant, asked)


@router.post("/alarms/{alarm}:unshelve")
async def unshelve_alarm(request: Request, access: Shelver, alarm: AlarmId, wanted: CommentRequest) -> AlarmView:
    """Ends shelving."""
    return await _say(request, access, alarm, "unshelve", wanted)


@router.post("/alarms/{alarm}:comment")
async def comment_alarm(request: Request, access: Acker, alarm: AlarmId, wanted: CommentRequest) -> AlarmView:
    """Says something of an alarm; it stands in its journal."""
    if not wanted.comment.strip():
        raise InputError("REQUEST_INVALID", "comment: it is empty", field="comment")
    return await _say(request, access, alarm, "comment", wanted)


@router.post("/alarms/{alarm}:outOfService")
async def take_alarm_out(request: Request, access: Keeper, alarm: AlarmId, wanted: CommentRequest) -> AlarmView:
    """Takes an alarm out of service, as for maintenance, until somebody puts it back."""
    return await _say(request, access, alarm, "out_of_service", wanted)


@router.post("/alarms/{alarm}:inService")
async def put_alarm_back(request: Request, access: Keeper, alarm: AlarmId, wanted: CommentRequest) -> AlarmView:
    """Puts an alarm back into service."""
    return await _say(request, access, alarm, "in_service", wanted)


@router.post("/alarms:ack")
async def acknowledge_alarms(request: Request, access: Acker, wanted: AckAllRequest) -> AckAllView:
    """Acknowledges several alarms; one that is refused leaves the others."""
    by = access.principal.name
    asked = [AlarmAsk(one.alarm, "ack", by, one.occurrence, comment=wanted.comment) for one in wanted.items]
    answers = await _ask(request, access.tenant, asked)
    return AckAllView(items=[acked_view(one.id, answer) for one, answer in zip(asked, answers, strict=True)])


async def _say(request: Request, access: Access, alarm: str, do: Do, wanted: CommentRequest) -> AlarmView:
    return await _ask_one(request, access.tenant, AlarmAsk(alarm, do, access.principal.name, comment=wanted.comment))


async def _ask_one(request: Request, tenant: str, asked: AlarmAsk) -> AlarmView:
    (answer,) = await _ask(request, tenant, [asked])
    if isinstance(answer, TwinError):
        raise answer
    return alarm_view(answer)


async def _ask(request: Request, tenant: str, asked: list[AlarmAsk]) -> list[Alarm | TwinError]:
    """Asks, and wakes the sessions of gateways that have something to do."""
    app = request.app.state
    answers: list[Alarm | TwinError] = await app.threads.run(app.store.ask_alarms, tenant, asked, app.clock.wall_ns())
    told = [one for one in answers if isinstance(one, Alarm) and one.action is not None and not one.action.outcome]
    for gateway in dict.fromkeys(one.gateway for one in told):
        app.on_directive(gateway)
    app.bus.notify()
    return answers
