"""`twinctl twin explain` and `twinctl twin replay`: why a twin said something, and whether it can be computed again."""

from __future__ import annotations

import click

from twinctl.options import client_of, options_of
from twinctl.paths import twin_path
from twinctl.render import Column, Json, emit, field_of, instant, say, seconds, text_of, with_sigma
from twinctl.spans import time_of
from twinmodel.clock import SystemClock


@click.command()
@click.argument("twin")
@click.argument("property")
@click.option("--at", default="", help="RFC 3339, or an age as 90s, 15min, 1h, 7d; now.")
@click.pass_context
def explain(ctx: click.Context, twin: str, property: str, at: str) -> None:  # noqa: A002 - the argument's name
    """Tell why TWIN says what it says of PROPERTY: inputs, model, who put it there, and the proof."""
    client = client_of(ctx)
    site, name = client.twin(twin)
    asked = {"at": time_of(at, SystemClock().wall_ns())} if at else {}
    view = client.get(f"{twin_path(site, name)}/properties/{property}/explanation", **asked)
    options = options_of(ctx)
    emit(ctx, view, _HEAD)
    if options.output == "table" and not options.fields and view["inputs"]:
        click.echo()
        emit(ctx, view["inputs"], _INPUTS)


@click.command()
@click.argument("twin")
@click.option("--from", "from_", default="1h", show_default=True, help="RFC 3339, or an age as 90s, 15min, 1h, 7d.")
@click.option("--to", default="0s", help="RFC 3339, or an age; now.")
@click.pass_context
def replay(ctx: click.Context, twin: str, from_: str, to: str) -> None:
    """Compute the estimates of TWIN again, at most a day, and say span by span whether that is exact."""
    client = client_of(ctx)
    site, name = client.twin(twin)
    now_ns = SystemClock().wall_ns()
    asked = {"from": time_of(from_, now_ns), "to": time_of(to, now_ns)}
    view = client.get(f"{twin_path(site, name)}/replay", **asked)
    if options_of(ctx).output == "json":
        emit(ctx, view, [])
        return
    emit(ctx, view["spans"], _SPANS, empty="no estimates in this span")
    say(f"{view['exact']} of {view['ticks']} ticks exact")


def _value(role: str) -> Column:
    def cell(view: Json) -> object:
        said = view["said"].get(role)
        sigma = view["said"].get("sigma") if role == "estimate" else None
        if said is None:
            return None
        value = text_of(said["value"]) if sigma is None else with_sigma(said["value"], sigma["value"])
        return f"{value} {said['unit']} ({said['words']})"

    return (role, cell)


def _replay(view: Json) -> object:
    span = view["replay"]
    return None if span is None else f"{span['verdict']}: {span['words']}"


def _assigned(view: Json) -> object:
    found = view["assigned"]
    if found is None:
        return "the gateway's first choice" if view["running"] else None
    return f"by {found['created_by']} at {instant(found['created'])}"


def _model(view: Json) -> object:
    model = view["model"]
    return view["running"] if model is None else f"{view['running']}, signed by {model['signer']}"


def _losses(view: Json) -> object:
    return ", ".join(f"{loss['kind']} {loss['reason']}".strip() for loss in view["losses"]) or "none declared near it"


def _checkpoint(view: Json) -> object:
    return view["checkpoint"] and f"{view['checkpoint']} ({view['checkpoint_cause']})"


_HEAD: list[Column] = [
    ("property", lambda v: f"{v['twin']} {v['property']}"),
    ("time", field_of("time")),
    _value("measured"),
    _value("estimate"),
    _value("prediction"),
    _value("innovation"),
    _value("drift"),
    ("replay", _replay),
    ("model", _model),
    ("assigned", _assigned),
    ("checkpoint", _checkpoint),
    ("block", lambda v: (v["said"].get("estimate") or v["said"].get("measured") or {}).get("block")),
    ("gateway", lambda v: f"{v['gateway']}, clock {v['clock']}"),
    ("losses", _losses),
]
_INPUTS: list[Column] = [
    ("port", field_of("port")),
    ("signal", field_of("signal")),
    ("value", field_of("value")),
    ("unit", field_of("unit")),
    ("quality", field_of("words")),
    ("time", field_of("time")),
    ("age", lambda i: seconds(i["age_s"])),
    ("block", field_of("block")),
]
_SPANS: list[Column] = [
    ("from", field_of("from_time")),
    ("to", field_of("to_time")),
    ("ticks", field_of("ticks")),
    ("verdict", field_of("verdict")),
    ("proof", field_of("proof")),
    ("model", field_of("model")),
    ("why", field_of("words")),
]
