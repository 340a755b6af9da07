"""The `twinsim` command: run simulated devices, fault them, list them, put a bad link in between."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twinmodel.process import loading
from twinsim.cli_options import Duration, Place
from twinsim.cli_scenario import scenario

if TYPE_CHECKING:
    from twinsim.scenario import Scenario
    from twinsim.simulation import Simulation

SHOWN_MAX = 8
PROTOCOL_NAMES = ("modbus", "opcua", "mqtt")


class _Commands(click.Group):
    """Commands of this module, and `demo`, which starts the other parts and is loaded only when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *(["demo"] if _has_demo() else [])])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "demo" and _has_demo():
            return _Demo("demo", short_help="Run the whole project on this machine, with a story and a verdict.")
        return super().get_command(ctx, cmd_name)


class _Demo(click.Command):
    """Stands for `twinsim.demo.demo` in lists; becomes it when it is called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        command: click.Command = importlib.import_module("twinsim.demo").demo
        return command.make_context(info_name, args, parent, **extra)


def _has_demo() -> bool:
    found = importlib.util.find_spec("twinsim.demo")
    return found is not None and found.origin is not None


def default_state() -> Path:
    """/var/lib/twinsim as root, else the XDG state directory."""
    if os.getuid() == 0:
        return Path("/var/lib/twinsim")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "twinsim"


_state = click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), default=default_state, help="State directory."
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hybridtwin")
def cli() -> None:
    """Devices, plants, faults and links that behave like real ones, by seed."""


cli.add_command(scenario)


@cli.group("run", invoke_without_command=True)
@click.option("--profile", help="Simulate this profile: vendor/device[/version], or a file.")
@click.option("--devices", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many.")
@click.option("--name", help="Devices are called NAME-1 ..  [default: the profile's device]")
@click.option("--set", "settings", multiple=True, metavar="POINT=VALUE", help="Keep a point: number, label, absent.")
@click.option("--firmware", default="", help="Firmware text to tell.  [default: one that fits the profile]")
@click.option("--port", type=click.IntRange(0, 65535), default=8500, show_default=True, help="First port; 0 for any.")
@click.option("--host", default="127.0.0.1", show_default=True, help="First address to listen on.")
@click.option(
    "--spread",
    type=click.Choice(["units", "ports", "hosts"]),
    default="units",
    show_default=True,
    help="modbus: all behind one port, a port each, or an address each.",
)
@click.option(
    "--framing", type=click.Choice(["tcp", "rtu"]), default="tcp", show_default=True, help="modbus: on the wire."
)
@click.option("--broker", "url", help="mqtt: a broker that runs, mqtt://HOST:PORT.  [default: one is started]")
@click.option("--rate", type=click.FloatRange(0.01, 100), help="Updates per second.  [default: 1]")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Repeats a run exactly.")
@click.option("--log/--no-log", default=None, help="Write the served log.  [default: for up to 100 devices]")
@_state
@click.pass_context
def run_group(
    ctx: click.Context,
    /,
    profile: str | None,
    name: str | None,
    settings: tuple[str, ...],
    seed: int,
    state: Path,
    **plan: Any,
) -> None:
    """Run simulated devices until interrupted: of any firmware profile, or those of the demo.

    \b
    twinsim run --profile abb/b23 --devices 40 --spread hosts --port 502
    twinsim run --profile ./pump.yaml --set pressure=4.2 --set alarm=true
    twinsim run modbus
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    if ctx.invoked_subcommand is not None:
        if profile is not None:
            raise click.UsageError(f"--profile and {ctx.invoked_subcommand} do not go together")
        return
    if profile is None:
        raise click.UsageError("say what to run: --profile P, or one of all, modbus, mqtt, opcua, scenario")
    from twinsim.image.source import split_settings  # noqa: PLC0415  # --help stays fast
    from twinsim.scenario import profile_scenario  # noqa: PLC0415  # --help stays fast

    name = name or _device_of(profile)
    kept = split_settings(settings)
    _run(
        profile_scenario(name, seed, profile=profile, set=kept, **{k: v for k, v in plan.items() if v is not None}),
        state,
    )


def _device_of(profile: str) -> str:
    """Name of the devices of a profile: its second part, or that of the folder a file lies in."""
    parts = profile.removesuffix(".yaml").removesuffix(".yml").strip("/").split("/")
    if profile.endswith((".yaml", ".yml")):
        return parts[-1]
    return parts[1] if len(parts) > 1 else parts[0]


