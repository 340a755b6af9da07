"""`twinctl twin command`: tells the device of a twin to do something, once, and waits for what becomes of it."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING

import click

from twinctl.commands.command import COMMAND, exit_of, tell, what_of
from twinctl.options import Verb, client_of, confirm
from twinctl.paths import twin_path
from twinctl.render import Json, emit, field_of, on_one_terminal, say, text_of
from twinmodel.clock import SECOND_NS, Clock, SystemClock
from twinmodel.errors import ConflictError, InputError, MissingError, UnreachableError

if TYPE_CHECKING:
    from twinctl.client import Client

LOOK_S = 0.25
GRACE_S = 15.0
"""How long after the deadline an end is waited for: the coordinator gives a late answer ten seconds."""
TRIES = 3


@click.command("command", cls=Verb)
@click.argument("twin")
@click.argument("what")
@click.argument("arguments", nargs=-1)
@click.option("--call", "kind", flag_value="call", help="WHAT is DEVICE.METHOD, called with ARGUMENTS.")
@click.option("--hold", "kind", flag_value="hold", help="Hold the value, beside the device's own watchdog.")
@click.option("--unit", default="", help="Unit of VALUE; without it that of the point.")
@click.option(
    "--deadline", default="30s", show_default=True, help="How long from now it may be written: 30s, 2min, 1h."
)
@click.option(
    "--approvals",
    type=click.IntRange(0, 8),
    default=0,
    show_default=True,
    help="How many others must approve; class B needs one.",
)
@click.option("--why", default="", help="What for; it is kept with the command.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for what becomes of it.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    twin: str,
    what: str,
    arguments: tuple[str, ...],
    kind: str | None,
    unit: str,
    deadline: str,
    approvals: int,
    why: str,
    *,
    wait: bool,
    dry_run: bool,
) -> None:
    """Command TWIN: WHAT is PROPERTY=VALUE, DEVICE.POINT=VALUE, or with --call DEVICE.METHOD.

    Exits 0 when it SUCCEEDED, 1 when it FAILED, 3 when nobody knows (UNKNOWN: read the device, do not just try again),
    4 when it is not allowed, 5 when the gateway or the coordinator is not reached.
    """
    order = _order(what, arguments, kind or "write", unit, deadline)
    order |= {"approvals": approvals, "why": why}
    client = client_of(ctx)
    site, name = client.twin(twin)
    view = client.twin_view(site, name)
    asked = what_of({**order, "site": site, "twin": name, "gateway": view["gateway"]})
    now = _now(view, order["property"])
    if dry_run:
        say(f"would {asked}{now}, by gateway {view['gateway'] or 'none'} within {order['deadline_s']:g} s")
        emit(ctx, order, [(field, field_of(field)) for field in order])
        return
    confirm(ctx, f"{asked}{now}, by gateway {view['gateway'] or 'none'} within {order['deadline_s']:g} s?")
    path = f"{twin_path(site, name)}/commands"
    made = _issued(client, path, order)
    told = tell(made, 0)
    if made["state"] == "WAITING_APPROVAL":
        who = "another person" if made["approvals"] == 1 else f"{made['approvals']} other persons"
        say(f"it waits for {who}: `twinctl command approve {site}/{name} {made['id']}`")
    if wait:
        made = _ended(client, f"{path}/{made['id']}", made, told, order["deadline_s"] + GRACE_S, SystemClock())
    # Talk and result on one terminal: the steps stand above already.
    emit(ctx, made, [one for one in COMMAND if one[0] != "steps"] if on_one_terminal() else COMMAND)
    ctx.exit(exit_of(made))


def _order(what: str, arguments: tuple[str, ...], kind: str, unit: str, deadline: str) -> Json:
    order: Json = {"property": "", "target": "", "kind": kind, "value": None, "arguments": [], "unit": unit}
    order["deadline_s"] = _seconds(deadline)
    if kind == "call":
        return order | {"target": what, "arguments": [_scalar(one) for one in arguments]}
    name, equals, value = what.partition("=")
    if not equals or not name or not value or arguments:
        raise InputError(
            "REQUEST_INVALID", f"{what!r} is no PROPERTY=VALUE", hint="write e.g. speed=1200, or --call DEVICE.METHOD"
        )
    return order | {"target" if "." in name else "property": name, "value": _scalar(value)}


def _scalar(text: str) -> object:
    """A number, true, false or a quoted text as JSON has them; anything else is a text itself."""
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3_600.0, "": 1.0}
    digits = text.strip().rstrip("minhs")
    unit = text.strip()[len(digits) :].strip()
    try:
        value = float(digits) * units[unit]
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value <= units["h"]:
        hint = "write e.g. 30s, 2min or 1h"
        raise InputError("REQUEST_INVALID", f"--deadline: {text!r} is no time of more than 0 and at most 1h", hint=hint)
    return value


def _now(view: Json, name: str) -> str:
    """What a property is now, in words; raises UNKNOWN_PROPERTY with the names it has."""
    if not name:
        return ""
    known = {one["name"]: one for one in view["properties"]}
    if name not in known:
        hint = f"properties are: {', '.join(sorted(known)) or 'none'}"
        raise MissingError("UNKNOWN_PROPERTY", f"{view['site']}/{view['twin']} has no property {name!r}", hint=hint)
    value = known[name]["reported"]
    return f" (now {text_of(value['value'])} {value['unit']})".replace(" )", ")") if value else ""


def _issued(client: Client, path: str, order: Json) -> Json:
    """Issues it once, however often it has to be asked: all tries carry one key."""
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    for left in reversed(range(TRIES)):
        try:
            return client.send("POST", path, order, headers=headers)
        except (UnreachableError, ConflictError) as error:
            if error.reason not in ("COORDINATOR_UNREACHABLE", "IN_PROGRESS") or not left:
                raise
        time.sleep(LOOK_S)
    raise AssertionError("unreachable: the last try returns or raises")


def _ended(client: Client, path: str, view: Json, told: int, patience_s: float, clock: Clock) -> Json:
    """The command once it has ended, each step told as it comes; UNKNOWN when the patience ends before."""
    end_ns = clock.boot_ns() + round(patience_s * SECOND_NS)
    while view["open"]:
        if clock.boot_ns() >= end_ns:
            hint = f"see `twinctl command show {view['twin']} {view['id']}`"
            raise UnreachableError("NOT_READY", f"command {view['id']} is still {view['state']}", hint=hint)
        time.sleep(LOOK_S)
        view = client.get(path)
        told = tell(view, told)
    return view
