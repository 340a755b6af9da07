"""Commands: what people tell the device of a twin to do, once, and what became of it.

POST /sites/{s}/twins/{twin}/commands                      CommandRequest -> CommandView, Location
GET  /sites/{s}/twins/{twin}/commands                      CommandList
GET  /sites/{s}/twins/{twin}/commands/{command}            CommandView
GET  /sites/{s}/twins/{twin}/commandables                  CommandablesView
POST /sites/{s}/twins/{twin}/commands/{command}:approve    CommandView
POST /sites/{s}/twins/{twin}/commands/{command}:cancel     CommandView
GET  /commands?site=&twin=&state=                          CommandList
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status
from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from twincloud.api.auth import Access, allow
from twincloud.api.times import to_text, to_text_or_none
from twincloud.api.v1.alarm_shapes import COMMENT
from twincloud.api.v1.paging import PageSize, PageToken, Site, SiteFilter, TwinName, seal, unseal
from twincloud.api.v1.schemas import Shape
from twincloud.storage.contract import TwinKey
from twincloud.storage.records_commands import CommandRecord, CommandState, Order, StepRecord
from twincloud.twins.commanding import Target
from twinmodel.clock import SECOND_NS
from twinmodel.errors import REASONS, InputError
from twinmodel.signal import Kind as SignalKind
from twinsync.command import Arguments, CommandKind

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["commands"])

Reader = Annotated[Access, Depends(allow("commands.read"))]
Issuer = Annotated[Access, Depends(allow("commands.issue"))]
Approver = Annotated[Access, Depends(allow("commands.approve"))]
Canceller = Annotated[Access, Depends(allow("commands.cancel"))]
CommandId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]

Kind = Literal["write", "call", "hold"]
State = Literal["WAITING_APPROVAL", "PENDING", "SENT", "ACCEPTED", "SUCCEEDED", "FAILED", "UNKNOWN"]
Scalar: TypeAlias = StrictBool | StrictInt | StrictFloat | StrictStr
Said: TypeAlias = Scalar | list[Scalar | None] | None
KINDS: dict[Kind, CommandKind] = {
    "write": CommandKind.WRITE,
    "call": CommandKind.CALL,
    "hold": CommandKind.HOLD,
}
VALUES: dict[SignalKind, Literal["number", "whole", "boolean", "text"]] = {
    SignalKind.FLOAT: "number",
    SignalKind.INT: "whole",
    SignalKind.BOOL: "boolean",
    SignalKind.STRING: "text",
}
DEADLINE_S = 30.0
DEADLINE_S_MAX = 3_600.0


class CommandRequest(Shape):
    """What the device shall do; its gateway's own rules are asked when it gets there."""

    property: str = Field("", max_length=256, description="of the twin; the point it is bound to is meant")
    target: str = Field("", max_length=256, description="`device.point` or `device.method`, in place of `property`")
    kind: Kind = Field("write", description="write once, call a method, or hold a value beside the device's watchdog")
    value: Scalar | None = Field(None, description="for write and hold")
    arguments: list[Scalar] = Field([], max_length=32, description="for call")
    unit: str = Field("", max_length=64, description="of the value; that of the point when it is left out")
    deadline_s: float = Field(DEADLINE_S, gt=0, le=DEADLINE_S_MAX, description="from now; later nothing is written")
    approvals: int = Field(0, ge=0, le=8, description="how many others must approve it before it is sent")
    why: str = Field("", max_length=500, pattern=COMMENT, description="what for")


class CommandStepView(Shape):
    """One step of a command."""

    step: str
    at: str
    by: str
    reason: str
    detail: str
    read_back: Said


class CommandView(Shape):
    """A command and how far it is; `UNKNOWN` means sent and not answered, it may have been carried out."""

    id: str
    site: str
    twin: str
    gateway: str
    kind: Kind
    property: str
    target: str
    value: Scalar | None
    arguments: list[Scalar | None]
    unit: str
    why: str
    state: State
    open: bool = Field(description="whether it is still on its way")
    reason: str
    detail: str
    hint: str
    read_back: Said
    issued: str
    issued_by: str
    deadline: str
    approvals: int
    approved_by: list[str]
    sent: str | None
    ended: str | None
    steps: list[CommandStepView]


