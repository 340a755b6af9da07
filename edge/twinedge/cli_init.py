"""`twinedge init`: asks, looks for devices, and writes a first site.yaml."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinedge.cli_options import config_option, identifier, run_quietly, say, state_option, table
from twinmodel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twinedge.install.search import Found

_UNITS = "1..3"
_QUESTIONS = {
    "modbus": "Modbus: where to look (10.0.0.0/28, 10.0.0.20..59, /dev/ttyUSB0; empty for nowhere)",
    "opcua": "OPC UA: where to look (10.0.0.9, opc.tcp://press:4840; empty for nowhere)",
    "mqtt": "MQTT: which broker (mqtt://10.0.0.5; empty for none)",
}


@click.command("init")
@config_option
@state_option
@click.option("--site", help="Name of the site.  [default: the name of this machine]")
@click.option("--modbus", multiple=True, metavar="WHERE", help="10.0.0.0/28, 10.0.0.20..59, a host, /dev/ttyUSB0.")
@click.option("--units", help=f"Modbus unit ids to look for.  [default: {_UNITS}]")
@click.option("--opcua", multiple=True, metavar="WHERE", help="A host, a range or a URL.")
@click.option("--mqtt", multiple=True, metavar="URL", help="A broker; it is listened to for ten seconds.")
@click.option(
    "--profiles",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="A folder of firmware profiles to look in first.",
)
@click.option("--disk", default="2GiB", show_default=True, help="Disk for the buffer.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.05, 30), default=0.5, show_default=True, help="Seconds."
)
@click.option("--replace", is_flag=True, help="Write it although there is one; that is kept beside it.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
def init_command(
    config: Path,
    state: Path,
    site: str | None,
    modbus: tuple[str, ...],
    units: str | None,
    opcua: tuple[str, ...],
    mqtt: tuple[str, ...],
    profiles: Path | None,
    disk: str,
    timeout_s: float,
    *,
    replace: bool,
    yes: bool,
) -> None:
    """Look for devices, propose a firmware profile for each, and write a first site.yaml.

    Reads only: no device is written to, no password is tried. It looks where you say, and asks when you do not.

    \b
    twinedge init --site plant-a --modbus 10.0.0.0/28 --opcua 10.0.0.9 --mqtt mqtt://10.0.0.5
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinedge.install import proposal  # noqa: PLC0415 - --help stays fast
    from twinedge.install.search import places_of  # noqa: PLC0415 - --help stays fast

    proposal.refuse_existing(config, replace=replace)
    proposal.refuse_unfit(site or _machine(), disk)
    where = {"modbus": modbus, "opcua": opcua, "mqtt": mqtt}
    asking = not yes and _is_terminal()
    if asking:
        site = site or click.prompt("Name of the site", default=_machine(), err=True, value_proc=_name)
        if not any(where.values()):
            where["modbus"] = _asked("modbus")
            if where["modbus"] and units is None:
                units = click.prompt("  which unit ids", default=_UNITS, err=True, value_proc=_units)
            where |= {"opcua": _asked("opcua"), "mqtt": _asked("mqtt")}
    if not any(where.values()):
        raise click.UsageError("name where to look: --modbus, --opcua or --mqtt")
    places = {protocol: [p for text in texts for p in places_of(protocol, text)] for protocol, texts in where.items()}
    found = run_quietly(_search(places, units or _UNITS, state, profiles, timeout_s))
    devices = proposal.named(found)
    if devices:
        say(_shown(devices))
        for step in dict.fromkeys(one.step for one in devices.values() if one.step and one.profile):
            say(f"first: {step}")
    proposal.refuse_nothing(devices)
    if asking:
        devices = _chosen(devices)
        proposal.refuse_nothing(devices)
    text = proposal.site_text(
        site or _machine(), devices, disk=disk, profiles=None if profiles is None else str(profiles.resolve())
    )
    kept = proposal.write_site(config, text, replace=replace)
    if kept is not None:
        say(f"the one before is kept as {kept}")
    say(f"{config} written; next: twinedge test, twinedge plan, twinedge join ..., twinedge service install")


async def _search(
    places: Mapping[str, list[str]], units: str, state: Path, profiles: Path | None, timeout_s: float
) -> list[Found]:
    from twinedge.install import search  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.target import units_of  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.trust import own  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    clock = SystemClock()
    found = await search.find_modbus(
        places["modbus"], units_of(units), clock=clock, profiles=profiles, timeout_s=timeout_s, tell=say
    )
    if places["opcua"]:
        # Servers have to trust it: it is there, to be copied, before the first one is asked.
        mine = own(state, clock)
        say(f"our OPC UA certificate {mine['thumbprint']} lies in {mine['path']}")
        found += await search.find_opcua(places["opcua"], state=state, clock=clock, profiles=profiles, tell=say)
    if places["mqtt"]:
        found += await search.find_mqtt(
            places["mqtt"], clock=clock, profiles=profiles, identifier=identifier(), tell=say
        )
    return found


def _asked(protocol: str) -> tuple[str, ...]:
    """Places a person names; what is none is asked again, not found out after all other answers."""
    from twinedge.install.search import places_of  # noqa: PLC0415 - --help stays fast

    def places(text: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in text.split(",") if part.strip())
        _again(lambda: [places_of(protocol, part) for part in found])
        return found

    answer: tuple[str, ...] = click.prompt(
        _QUESTIONS[protocol], default="", show_default=False, err=True, value_proc=places
    )
    return answer


def _name(text: str) -> str:
    from twinedge.install.proposal import refuse_unfit  # noqa: PLC0415 - --help stays fast

    _again(lambda: refuse_unfit(text, "1GiB"))
    return text


def _units(text: str) -> str:
    from twinedge.probe.target import units_of  # noqa: PLC0415 - --help stays fast

    _again(lambda: units_of(text))
    return text


def _again(read: Callable[[], object]) -> None:
    """Has the question asked again when its answer cannot be read."""
    try:
        read()
    except InputError as wrong:
        raise click.UsageError(f"{wrong.message}; {wrong.hint}") from wrong


def _chosen(devices: Mapping[str, Found]) -> dict[str, Found]:
    """Names and a yes for each device that a profile reads; the others stay as comments."""
    chosen: dict[str, Found] = {}
    for name, one in devices.items():
        if not one.profile:
            chosen[name] = one
        elif click.confirm(
            f"{one.address} {one.root or one.unit_id or ''} as {one.profile}?", default=one.sure, err=True
        ):
            called = click.prompt("  its name", default=name, err=True)
            while called in chosen or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", called):
                called = click.prompt("  another name, of letters, digits, - and _", default=name, err=True)
            chosen[called] = one
    return chosen


def _shown(devices: Mapping[str, Found]) -> str:
    rows = [
        [name, one.address, one.unit_id or one.root, f"{'*' if one.sure else ' '} {one.profile or '-'}", one.why]
        for name, one in devices.items()
    ]
    return table(["NAME", "ADDRESS", "UNIT/ROOT", "  PROFILE", "WHY"], rows)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _machine() -> str:
    name = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0]).strip("-_")[:63]
    return name or "site"
