"""`twinctl twin`: what twins there are, what one says now, as it changes, and what it said before."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from twinctl.commands import twin_graph
from twinctl.commands.backtest import backtest
from twinctl.commands.cloud_twin import run_in_cloud
from twinctl.commands.twin_record import COMMANDS, STATES
from twinctl.options import Noun, client_of, options_of
from twinctl.paths import twin_path
from twinctl.render import Column, Json, emit, field_of, from_ns, instant, say, seconds, text_of, with_sigma
from twinctl.spans import time_of
from twinmodel.clock import SystemClock

ROLES = ("measured", "estimate", "sigma", "prediction", "innovation", "drift", "substitute")


@click.group(cls=Noun)
def twin() -> None:
    """Twins, what is reported and what is said of them. TWIN is SITE/TWIN, or a name that only one site has."""


_as_of = click.option("--as-of", default="", help="RFC 3339 or an age: what happened after it does not count.")
_known_at = click.option(
    "--known-at", default="", help="RFC 3339 or an age: what became known after it does not count."
)


def _then(as_of: str, known_at: str) -> dict[str, str]:
    """The times of a question about the past."""
    now_ns = SystemClock().wall_ns()
    return {name: time_of(text, now_ns) for name, text in (("as_of", as_of), ("known_at", known_at)) if text}


@twin.command("list")
@click.option("--site", default="", help="Only this site.")
@click.option("--health", type=click.Choice(["ok", "warn", "bad", "offline"]), help="Only with this health.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state; retired ones are not shown otherwise.")
@click.option(
    "--filter", "chosen", default=None, help="Only what this filter lets through; its language is in docs/api.md."
)
@click.pass_context
def list_(ctx: click.Context, site: str, health: str | None, state: str | None, chosen: str | None) -> None:
    """List twins by site and name."""
    found = client_of(ctx).pages("/twins", site=site, state=state, filter=chosen)
    rows = [r for r in found if health in (None, r["health"])]
    emit(ctx, rows, _LIST, empty="no twins")


@twin.command()
@click.argument("twin")
@_as_of
@_known_at
@click.pass_context
def show(ctx: click.Context, twin: str, as_of: str, known_at: str) -> None:
    """Show what TWIN measures, estimates and predicts now, or did at a time."""
    client = client_of(ctx)
    site, name = client.twin(twin)
    then = _then(as_of, known_at)
    view = client.get(twin_path(site, name), **then) if then else client.twin_view(site, name)
    if view.get("expired"):
        say(f"not all of its history is kept from before {instant(view['kept_from'])}; see `twinctl retention show`")
    emit(ctx, view, _HEAD)
    options = options_of(ctx)
    if options.output == "table" and not options.fields:
        click.echo()
        emit(ctx, view["properties"], _PROPERTIES, empty="no properties yet")


@twin.command()
@click.argument("twin")
@click.option("--count", type=click.IntRange(1), help="End after so many states.")
@click.pass_context
def watch(ctx: click.Context, twin: str, count: int | None) -> None:
    """Print TWIN now and each time it changes, until Ctrl-C; JSON is one object a line."""
    client = client_of(ctx)
    site, name = client.twin(twin)
    options = options_of(ctx)
    shown = 0
    say(f"watching {site}/{name}; Ctrl-C ends")
    try:
        for view in _states(client.twin_view(site, name), client.events(site=site, twin=name), (site, name)):
            click.echo(json.dumps(view, ensure_ascii=False) if options.output == "json" else _line(view))
            shown += 1
            if shown == count:
                return
    except KeyboardInterrupt:
        return


@twin.command()
@click.argument("twin")
@click.argument("property")
@click.option("--roles", default="measured,estimate,sigma", show_default=True, help=f"Of {', '.join(ROLES)}.")
@click.option("--from", "from_", default="1h", show_default=True, help="RFC 3339, or an age as 90s, 15min, 1h, 7d.")
@click.option("--to", default="", help="RFC 3339, or an age; now.")
@click.option("--points", type=click.IntRange(1, 20_000), default=1_000, show_default=True, help="The newest so many.")
@click.option(
    "--resolution",
    type=click.Choice(("auto", "raw", "1m", "15m", "1h")),
    default="raw",
    show_default=True,
    help="Means of buckets; -o json also has low, high, last and count.",
)
@_as_of
@_known_at
@click.pass_context
def history(
    ctx: click.Context,
    twin: str,
    property: str,  # noqa: A002 - the option's name
    roles: str,
    from_: str,
    to: str,
    points: int,
    resolution: str,
    as_of: str,
    known_at: str,
) -> None:
    """Print the history of a PROPERTY of TWIN, a row per time."""
    client = client_of(ctx)
    site, name = client.twin(twin)
    now_ns = SystemClock().wall_ns()
    asked = {"from": time_of(from_, now_ns), "to": time_of(to or "0s", now_ns), "roles": roles, "points": points}
    asked |= _then(as_of, known_at) | ({"resolution": resolution} if resolution != "raw" else {})
    view = client.get(f"{twin_path(site, name)}/history", property=property, **asked)
    if any(run["truncated"] for run in view["series"].values()):
        say(f"only the newest {points} points of this span; see --points")
    kept = [run["kept_from"] for run in view["series"].values() if run.get("kept_from")]
    if kept:
        say(f"not all of it is kept from before {instant(max(kept))}; see `twinctl retention show`")
    if options_of(ctx).output == "json":
        emit(ctx, view, [])
        return
    emit(ctx, _rows(view), [(role, field_of(role)) for role in ("time", *view["series"], "quality")], empty="no values")


twin.add_command(backtest)
twin.add_command(run_in_cloud)
for _command in twin_graph.COMMANDS:
    twin.add_command(_command)


def _states(first: Json, events: Iterator[Json], key: tuple[str, str]) -> Iterator[Json]:
    yield first
    last = first
    for event in events:
        if event["event"] == "twin" and (event.get("site"), event.get("twin")) == key:
            view = {name: value for name, value in event.items() if name not in ("event", "id")}
            if view != last:
                yield view
            last = view


def _line(view: Json) -> str:
    parts = [f"{instant(view['updated'])[11:]}  {view['health']:7}"]
    for p in view["properties"]:
        reported, estimated = p["reported"], p["estimated"]
        text = f"{p['name']} {_reported(p) or '-'}"
        if estimated:
            text += f" (model {with_sigma(estimated['value'], estimated['sigma'])})"
        if reported and not reported["quality"].startswith("good"):
            text += f" {_doubt(p)}"
        parts.append(text)
    return "  ".join(parts)


def _rows(view: Json) -> list[Json]:
    rows: dict[int, Json] = {}
    for role, run in view["series"].items():
        for t_ns, value, quality in zip(run["t_ns"], run["value"], run["quality"], strict=True):
            row = rows.setdefault(t_ns, {"time": from_ns(t_ns), **dict.fromkeys(view["series"]), "quality": None})
            row[role] = value
            if role == "measured" or (role == "substitute" and value is not None):
                row["quality"] = _quality(quality)
    return [rows[t_ns] for t_ns in sorted(rows)]


def _quality(code: int) -> str:
    from twinmodel.quality import describe  # noqa: PLC0415 - only history needs it

    return describe(code)


def _model(view: Json) -> str:
    model = view["model"]
    running = model["running"] or "none"
    return running if model["desired"] in ("", model["running"]) else f"{running} -> {model['desired']}"


def _drift(view: Json) -> float | None:
    return max((p["drift"] for p in view["properties"] if p["drift"] is not None), default=None)


def _sigma(p: Json, role: str) -> str:
    value = p[role]
    return with_sigma(value["value"], value["sigma"]) if value else "-"


def _reported(p: Json) -> str | None:
    value = p["reported"]
    if value is None:
        return None
    return (
        text_of(value["value"]) if value["sigma"] is None else f"{with_sigma(value['value'], value['sigma'])} (model)"
    )


def _doubt(p: Json) -> str:
    """Quality of a property; of a substituted one also that of its sensor."""
    quality, replaced = _newest(p)["quality"], p.get("replaced")
    return f"{quality} for {replaced['quality']}" if replaced else quality


def _newest(p: Json) -> Json:
    return p["reported"] or p["estimated"] or {"quality": "", "t_event": None}


def _desired(p: Json) -> str | None:
    """What is desired, and whether it is so."""
    wanted = p.get("desired")
    if wanted is None:
        return None
    agrees = {True: " (differs)", False: " (agrees)", None: " (not reported)"}[p["differs"]]
    return f"{text_of(wanted['value'])}{agrees}"


def _fresh(view: Json) -> str:
    return seconds(view["freshness_s"])


_LIST: list[Column] = [
    ("health", field_of("health")),
    ("twin", lambda t: f"{t['site']}/{t['twin']}"),
    ("gateway", field_of("gateway")),
    ("model", _model),
    ("fresh", _fresh),
    ("drift", lambda t: None if (d := _drift(t)) is None else f"{d:.2f}"),
    ("why", field_of("why")),
]
_HEAD: list[Column] = [
    ("twin", lambda t: f"{t['site']}/{t['twin']}"),
    ("health", field_of("health")),
    ("why", field_of("why")),
    ("state", lambda t: f"{t.get('state', 'active')}, run: {t.get('run', 'edge')}"),
    ("gateway", field_of("gateway")),
    ("definition", field_of("definition")),
    ("tags", lambda t: ", ".join(f"{name}={value}" for name, value in sorted(t.get("tags", {}).items()))),
    ("model", lambda t: f"{_model(t)} {t['model']['tier'] and '(' + t['model']['tier'] + ')'}".strip()),
    ("fresh", _fresh),
    ("drift", lambda t: None if (d := _drift(t)) is None else f"{d:.2f} (limit 1.0)"),
    ("drift cause", lambda t: t["model"].get("isolation") or None),
    ("updated", lambda t: instant(t["updated"])),
]
_PROPERTIES: list[Column] = [
    ("property", field_of("name")),
    ("unit", field_of("unit")),
    ("measured", _reported),
    ("estimated", lambda p: _sigma(p, "estimated")),
    ("predicted", lambda p: _sigma(p, "predicted")),
    ("desired", _desired),
    ("residual", field_of("innovation")),
    ("drift", field_of("drift")),
    ("quality", _doubt),
    ("time", lambda p: instant(_newest(p)["t_event"])),
]
for _command in COMMANDS:
    twin.add_command(_command)