def _run_command(name: str, protocols: tuple[str, ...], text: str) -> None:
    @run_group.command(name, help=text)
    @click.option("--devices", type=click.IntRange(1, 247), default=4, show_default=True, help="Devices per protocol.")
    @click.option("--port", type=click.IntRange(0, 65535), help="First port; 0 for any free ones.  [default: 8500]")
    @click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Repeats a run exactly.")
    @click.option("--rate", type=click.FloatRange(0.01, 100), help="Updates per second.  [default: modbus 10, else 1]")
    @_state
    def command(devices: int, port: int | None, seed: int, rate: float | None, state: Path) -> None:
        from twinsim.scenario import plain_scenario  # noqa: PLC0415  # --help stays fast

        _run(plain_scenario(protocols, devices=devices, seed=seed, port=port, rate=rate), state)


_run_command("modbus", ("modbus",), "Coupled tanks T-1.. as units 1.. of one Modbus TCP server.")
_run_command("opcua", ("opcua",), "Heat exchangers HX-1.. as objects of one OPC UA server.")
_run_command("mqtt", ("mqtt",), "Centrifugal pumps P-1.. publishing to an MQTT broker that is started, too.")
_run_command("all", PROTOCOL_NAMES, "All three: modbus at PORT, opcua at PORT+1, mqtt at PORT+2.")


@run_group.command("scenario")
@click.argument("file", type=click.Path(path_type=Path))
@_state
def run_scenario(file: Path, state: Path) -> None:
    """Run what a YAML file describes: devices, links, and faults at given times."""
    from twinmodel.profile.document import read_document  # noqa: PLC0415  # --help stays fast
    from twinsim.scenario import read_scenario  # noqa: PLC0415  # --help stays fast
    from twinsim.virtual import check_devices  # noqa: PLC0415  # --help stays fast

    plan = read_scenario(file)
    check_devices(plan, read_document(file))
    _run(plan, state)


def _run(plan: Scenario, state: Path) -> None:
    with loading():
        from twinmodel.clock import SystemClock  # noqa: PLC0415  # --help stays fast
        from twinmodel.logs import configure_logs  # noqa: PLC0415  # --help stays fast
        from twinsim.simulation import run  # noqa: PLC0415  # --help stays fast

    configure_logs(silent=("pymodbus", "asyncua"))
    asyncio.run(_until_signal(lambda stop: run(plan, state, SystemClock(), stop, _tell_ready)))


