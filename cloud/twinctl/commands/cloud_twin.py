"""`twinctl twin run-in-cloud`: have a model run in the coordinator, on what gateways measured and other twins said."""

from __future__ import annotations

import re

import click

from twinctl.options import client_of
from twinctl.paths import twin_path
from twinctl.render import Column, Json, emit, field_of, instant, say
from twinctl.spans import time_of
from twinmodel.clock import SystemClock
from twinmodel.errors import InputError

_FEED = re.compile(
    r"(?P<port>[^=\s]+)=(?:(?P<site>[^/\s]+)/)?(?P<twin>[^./\s]+)\.(?P<property>[^#\s]+)(?:#(?P<role>\w+))?"
)


@click.command("run-in-cloud")
@click.argument("twin")
@click.option("--model", default="", metavar="NAME@VERSION", help="The model; without it, how the twin runs is shown.")
@click.option("--input", "inputs", multiple=True, metavar="PORT=FEED", help="FEED is [SITE/]TWIN.PROPERTY[#ROLE].")
@click.option("--measured", "outputs", multiple=True, metavar="PORT=FEED", help="What measures an output.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, 86_400), default=60.0, show_default=True, help="Patience, s."
)
@click.option("--since", default="", help="First tick, RFC 3339 or an age as 7d; now.")
@click.option("--stop", is_flag=True, help="End it; what it said stays.")
@click.pass_context
def run_in_cloud(
    ctx: click.Context,
    twin: str,
    model: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    wait_s: float,
    since: str,
    stop: bool,  # noqa: FBT001 - a flag
) -> None:
    """Have TWIN, as SITE/TWIN, run in the coordinator; ROLE is measured, estimate, prediction or substitute."""
    client = client_of(ctx)
    site, slash, name = twin.partition("/")
    if not (slash and site and name) or "/" in name:
        raise InputError("REQUEST_INVALID", f"{twin!r} is no twin", hint="write SITE/TWIN; the twin may be new")
    path = f"{twin_path(site, name)}/run"
    if stop:
        client.send("DELETE", path)
        say(f"{twin} does not run in the cloud any more")
        return
    if not model:
        emit(ctx, client.get(path), _RUN)
        return
    body: Json = {"model": model, "inputs": _feeds(inputs), "outputs": _feeds(outputs), "wait_s": wait_s}
    if since:
        body["since"] = time_of(since, SystemClock().wall_ns())
    emit(ctx, client.send("PUT", path, body), _RUN)


def _feeds(given: tuple[str, ...]) -> Json:
    found: Json = {}
    for text in given:
        match = _FEED.fullmatch(text)
        if match is None:
            hint = "write e.g. pump=mill/tanks.pump or level=tanks.level2#estimate"
            raise InputError("REQUEST_INVALID", f"{text!r} is no PORT=FEED", hint=hint)
        facts = match.groupdict()
        port = facts.pop("port")
        found[port] = {key: value for key, value in facts.items() if value}
    return found


def _said(feeds: Json) -> str:
    return ", ".join(f"{port}={f['site']}/{f['twin']}.{f['property']}#{f['role']}" for port, f in feeds.items())


_RUN: list[Column] = [
    ("twin", lambda r: f"{r['site']}/{r['twin']}"),
    ("model", field_of("model")),
    ("inputs", lambda r: _said(r["inputs"])),
    ("measured", lambda r: _said(r["outputs"])),
    ("wait", lambda r: f"{r['wait_s']:g} s"),
    ("tick", lambda r: instant(r["tick"]) if r["tick"] else None),
    ("ticks", field_of("ticks")),
    ("revised", field_of("revised")),
    ("too late", field_of("too_late")),
    ("waits for", lambda r: ", ".join(f"{f['site']}/{f['twin']}.{f['property']}" for f in r["waits_for"]) or None),
    ("reason", lambda r: ": ".join(part for part in (r["reason"], r["detail"]) if part) or None),
]
