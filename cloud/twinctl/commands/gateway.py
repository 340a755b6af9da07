"""`twinctl gateway`: gateways, the invitation of a new one, and the ledger of what was lost."""

from __future__ import annotations

import re
from pathlib import Path

import click

from twinctl.options import Noun, client_of, options_of
from twinctl.paths import gateway_path
from twinctl.render import Column, Json, emit, field_of, instant, say, size
from twinmodel.errors import ConfigError, InputError, MissingError

_DURATION = re.compile(r"(\d+)(ms|s|min|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1, "min": 60, "h": 3_600, "d": 86_400}


@click.group(cls=Noun)
def gateway() -> None:
    """Gateways: list, show, configure, configuration, coarsen, invite, losses.

    GATEWAY is SITE/GATEWAY, or a name that only one site has.
    """


@gateway.command("list")
@click.option("--site", default="", help="Only this site.")
@click.pass_context
def list_(ctx: click.Context, site: str) -> None:
    """List gateways by site and name."""
    emit(ctx, list(client_of(ctx).pages("/gateways", site=site)), _LIST, empty="no gateways")


@gateway.command()
@click.argument("gateway")
@click.pass_context
def show(ctx: click.Context, gateway: str) -> None:
    """Show one gateway: link, backlog, clock, certificate, coarser periods it is asked for."""
    client = client_of(ctx)
    where = client.gateway(gateway)
    wishes = list(client.pages(f"{gateway_path(*where)}/wishes"))
    emit(ctx, {**client.gateway_view(*where), "wishes": wishes}, _SHOW)


@gateway.command()
@click.argument("gateway")
@click.argument("stream", type=click.Choice(["state", "telemetry", "bulk"]))
@click.option("--period", help="At most one sample in each, as 500ms, 30s, 10min; signals of twins stay whole.")
@click.option("--signal", default="", help="Only this signal; without it all of the stream.")
@click.option("--for", "ttl", help="End by itself after this long, as 30min, 24h, 7d; without it never.")
@click.option("--end", is_flag=True, help="End what was asked for this stream and signal.")
@click.pass_context
def coarsen(
    ctx: click.Context, gateway: str, stream: str, period: str | None, signal: str, ttl: str | None, *, end: bool
) -> None:
    """Ask a gateway for fewer samples of signals that no twin uses, now and in each of its sessions."""
    if end == (period is not None):
        raise InputError("REQUEST_INVALID", "give one of --period and --end")
    body = {"stream": stream, "signal": signal, "period_s": 0.0 if period is None else _seconds(period)}
    if ttl is not None:
        body["ttl_s"] = int(_seconds(ttl))
    client = client_of(ctx)
    emit(ctx, client.send("POST", f"{gateway_path(*client.gateway(gateway))}:coarsen", body), _WISH)


@gateway.command()
@click.argument("gateway")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--why", required=True, help="Why; it stays in the history of both sides.")
@click.option("--profile", "profiles", multiple=True, metavar="V/D/VERSION=FILE", help="A profile to go with it.")
@click.option("--base", default="", help="Digest it was written against; refused where another one runs by then.")
@click.pass_context
def configure(ctx: click.Context, gateway: str, file: Path, why: str, profiles: tuple[str, ...], base: str) -> None:
    """Send a gateway another site.yaml: it is checked and tried there, and taken back if it does not hold."""
    client = client_of(ctx)
    body = {"content": _text(file), "why": why, "base": base, "profiles": dict(map(_profile, profiles))}
    emit(ctx, client.send("PUT", f"{gateway_path(*client.gateway(gateway))}/configuration", body), _SENT)
    click.echo(f"asked; `twinctl gateway configuration {gateway}` tells what becomes of it", err=True)


@gateway.command()
@click.argument("gateway")
@click.option("--content", is_flag=True, help="Print the site.yaml that runs, where it was sent from here.")
@click.pass_context
def configuration(ctx: click.Context, gateway: str, *, content: bool) -> None:
    """Show the configurations a gateway was sent, how each ended, and what was in force then."""
    client = client_of(ctx)
    view = client.get(f"{gateway_path(*client.gateway(gateway))}/configuration")
    if content:
        if view["content"] is None:
            raise MissingError("NOT_FOUND", f"what runs on {gateway} was not sent from here", hint="look on site")
        click.echo(view["content"], nl=False)
        return
    shown = view if options_of(ctx).output == "json" else view["history"]
    emit(ctx, shown, _CONFIGURATIONS, empty="no configuration was sent to it")


@gateway.command()
@click.argument("gateway")
@click.option("--ttl", default="24h", show_default=True, help="How long the invitation holds, as 30min, 24h, 7d.")
@click.pass_context
def invite(ctx: click.Context, gateway: str, ttl: str) -> None:
    """Print the line that lets a new gateway SITE/GATEWAY join; its token is shown this once."""
    site, slash, name = gateway.partition("/")
    if not (slash and site and name) or "/" in name:
        raise InputError("REQUEST_INVALID", f"{gateway!r} is no gateway", hint="write SITE/GATEWAY")
    body = {"site": site, "gateway": name, "ttl_s": int(_seconds(ttl))}
    view = client_of(ctx).send("POST", "/gateways:invite", body)
    if options_of(ctx).output == "json" or options_of(ctx).fields:
        emit(ctx, view, [])
        return
    say(f"Run this on {site}/{name} before {instant(view['expires'])}; it works once:")
    click.echo(view["join"])


@gateway.command()
@click.argument("gateway")
@click.pass_context
def losses(ctx: click.Context, gateway: str) -> None:
    """List every declared hole of a gateway's data."""
    client = client_of(ctx)
    emit(ctx, list(client.pages(f"{gateway_path(*client.gateway(gateway))}/losses")), _LOSSES, empty="nothing was lost")


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as wrong:
        raise InputError("REQUEST_INVALID", f"{file} is no text: {wrong}") from None


def _profile(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not equals or name.count("/") != 2 or not Path(file).is_file():
        raise InputError("REQUEST_INVALID", f"{text!r} is no profile", hint="write vendor/device/version=FILE")
    from twinmodel.profile.shape import check_sort  # noqa: PLC0415 - --help stays fast

    content = _text(Path(file))
    try:
        check_sort(content, name)
    except ConfigError as wrong:
        place = f" (line {wrong.facts['line']})" if "line" in wrong.facts else ""
        raise InputError("REQUEST_INVALID", f"{file}{place}: {wrong.message}", hint=wrong.hint) from None
    return name, content


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if not found:
        raise InputError("REQUEST_INVALID", f"{text!r} is no duration", hint="write e.g. 30min, 24h or 7d")
    return int(found[1]) * _UNIT_S[found[2]]


def _wish(row: Json) -> str:
    ends = f" until {instant(row['until'])}" if row["until"] else ""
    return f"{row['signal'] or row['stream']}: one in {row['period_s']:g} s{ends}"


def _link(row: Json) -> str:
    return "connected" if row["connected"] else "away"


_LIST: list[Column] = [
    ("health", field_of("health")),
    ("gateway", lambda g: f"{g['site']}/{g['gateway']}"),
    ("link", _link),
    ("seen", lambda g: instant(g["last_seen"])),
    ("backlog", lambda g: f"{g['backlog_samples']} ({size(g['backlog_bytes'])})" if g["backlog_samples"] else None),
    ("clock", field_of("clock")),
    ("version", field_of("agent_version")),
    ("twins", field_of("twins")),
    ("why", field_of("why")),
]
_SHOW: list[Column] = [
    *_LIST[:2],
    ("why", field_of("why")),
    ("state", field_of("state")),
    *_LIST[2:5],
    ("oldest waiting", lambda g: instant(g["oldest"])),
    ("samples", field_of("samples")),
    ("duplicates refused", field_of("duplicates_refused")),
    ("boot", lambda g: f"{g['boot']} (number {g['boot_counter']})"),
    ("clock", lambda g: g["clock"] + _off_by(g.get("clock_offset_s"))),
    ("version", field_of("agent_version")),
    ("certificate", lambda g: f"{g['certificate_serial'] or '-'} until {instant(g['certificate_until'])}"),
    ("twins", field_of("twins")),
    ("coarser", lambda g: "; ".join(map(_wish, g["wishes"])) or None),
]
_SENT: list[Column] = [
    ("directive", field_of("id")),
    ("gateway", lambda d: f"{d['site']}/{d['gateway']}"),
    ("what", field_of("name")),
    ("outcome", lambda d: d["outcome"] or "open"),
]
_CONFIGURATIONS: list[Column] = [
    ("sent", lambda c: instant(c["sent"])),
    ("by", field_of("sent_by")),
    ("why", field_of("why")),
    ("outcome", lambda c: c["outcome"] or "open"),
    ("reason", field_of("reason")),
    ("in force then", lambda c: c["digest"][:12]),
    ("detail", field_of("detail")),
]
_WISH: list[Column] = [
    ("stream", field_of("stream")),
    ("signal", field_of("signal")),
    ("period s", field_of("period_s")),
    ("until", lambda w: instant(w["until"])),
    ("by", field_of("created_by")),
]


def _off_by(offset_s: float | None) -> str:
    return (
        ""
        if offset_s is None or abs(offset_s) < 1
        else f", {abs(offset_s):,.0f} s {'slow' if offset_s > 0 else 'fast'}"
    )


_LOSSES: list[Column] = [
    ("kind", field_of("kind")),
    ("reason", field_of("reason")),
    ("device", field_of("device")),
    ("stream", field_of("stream")),
    ("count", field_of("count")),
    ("from", lambda x: instant(x["from_time"])),
    ("to", lambda x: instant(x["to_time"])),
]