async def _until_signal(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs something that ends when its event is set, which SIGTERM and SIGINT do."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await work(stop)


def _tell_ready(made: Simulation) -> None:
    places = " ".join(f"{name}={address}" for name, address in made.addresses.items())
    click.echo(f"ready: {len(made.devices)} devices {places} state={made.state}", err=True)


@cli.command()
@click.argument("target", required=False)
@click.argument("kind", required=False)
@click.option("--for", "for_s", type=Duration(), help="End it after this time, e.g. 30s.")
@click.option("--size", type=float, help="How much: unit, unit/s, share or seconds, as the kind takes it.")
@click.option("--point", default="", help="Sensor to hit, `*` for all.  [default: the first]")
@click.option("--to", default="", help="firmware_update: the profile, or the firmware version, it becomes.")
@click.option("--script", type=click.Path(path_type=Path), help="Play the faults of a YAML file, from now on.")
@click.option("--dry-run", is_flag=True, help="With --script: look it through and list what would happen when.")
@_state
def fault(
    target: str | None, kind: str | None, state: Path, script: Path | None, *, dry_run: bool, **plan: Any
) -> None:
    """Switch on a fault of a device or link: `fault HX-3 stuck`; `fault clear HX-3` ends all of them.

    \b
    Devices: stuck drift spike plant_drift dropout refuse reboot firmware_update
    modbus:  busy exception wrong_id wrong_unit late byte_by_byte short oversized
             reset half_open map_change write_refused write_ignored write_unanswered
    opcua:   bad_status uncertain old_clock future_clock overflow renumber alarm
             write_ignored
    mqtt:    death flood huge bad_utf8 retained broker_loss old_clock future_clock
    Links:   cut half_open reset delay up
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinsim.control import send_order  # noqa: PLC0415  # --help stays fast

    if script is not None:
        if target is not None or any(plan.values()):
            raise click.UsageError("a script says target, kind and all else itself")
        _play(script, state, dry_run=dry_run)
        return
    if target is None or kind is None or dry_run:
        raise click.UsageError("say which fault of what: TARGET KIND, or --script FILE")
    if target == "clear":
        send_order(state, {"do": "clear", "target": kind})
        return
    send_order(state, {"do": "fault", "target": target, "kind": kind, **plan})


def _play(file: Path, state: Path, *, dry_run: bool) -> None:
    from twinmodel.clock import SystemClock  # noqa: PLC0415  # --help stays fast
    from twinmodel.profile.document import read_document  # noqa: PLC0415  # --help stays fast
    from twinsim.script import check_script, describe, play, read_script  # noqa: PLC0415  # --help stays fast

    script = read_script(file)
    check_script(script, state, read_document(file))
    if dry_run:
        for line in describe(script):
            click.echo(line)
        return
    taken = play(script, state, SystemClock(), click.echo, threading.Event().wait)
    _tell(f"played {taken} faults of {file}")


@cli.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json", "name"]), default="table", show_default=True)
@_state
def list_targets(output: str, state: Path) -> None:
    """List the devices and links of the running simulation, and their faults."""
    from twinsim.control import send_order  # noqa: PLC0415  # --help stays fast

    answer = send_order(state, {"do": "list"})
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
        return
    for item in answer["devices"]:
        state_text = ",".join(item["faults"]) or "ok"
        numbers = [f"{k}={v:g}" for k, v in item["reading"].items() if v is not None]
        values = " ".join(numbers[:SHOWN_MAX]) + (" ..." if len(numbers) > SHOWN_MAX else "")
        row = f"{item['name']:<8} {item['protocol']:<7} {state_text:<13} {values}"
        click.echo(item["name"] if output == "name" else row)
    for item in answer["links"]:
        text = f"{item['name']:<8}link    {item['mode']:<14}{item['address']} -> {item['to']}"
        click.echo(item["name"] if output == "name" else text)


@cli.command("link")
@click.option("--listen", type=Place(), required=True, help="HOST:PORT to accept at; port 0 for any.")
@click.option("--to", "target", type=Place(), required=True, help="HOST:PORT to lead to.")
@click.option("--name", default="link", show_default=True, help="Name for `twinsim fault NAME cut`.")
@_state
def link_command(listen: tuple[str, int], target: tuple[str, int], name: str, state: Path) -> None:
    """Run one TCP link that `twinsim fault NAME cut|half_open|reset|delay|up` controls."""
    from twinsim.scenario import LinkPlan, Scenario  # noqa: PLC0415  # --help stays fast

    plan = LinkPlan(listen=f"{listen[0]}:{listen[1]}", to=f"{target[0]}:{target[1]}")
    _run(Scenario(seed=1, links={name: plan}), state)


@cli.command("record")
@click.argument("protocol", type=click.Choice(PROTOCOL_NAMES))
@click.option("--from", "origin", required=True, help="tcp://HOST:PORT, opc.tcp://HOST:PORT or mqtt://HOST:PORT.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to make.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="modbus: where the proxy listens.  [default: any]"
)
@click.option("--topic", "topics", multiple=True, default=("#",), show_default=True, help="mqtt: filter; repeatable.")
@click.option("--root", default="", help="opcua: browse path to record below, as 2:Pump.  [default: all]")
@click.option("--for", "for_s", type=Duration(), help="Stop after this time.  [default: until interrupted]")
def record_command(protocol: str, origin: str, out: Path, for_s: float | None, **options: Any) -> None:
    """Record a real session: what a Modbus device answers, a broker delivers, an OPC UA server notifies of.

    \b
    modbus: connect the client to the address that is printed instead of the device
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinmodel.clock import SystemClock  # noqa: PLC0415  # --help stays fast
    from twinsim.recording.command import record  # noqa: PLC0415  # --help stays fast

    async def work(stop: asyncio.Event) -> None:
        if for_s is not None:
            asyncio.get_running_loop().call_later(for_s, stop.set)
        made = await record(protocol, origin, out, SystemClock(), stop, _tell, **options)
        _tell(f"recorded {made.count} events in {out}" + (f", {made.lost} found no room" if made.lost else ""))

    asyncio.run(_until_signal(work))


@cli.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--speed", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True, help="Times as fast.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where to serve.  [default: any]")
@click.option("--broker", help="mqtt: where to publish, mqtt://HOST:PORT.")
@_state
def replay_command(file: Path, speed: float, port: int, broker: str | None, state: Path) -> None:
    """Serve a recorded session again as a device, over and over; publish recorded messages once."""
    from twinmodel.clock import SystemClock  # noqa: PLC0415  # --help stays fast
    from twinmodel.logs import configure_logs  # noqa: PLC0415  # --help stays fast
    from twinsim.recording.command import replay  # noqa: PLC0415  # --help stays fast

    configure_logs(silent=("asyncua",))
    state.mkdir(parents=True, exist_ok=True)

    async def work(stop: asyncio.Event) -> None:
        await replay(file, SystemClock(), stop, _tell, state=state, speed=speed, port=port, broker=broker)

    asyncio.run(_until_signal(work))


def _tell(text: str) -> None:
    click.echo(text, err=True)
