"""`twinsim scenario`: a whole plant by one file, run, checked, listed; what devices alone do by a seed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import click

from twinmodel.errors import Exit
from twinsim.cli_options import Duration


def default_state() -> Path:
    """XDG state directory of scenarios; made anew by each run."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "hybridtwin-scenario"


@click.group("scenario")
def scenario() -> None:
    """Whole plants by one file: devices, links, coordinator, gateways, steps, and what must come of it."""


@scenario.command("run")
@click.argument("file")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), default=default_state, help="Made anew.")
@click.option("--seconds", type=click.FloatRange(0.1), help="How long it lasts.  [default: `lasts` of the file]")
@click.option("--seed", type=click.IntRange(0), help="Other values of the same devices.  [default: that of the file]")
@click.option("--port", type=click.IntRange(0, 65000), default=0, show_default=True, help="Console; 0 for any.")
def run_command(file: str, state: Path, seconds: float | None, seed: int | None, port: int) -> None:
    """Run a scenario and judge it: progress on stderr, the report as JSON on stdout; 3 is a scenario that failed.

    FILE is a path, or the name of a scenario that `twinsim scenario list` shows.
    """
    from twinmodel.clock import SystemClock  # noqa: PLC0415  # --help stays fast
    from twinsim.deployment.run import find_scenario, make_anew, run_scenario  # noqa: PLC0415  # --help stays fast

    path = find_scenario(file)
    make_anew(state)
    # Whoever ends the run ends its programs with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = run_scenario(path, state, SystemClock(), _tell, seconds=seconds, seed=seed, port=port)
    text = json.dumps(report, indent=2)
    (state / "report.json").write_text(text + "\n")
    click.echo(text)
    if not report["passed"]:
        raise SystemExit(Exit.UNHEALTHY)


@scenario.command("check")
@click.argument("file")
def check_command(file: str) -> None:
    """Look a file through without starting anything; silent when all is well.

    Every name is looked up, every fault asked of its device, every model built, every site.yaml read by twinedge.
    """
    from twinsim.deployment.run import check_scenario, find_scenario  # noqa: PLC0415  # --help stays fast

    check_scenario(find_scenario(file))


@scenario.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json", "name"]), default="table", show_default=True)
def list_command(output: str) -> None:
    """List the scenarios that come along."""
    from twinsim.deployment.run import shipped  # noqa: PLC0415  # --help stays fast

    found = [
        {"name": path.stem, "lasts_s": plan.lasts / 1e9, "description": plan.description, "path": str(path)}
        for path, plan in shipped()
    ]
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        row = f"{one['name']:<24}{one['lasts_s']:>6.0f} s  {one['description']}"
        click.echo(one["name"] if output == "name" else row)


@scenario.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a scenario file."""
    from twinsim.deployment.schema import Deployment  # noqa: PLC0415  # --help stays fast

    click.echo(json.dumps(Deployment.model_json_schema(by_alias=True), indent=2))


@scenario.command("stream")
@click.argument("file")
@click.option("--for", "for_s", type=Duration(), default=60.0, show_default=True, help="How much of the devices' time.")
@click.option("--digest", is_flag=True, help="Only the number of lines and their SHA-256.")
def stream_command(file: str, for_s: float, *, digest: bool) -> None:
    """Print what the devices of a file measure, faults included, in virtual time: the same lines for the same seed."""
    from twinsim.deployment.run import find_scenario  # noqa: PLC0415  # --help stays fast
    from twinsim.deployment.schema import read_deployment  # noqa: PLC0415  # --help stays fast
    from twinsim.virtual import digest_of, stream  # noqa: PLC0415  # --help stays fast

    lines = stream(read_deployment(find_scenario(file)), for_s)
    if digest:
        click.echo(json.dumps(digest_of(lines)))
        return
    for line in lines:
        click.echo(line)


def _tell(text: str) -> None:
    click.echo(text, err=True)
