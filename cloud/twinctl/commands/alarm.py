"""`twinctl alarm`: what stands, what led to it, and what one has to say of it.

ALARM is SITE/GATEWAY/NAME, a name that only one gateway has, or the id that `-o json` shows.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from twinctl.options import Noun, client_of, confirm, options_of
from twinctl.render import Column, Json, emit, field_of, instant, say, text_of
from twinctl.spans import duration_s, time_of
from twinmodel.clock import SystemClock
from twinmodel.errors import ConflictError, InputError, MissingError

if TYPE_CHECKING:
    from twinctl.client import Client

PRIORITIES = ("low", "medium", "high", "urgent")
_ID = re.compile(r"[0-9a-f]{24}")
_comment = click.option("--comment", default="", help="Stands in the journal beside your name.")


@click.group(cls=Noun)
def alarm() -> None:
    """Alarms. ALARM is SITE/GATEWAY/NAME, a name that only one gateway has, or an id."""


@alarm.command("list")
@click.option("--active", is_flag=True, help="Only those whose condition holds.")
@click.option("--unacked", is_flag=True, help="Only those that nobody has acknowledged.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Only of this priority.")
@click.option("--site", default="", help="Only of this site.")
@click.option("--twin", default="", help="Only about this twin.")
@click.option("--all", "every", is_flag=True, help="Also those that are over, suppressed or never stood.")
@click.option("--filter", "chosen", default=None, help="Only what this filter lets through, see docs/api.md.")
@click.option("-w", "--watch", is_flag=True, help="Go on with a line for each change, until Ctrl-C.")
@click.pass_context
def list_(
    ctx: click.Context,
    *,
    active: bool,
    unacked: bool,
    priority: str | None,
    site: str,
    twin: str,
    every: bool,
    chosen: str | None,
    watch: bool,
) -> None:
    """List alarms that stand, by priority, the newest change first."""
    client = client_of(ctx)
    query: Json = {"priority": priority, "site": site, "twin": twin, "filter": chosen}
    query |= {"active": "true" if active else None, "acked": "false" if unacked else None}
    query["standing"] = None if every else "true"
    emit(ctx, list(client.pages("/alarms", **query)), LIST, empty="no alarms")
    if watch:
        _watch(ctx, client, {"priority": priority, "site": site}, twin=twin, active=active, unacked=unacked)


@alarm.command()
@click.argument("alarm")
@click.pass_context
def show(ctx: click.Context, alarm: str) -> None:
    """Show ALARM with all that is known of it."""
    emit(ctx, _one(client_of(ctx), alarm), SHOW)


@alarm.command()
@click.argument("alarms", metavar="ALARM...", nargs=-1, required=True)
@_comment
@click.pass_context
def ack(ctx: click.Context, alarms: tuple[str, ...], comment: str) -> None:
    """Acknowledge each ALARM as it stands now; an occurrence that comes meanwhile is not acknowledged."""
    client = client_of(ctx)
    seen = [_one(client, name) for name in alarms]
    items = [{"alarm": one["id"], "occurrence": one["occurrence"]} for one in seen]
    answers = client.send("POST", "/alarms:ack", {"items": items, "comment": comment})["items"]
    emit(ctx, [one["alarm"] for one in answers if one["alarm"]], LIST)
    refused = [(now, one["problem"]) for now, one in zip(seen, answers, strict=True) if one["problem"]]
    for now, problem in refused:
        say(f"{_name(now)}: {problem['reason']} {problem['detail']}")
    if refused:
        raise ConflictError(refused[0][1]["reason"], f"{len(refused)} of {len(seen)} were not acknowledged")


@alarm.command()
@click.argument("alarm")
@click.option("--for", "span", required=True, metavar="SPAN", help="How long: 90s, 15min, 1h, 7d.")
@_comment
@click.pass_context
def shelve(ctx: click.Context, alarm: str, span: str, comment: str) -> None:
    """Hide ALARM for a while; if its condition holds then, it is told anew."""
    client = client_of(ctx)
    now = _one(client, alarm)
    confirm(ctx, f"Hide {_name(now)} for {span}?")
    body = {"for_s": max(1, round(duration_s(span))), "comment": comment, "occurrence": now["occurrence"]}
    _told(ctx, client.send("POST", f"{_path(now)}:shelve", body))


@alarm.command()
@click.argument("alarm")
@_comment
@click.pass_context
def unshelve(ctx: click.Context, alarm: str, comment: str) -> None:
    """Show ALARM again before its time."""
    _say(ctx, alarm, "unshelve", comment)


@alarm.command("comment")
@click.argument("alarm")
@click.argument("text")
@click.pass_context
def comment_(ctx: click.Context, alarm: str, text: str) -> None:
    """Add a comment to ALARM; it stands in its journal."""
    _say(ctx, alarm, "comment", text)


@alarm.command("out-of-service")
@click.argument("alarm")
@_comment
@click.pass_context
def out_of_service(ctx: click.Context, alarm: str, comment: str) -> None:
    """Take ALARM out of service, as for maintenance, until `in-service`."""
    confirm(ctx, f"Take {alarm} out of service until somebody puts it back?")
    _say(ctx, alarm, "outOfService", comment)


@alarm.command("in-service")
@click.argument("alarm")
@_comment
@click.pass_context
def in_service(ctx: click.Context, alarm: str, comment: str) -> None:
    """Put ALARM back into service."""
    _say(ctx, alarm, "inService", comment)


@alarm.command()
@click.argument("alarm")
@click.option("--from", "from_", default="7d", show_default=True, help="RFC 3339, or an age as 90s, 15min, 1h, 7d.")
@click.option("--to", default="", help="RFC 3339, or an age; now.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="The newest so many.")
@click.pass_context
def journal(ctx: click.Context, alarm: str, from_: str, to: str, limit: int) -> None:
    """List the steps of ALARM, the newest first."""
    client = client_of(ctx)
    now_ns = SystemClock().wall_ns()
    span = {"from": time_of(from_, now_ns), "to": time_of(to, now_ns) if to else ""}
    found = client.get(f"{_path(_one(client, alarm))}/journal", limit=limit, **span)
    emit(ctx, found["items"], JOURNAL, empty="nothing in this time")
    if found["truncated"]:
        say(f"the newest {limit}; there are older ones")


def _watch(ctx: click.Context, client: Client, wanted: Json, *, twin: str, active: bool, unacked: bool) -> None:
    """Prints each change until Ctrl-C; JSON is one object a line."""
    say("watching; Ctrl-C ends")
    site = wanted["site"]
    try:
        for view in client.events(site=site, twin=twin if site else ""):
            if view["event"] != "alarm" or any(view[name] != value for name, value in wanted.items() if value):
                continue
            if (twin and twin not in view["twins"]) or (unacked and view["acked"]) or (active and not view["active"]):
                continue
            if options_of(ctx).output == "json":
                click.echo(json.dumps(view, ensure_ascii=False))
            else:
                click.echo("  ".join(text_of(read(view)) for _, read in LIST))
    except KeyboardInterrupt:
        return


def _say(ctx: click.Context, alarm: str, do: str, comment: str) -> None:
    client = client_of(ctx)
    _told(ctx, client.send("POST", f"{_path(_one(client, alarm))}:{do}", {"comment": comment}))


def _told(ctx: click.Context, view: Json) -> None:
    if view["pending"]:
        away = f", away since {instant(view['as_of'])}" if view["as_of"] else ""
        say(f"asked; gateway {view['gateway']}{away} has the last word")
    emit(ctx, view, SHOW)


def _path(view: Json) -> str:
    return f"/alarms/{quote(str(view['id']), safe='')}"


def _name(view: Json) -> str:
    return f"{view['site']}/{view['gateway']}/{view['alarm']}"


def _one(client: Client, name: str) -> Json:
    """The alarm that is meant.

    Raises:
        MissingError: UNKNOWN_ALARM.
        InputError: REQUEST_INVALID naming the candidates when several gateways have one of this name.
    """
    if _ID.fullmatch(name):
        return client.get(f"/alarms/{name}")
    found = list(client.pages("/alarms", filter=f"alarm = {_quoted(name)}"))
    site, _, rest = name.partition("/")
    gateway, _, alarm = rest.partition("/")
    if not found and alarm:
        found = list(client.pages("/alarms", site=site, gateway=gateway, filter=f"alarm = {_quoted(alarm)}"))
    if len(found) > 1:
        names = ", ".join(_name(one) for one in found[:5])
        raise InputError("REQUEST_INVALID", f"{len(found)} gateways have an alarm {name!r}", hint=f"name one: {names}")
    if not found:
        raise MissingError("UNKNOWN_ALARM", f"no alarm {name!r}")
    return found[0]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _value(view: Json) -> str:
    # What a drift was isolated to stands in its text already.
    if view["value"] is None or (isinstance(view["value"], str) and view["value"] in view["text"]):
        return "-"
    limit = "" if view["limit"] is None else f" ({text_of(view['limit'])})"
    return f"{text_of(view['value'])}{limit} {view['unit']}".strip()


def _state(view: Json) -> str:
    return f"{view['state']}, {view['action']['do']} asked" if view["pending"] else str(view["state"])


LIST: list[Column] = [
    ("priority", field_of("priority")),
    ("state", _state),
    ("alarm", _name),
    ("text", field_of("text")),
    ("value (limit)", _value),
    ("count", field_of("count")),
    ("cause", field_of("cause")),
    ("since", lambda a: instant(a["since"])),
    ("as of", lambda a: instant(a["as_of"])),
]
SHOW: list[Column] = [
    ("alarm", _name),
    ("text", field_of("text")),
    ("state", _state),
    ("priority", lambda a: f"{a['priority']} ({a['severity']})"),
    ("active", field_of("active")),
    ("acknowledged", field_of("acked")),
    ("value (limit)", _value),
    ("quality", field_of("quality")),
    ("source", field_of("source")),
    ("twins", lambda a: ", ".join(a["twins"])),
    ("cause", field_of("cause")),
    ("count", field_of("count")),
    ("occurrence", field_of("occurrence")),
    ("since", lambda a: instant(a["since"])),
    ("changed", lambda a: instant(a["changed"])),
    ("as of", lambda a: instant(a["as_of"])),
    ("shelved until", lambda a: instant(a["until"])),
    ("by", field_of("by")),
    ("comment", field_of("comment")),
    ("asked", lambda a: a["action"] and " ".join(a["action"][n] for n in ("do", "outcome", "reason", "detail"))),
    ("asked by", lambda a: a["action"] and f"{a['action']['by']} at {instant(a['action']['at'])}"),
    ("id", field_of("id")),
]
JOURNAL: list[Column] = [
    ("time", lambda s: instant(s["time"])),
    ("state", field_of("state")),
    ("occurrence", field_of("occurrence")),
    ("text", field_of("text")),
    ("value (limit)", _value),
    ("by", field_of("by")),
    ("comment", field_of("comment")),
    ("committed", lambda s: instant(s["committed"])),
]
