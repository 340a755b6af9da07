"""`twinctl fleet`: the whole tenant in numbers and what needs attention."""

from __future__ import annotations

import click

from twinctl.commands.fleet_members import VERBS
from twinctl.options import Answering, client_of, options_of
from twinctl.render import Column, Json, emit, field_of, say, seconds, size

_HEALTH = ("ok", "warn", "bad", "offline")


@click.group(cls=Answering)
@click.pass_context
def fleet(ctx: click.Context) -> None:
    """Show health, freshness, lag, backlog, versions and what needs attention.

    A sick fleet is an answer, not a failure: the exit code stays 0. The verbs are about fleets that people make.
    """
    if ctx.invoked_subcommand is not None:
        return
    summary = client_of(ctx).get("/fleet")
    options = options_of(ctx)
    if options.output == "json" or options.fields:
        emit(ctx, summary, [])
        return
    emit(
        ctx,
        summary,
        [
            ("twins", lambda s: ", ".join(f"{s[h]} {h}" for h in _HEALTH)),
            ("gateways", lambda s: f"{s['gateways_connected']} of {s['gateways']} connected"),
            ("freshness", lambda s: f"p50 {seconds(s['freshness_p50_s'])}, p95 {seconds(s['freshness_p95_s'])}"),
            ("lag", lambda s: f"p95 {seconds(s['lag_p95_s'])}"),
            ("backlog", lambda s: f"{s['backlog_samples']} samples, {size(s['backlog_bytes'])}"),
            ("samples", lambda s: s["samples"]),
            ("versions", lambda s: ", ".join(f"{name or 'none'}: {n}" for name, n in s["versions"].items())),
        ],
    )
    click.echo()
    emit(ctx, summary["sites"], _sites(), empty="no sites yet")
    if summary["attention"]:
        click.echo()
        columns = [("severity", field_of("severity")), ("what", _thing), ("why", field_of("why"))]
        emit(ctx, summary["attention"], columns)
    else:
        say("nothing needs attention")


for _verb in VERBS:
    fleet.add_command(_verb)


def _thing(row: Json) -> str:
    return f"{row['kind']} {row['site']}/{row['name']}"


def _sites() -> list[Column]:
    return [
        ("site", field_of("site")),
        *((health, field_of(health)) for health in _HEALTH),
        ("gateways", lambda s: f"{s['gateways_connected']}/{s['gateways']}"),
    ]