class CommandList(Shape):
    """A page of commands."""

    items: list[CommandView]
    next_page_token: str


class CommandableView(Shape):
    """Something that may be commanded, as its gateway says; it judges each command anew."""

    target: str
    property: str = Field(description="of the twin, empty where the target is bound to none")
    kinds: list[Kind] = Field(description="write and hold of a point, call of a method")
    value: Literal["number", "whole", "boolean", "text", ""] = Field(description="kind of the value of a point")
    two_persons: bool = Field(description="class B: another person must approve it")
    unit: str
    low: float | None
    high: float | None


class CommandablesView(Shape):
    """What may be commanded by way of a twin, what is bound to it first.

    `told` says whether the gateway has said it; of one that has not, these are the points bound to the twin.
    """

    gateway: str
    connected: bool
    told: bool
    items: list[CommandableView]


def command_view(command: CommandRecord) -> CommandView:
    """A command as REST and the event stream show it."""
    call = command.kind is CommandKind.CALL
    listed = command.arguments if isinstance(command.arguments, list | tuple) else ()
    kind: Kind = next((name for name, one in KINDS.items() if one is command.kind), "write")
    return CommandView(
        id=command.id,
        site=command.key.site,
        twin=command.key.twin,
        gateway=command.gateway.gateway,
        kind=kind,
        property=command.property,
        target=command.target,
        value=None if call or listed else _said(command.arguments),
        arguments=[*listed],
        unit=command.unit,
        why=command.why,
        state=command.state.value,
        open=command.ended_ns == 0,
        reason=command.reason,
        detail=command.detail,
        hint=REASONS[command.reason].hint if command.reason in REASONS else "",
        read_back=_said(command.read_back),
        issued=to_text(command.issued_ns),
        issued_by=command.issued_by,
        deadline=to_text(command.deadline_ns),
        approvals=command.approvals,
        approved_by=list(command.approved_by),
        sent=to_text_or_none(command.sent_ns),
        ended=to_text_or_none(command.ended_ns),
        steps=[_step_view(one) for one in command.steps],
    )


@router.post("/sites/{s}/twins/{twin}/commands", status_code=status.HTTP_202_ACCEPTED)
async def issue_command(
    request: Request, response: Response, access: Issuer, s: Site, twin: TwinName, wanted: CommandRequest
) -> CommandView:
    """Tells the device of a twin to do something, once; send an Idempotency-Key, so that a second try is no second one.

    It is sent in the gateway's open session or not at all: GATEWAY_OFFLINE when there is none.
    """
    state = request.app.state
    key = TwinKey(access.tenant, s, twin)
    command = await state.threads.run(
        state.store.issue_command, key, _order(wanted), by=access.principal.name, now_ns=state.clock.wall_ns()
    )
    response.headers["Location"] = f"/api/v1/tenants/{access.tenant}/sites/{s}/twins/{twin}/commands/{command.id}"
    return await _rung(request, command)


