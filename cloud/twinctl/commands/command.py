"""`twinctl command list|show|approve|cancel`: commands that were issued, and how far they are."""

from __future__ import annotations

import click

from twinctl.options import Noun, client_of, confirm
from twinctl.paths import twin_path
from twinctl.render import Column, Json, emit, field_of, instant, say, text_of
from twinmodel.errors import Exit

STATES = ("WAITING_APPROVAL", "PENDING", "SENT", "ACCEPTED", "SUCCEEDED", "FAILED", "UNKNOWN")


@click.group(cls=Noun)
def command() -> None:
    """Commands to devices: list, show, approve, cancel. `twinctl twin command` issues one."""


@command.command("list")
@click.option("--twin", "name", default="", metavar="TWIN", help="Only of this twin.")
@click.option("--site", default="", help="Only of this site.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state; WAITING_APPROVAL: those to be approved.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.pass_context
def list_(ctx: click.Context, name: str, site: str, state: str | None, limit: int) -> None:
    """List commands, newest first."""
    client = client_of(ctx)
    if name:
        site, name = client.twin(name)
    rows = list(client.pages("/commands", limit=limit, site=site, twin=name, state=state))
    emit(ctx, rows, _LIST, empty="no commands")


@command.command()
@click.argument("twin")
@click.argument("id")
@click.pass_context
def show(ctx: click.Context, twin: str, id: str) -> None:  # noqa: A002 - the argument's name
    """Show command ID of TWIN with each of its steps; exits 1 when it failed, 3 when nobody knows."""
    client = client_of(ctx)
    view = client.get(f"{twin_path(*client.twin(twin))}/commands/{id}")
    emit(ctx, view, COMMAND)
    ctx.exit(exit_of(view))


@command.command()
@click.argument("twin")
@click.argument("id")
@click.pass_context
def approve(ctx: click.Context, twin: str, id: str) -> None:  # noqa: A002 - the argument's name
    """Approve command ID of TWIN, which another person has issued."""
    client = client_of(ctx)
    path = f"{twin_path(*client.twin(twin))}/commands/{id}"
    view = client.get(path)
    confirm(ctx, f"{view['issued_by']} wants: {what_of(view)}. Why: {view['why'] or '-'}. Approve?")
    emit(ctx, client.send("POST", f"{path}:approve", {}), COMMAND)


@command.command()
@click.argument("twin")
@click.argument("id")
@click.pass_context
def cancel(ctx: click.Context, twin: str, id: str) -> None:  # noqa: A002 - the argument's name
    """Cancel command ID of TWIN, as long as it was not sent."""
    client = client_of(ctx)
    emit(ctx, client.send("POST", f"{twin_path(*client.twin(twin))}/commands/{id}:cancel", {}), COMMAND)


def what_of(view: Json) -> str:
    """What a command does, in one phrase."""
    name = f"{view['site']}/{view['twin']} {view['property'] or view['target']}"
    if view["kind"] == "call":
        return f"call {view['target']}({', '.join(text_of(one) for one in view['arguments'])}) at {view['gateway']}"
    return f"{view['kind']} {name} = {text_of(view['value'])} {view['unit']}".rstrip()


def exit_of(view: Json) -> int:
    """The exit code that a command's state stands for."""
    return int({"FAILED": Exit.FAILED, "UNKNOWN": Exit.UNHEALTHY}.get(view["state"], Exit.OK))


def step_line(step: Json) -> str:
    """A step as a line."""
    back = "" if step["read_back"] is None else f", read back {text_of(step['read_back'])}"
    why = ": ".join(part for part in (step["reason"], step["detail"]) if part)
    return f"{instant(step['at'])} {step['step']} by {step['by']}{back}{'  ' + why if why else ''}"


def tell(view: Json, told: int) -> int:
    """Says the steps that were not said yet; how many there are now."""
    for step in view["steps"][told:]:
        say(step_line(step))
    return len(view["steps"])


_LIST: list[Column] = [
    ("id", field_of("id")),
    ("state", field_of("state")),
    ("what", what_of),
    ("read back", field_of("read_back")),
    ("by", field_of("issued_by")),
    ("approved", lambda c: f"{len(c['approved_by'])} of {c['approvals']}" if c["approvals"] else None),
    ("issued", lambda c: instant(c["issued"])),
    ("reason", field_of("reason")),
]
COMMAND: list[Column] = [
    ("id", field_of("id")),
    ("state", field_of("state")),
    ("what", what_of),
    ("why", field_of("why")),
    ("gateway", field_of("gateway")),
    ("read back", field_of("read_back")),
    ("reason", lambda c: ": ".join(part for part in (c["reason"], c["detail"]) if part)),
    ("hint", lambda c: c["hint"] if c["reason"] else None),
    ("deadline", lambda c: instant(c["deadline"])),
    (
        "approved",
        lambda c: f"{', '.join(c['approved_by']) or 'nobody'}, {c['approvals']} needed" if c["approvals"] else None,
    ),
    ("steps", lambda c: "\n".join(step_line(one) for one in c["steps"])),
]
