"""The command line of the demo: flags in, story out, the verdict as the last line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import click

from twinmodel.clock import SystemClock
from twinmodel.errors import Exit
from twinsim.demo.story import Story
from twinsim.deployment.run import make_anew
from twinsim.deployment.running import Ports


def default_state() -> Path:
    """XDG state directory of the demo; made anew by each run."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "hybridtwin-demo"


@click.command("demo")
@click.option(
    "--seconds", type=click.IntRange(0), default=0, help="End by itself after this time; 0 runs until Ctrl-C."
)
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), default=default_state, help="Made anew.")
@click.option("--port", type=click.IntRange(0, 65000), default=8420, show_default=True, help="Console; 0 for any.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Repeats the plants exactly.")
@click.option("--broker", type=click.Choice(["mosquitto", "amqtt"]), help="MQTT broker.  [default: what is installed]")
def demo(seconds: int, state: Path, port: int, seed: int, broker: str | None) -> None:
    """Live twins of simulated devices: 3 sites, 6 gateways, 24 twins; one drifts, one gateway goes offline.

    Everything is real but the plants: protocol servers, a broker, agents, mutual TLS, coordinator, console.
    """
    make_anew(state, ".hybridtwin-demo")
    # Whoever ends the demo ends its programs with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    story = Story(state, Ports.from_console(port), SystemClock(), click.echo, seed=seed, broker=broker or "")
    figures = story.tell(seconds)
    click.echo(json.dumps(figures))
    if figures["lost"] or figures["duplicates"]:
        raise SystemExit(Exit.FAILED)