@router.get("/sites/{s}/twins/{twin}/commands")
async def list_twin_commands(
    request: Request,
    access: Reader,
    s: Site,
    twin: TwinName,
    state: Annotated[State | Literal[""], Query()] = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> CommandList:
    """Commands of a twin with all their steps, newest first."""
    await request.app.state.threads.run(request.app.state.store.twin_record, TwinKey(access.tenant, s, twin))
    return await _page(request, access, s, twin, state, page_size, page_token)


@router.get("/commands")
async def list_commands(
    request: Request,
    access: Reader,
    site: SiteFilter = "",
    twin: SiteFilter = "",
    state: Annotated[State | Literal[""], Query()] = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> CommandList:
    """Commands of all twins with all their steps, newest first; those that wait with `state=WAITING_APPROVAL`."""
    return await _page(request, access, site, twin, state, page_size, page_token)


@router.get("/sites/{s}/twins/{twin}/commands/{command}")
async def get_command(request: Request, access: Reader, s: Site, twin: TwinName, command: CommandId) -> CommandView:
    """One command with all its steps."""
    state = request.app.state
    return command_view(await state.threads.run(state.store.command, TwinKey(access.tenant, s, twin), command))


@router.get("/sites/{s}/twins/{twin}/commandables")
async def list_commandables(request: Request, access: Reader, s: Site, twin: TwinName) -> CommandablesView:
    """What the gateway of a twin lets be commanded now, of which class and within which range."""
    state = request.app.state
    targets = await state.threads.run(state.store.commandables, TwinKey(access.tenant, s, twin))
    return CommandablesView(
        gateway=targets.gateway,
        connected=targets.connected,
        told=targets.told,
        items=[_target_view(one) for one in targets.found],
    )


@router.post("/sites/{s}/twins/{twin}/commands/{command}:approve")
async def approve_command(
    request: Request, access: Approver, s: Site, twin: TwinName, command: CommandId
) -> CommandView:
    """Approves what another person has issued; with the last approval it is sent."""
    return await _changed(
        request, access, request.app.state.store.approve_command, TwinKey(access.tenant, s, twin), command
    )


@router.post("/sites/{s}/twins/{twin}/commands/{command}:cancel")
async def cancel_command(
    request: Request, access: Canceller, s: Site, twin: TwinName, command: CommandId
) -> CommandView:
    """Ends a command that was not sent yet."""
    return await _changed(
        request, access, request.app.state.store.cancel_command, TwinKey(access.tenant, s, twin), command
    )


async def _changed(request: Request, access: Access, change: Any, key: TwinKey, command: str) -> CommandView:
    state = request.app.state
    now_ns = state.clock.wall_ns()
    return await _rung(request, await state.threads.run(change, key, command, by=access.principal.name, now_ns=now_ns))


async def _rung(request: Request, command: CommandRecord) -> CommandView:
    state = request.app.state
    state.bus.notify()
    if command.state is CommandState.PENDING:
        await state.threads.run(state.on_directive, command.gateway)
    return command_view(command)


async def _page(
    request: Request, access: Access, site: str, twin: str, wanted: str, page_size: int, page_token: str
) -> CommandList:
    app = request.app.state
    listing = f"commands:{access.tenant}:{site}:{twin}:{wanted}"
    page = await app.threads.run(
        app.store.commands_of, access.tenant, site=site, twin=twin, state=wanted, limit=page_size,
        token=unseal(listing, page_token),
    )  # fmt: skip
    return CommandList(items=[command_view(one) for one in page.items], next_page_token=seal(listing, page.next_token))


def _order(wanted: CommandRequest) -> Order:
    call = wanted.kind == "call"
    for field, given in (("value", call and wanted.value is not None), ("arguments", not call and wanted.arguments)):
        if given:
            raise InputError("REQUEST_INVALID", f"{field}: a {wanted.kind} has none", field=field)
    arguments: Arguments = tuple(wanted.arguments) if call else wanted.value
    for_ns = max(1, round(wanted.deadline_s * SECOND_NS))
    return Order(
        KINDS[wanted.kind], wanted.property, wanted.target, arguments, wanted.unit, for_ns, wanted.approvals, wanted.why
    )


def _target_view(one: Target) -> CommandableView:
    rule = one.rule
    return CommandableView(
        target=rule.target,
        property=one.property,
        kinds=["call"] if one.kind is None else ["write", "hold"],
        value="" if one.kind is None else VALUES[one.kind],
        two_persons=rule.two_persons,
        unit=rule.unit,
        low=rule.low,
        high=rule.high,
    )


def _step_view(step: StepRecord) -> CommandStepView:
    return CommandStepView(
        step=step.step,
        at=to_text(step.at_ns),
        by=step.by,
        reason=step.reason,
        detail=step.detail,
        read_back=_said(step.read_back),
    )


def _said(value: Arguments) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
