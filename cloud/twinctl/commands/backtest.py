"""`twinctl twin backtest`: what another model version would have said of a twin's past, with figures and a plot."""

from __future__ import annotations

from pathlib import Path

import click

from twinctl.commands.operation import ended
from twinctl.options import client_of, options_of
from twinctl.paths import twin_path
from twinctl.render import Column, Json, emit, field_of, from_ns, say
from twinctl.spans import time_of
from twinmodel.clock import SystemClock
from twinmodel.files import storage_error


@click.command()
@click.argument("twin")
@click.option("--model", required=True, metavar="NAME@VERSION", help="The version to be tested.")
@click.option("--from", "from_", required=True, help="RFC 3339, or an age as 90s, 15min, 1h, 7d.")
@click.option("--to", default="", help="RFC 3339, or an age; now.")
@click.option("--against", default="", metavar="NAME@VERSION", help="Compare with this one; what runs now.")
@click.option("--warm-up", "warm_up_s", type=click.FloatRange(0, 604_800), help="Seconds before --from to settle in.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write the curves to this SVG file.")
@click.option("--no-wait", is_flag=True, help="Only ask; see `twinctl operation`.")
@click.pass_context
def backtest(
    ctx: click.Context,
    twin: str,
    model: str,
    from_: str,
    to: str,
    against: str,
    warm_up_s: float | None,
    plot: Path | None,
    no_wait: bool,  # noqa: FBT001 - a flag
) -> None:
    """Test another model version on TWIN's past; the live twin is not touched."""
    client = client_of(ctx)
    site, name = client.twin(twin)
    now_ns = SystemClock().wall_ns()
    body: Json = {"model": model, "against": against, "warm_up_s": warm_up_s}
    body |= {"from_time": time_of(from_, now_ns), "to_time": time_of(to, now_ns) if to else from_ns(now_ns)}
    asked = client.send("POST", f"{twin_path(site, name)}:backtest", body)
    if no_wait:
        emit(ctx, asked, _ASKED)
        return
    if asked["cached"] and asked["state"] == "done":
        say("answered from before: the same models, the same period, the same history")
    done = ended(client, asked, patience_s=24 * 3_600.0)
    if plot is not None:
        _write(plot, client.download(f"/operations/{done['id']}/plot.svg"))
    if options_of(ctx).output == "json":
        emit(ctx, done, [])
        return
    result = done["result"]
    emit(ctx, _rows(result), _SCORES)
    for line in result["verdict"]:
        click.echo(line)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise storage_error(error, path) from error
    say(f"wrote {path}")


def _rows(result: Json) -> list[Json]:
    rows = []
    for run in (result["candidate"], result["against"]):
        if run is not None:
            rows += [{**run, **figures, "output": output} for output, figures in run["outputs"].items()]
    return rows


def _figure(name: str) -> Column:
    return name, lambda row: None if row[name] is None else f"{row[name]:.4g}"


_ASKED: list[Column] = [("operation", field_of("id")), ("state", field_of("state")), ("cached", field_of("cached"))]
_SCORES: list[Column] = [
    ("model", field_of("model")),
    ("output", field_of("output")),
    *(_figure(name) for name in ("rmse", "mae", "bias", "nrmse", "nll", "nis")),
    ("1/2/3 sigma", lambda r: " ".join("-" if c is None else f"{c:.1%}" for c in r["coverage"])),
    ("white", lambda r: "yes" if r["white"] else "no"),
    ("alarms", field_of("drift_alarms")),
    ("in regime", lambda r: None if r["regime_coverage"] is None else f"{r['regime_coverage']:.1%}"),
    ("ticks", field_of("count")),
    ("missing", field_of("missing")),
]
