"""Commands of who installs a gateway: look at addresses, and at certificates; nothing of it writes to a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from twinedge.cli_options import (
    MODES,
    POLICIES,
    emit,
    end,
    identifier,
    login_options,
    output_option,
    pairs,
    run_quietly,
    say,
    state_option,
)

profiles_option = click.option(
    "--profiles",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="A folder of firmware profiles to look in first.",
)


@click.group("probe")
def probe_group() -> None:
    """Look at a device before anything is configured: who is there, and what does it say? Reads only."""


@probe_group.command("modbus")
@click.argument("place", metavar="HOST[:PORT]|rtu:///dev/ttyUSB0?baud=9600")
@click.option("--unit", "units", default="1..10", show_default=True, help="Unit ids to look for: 1, 1..247, 1,5,9.")
@click.option("--at", "places", multiple=True, metavar="'holding 3060'", help="A register to look at; repeatable.")
@click.option("--as", "as_", metavar="TYPE", help="Its type: float32, int16, string(16) ..  [default: try all]")
@click.option("--range", "low_high", metavar="LOW..HIGH", help="Where the value should lie, e.g. 0..100.")
@click.option("--scale", type=float, default=1.0, help="Factor from raw number to value.")
@click.option("--base", type=click.Choice(["0", "1"]), help="Does the document count from 0 or 1?  [default: try both]")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.05, 30), default=0.5, show_default=True, help="Seconds."
)
@profiles_option
@output_option
def probe_modbus(
    place: str,
    units: str,
    places: tuple[str, ...],
    as_: str | None,
    low_high: str | None,
    scale: float,
    base: str | None,
    timeout_s: float,
    profiles: Path | None,
    output: str,
) -> None:
    """Find the units behind an address, who they are, and what a register means.

    A register is shown in all four byte orders; the plausible one is starred, with its grounds.

    \b
    twinedge probe modbus 10.0.0.7 --unit 1..247
    twinedge probe modbus 10.0.0.7 --unit 1 --at 'holding 3060' --as float32 --range 0..500
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinedge.probe import modbus, target  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.modbus_text import modbus_text  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    expected = target.range_of(low_high)
    counted = None if base is None else int(base)
    questions = [modbus.Question(at, as_, expected, scale, counted) for at in places]
    document = run_quietly(
        modbus.probe_modbus(
            target.modbus_target(place),
            target.units_of(units),
            questions,
            clock=SystemClock(),
            timeout_s=timeout_s,
            profiles=profiles,
            tell=say,
        )
    )
    emit(output, document, modbus_text(document))
    end(modbus.failed(document))


@probe_group.command("opcua")
@click.argument("url", metavar="URL")
@click.option("--policy", type=click.Choice(POLICIES))
@click.option("--mode", type=click.Choice(MODES), help="[default: the strongest offered]")
@click.option("--user", help="Name of a user; told only to a server that is trusted.  [default: anonymous]")
@click.option("--password-file", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Its password.")
@profiles_option
@state_option
@output_option
def probe_opcua(
    url: str,
    policy: str | None,
    mode: str | None,
    user: str | None,
    password_file: Path | None,
    profiles: Path | None,
    state: Path,
    output: str,
) -> None:
    """Look at an OPC UA server: endpoints, certificate, trust on both sides, product, limits, clock, profiles.

    \b
    twinedge probe opcua opc.tcp://10.0.0.9:4840
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinedge.probe import opcua, target  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.opcua_text import opcua_text  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    place = target.url_target(url, "opcua")
    wanted = opcua.Wanted(policy, mode, user, password_file)
    say(f"asks {place} for its endpoints, then opens one session as {user or 'anonymous'}; reads only")
    document, problem = run_quietly(
        opcua.probe_opcua(place, wanted, state=state, clock=SystemClock(), profiles=profiles)
    )
    emit(output, document, opcua_text(document))
    if problem is not None:
        raise problem


@probe_group.command("mqtt")
@click.argument("url", metavar="URL")
@click.option("--filter", "filters", multiple=True, default=("#",), show_default=True, help="Topics; repeatable.")
@click.option("--for", "for_s", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True, help="Seconds.")
@click.option(
    "--messages", type=click.IntRange(1, 1_000_000), default=20_000, show_default=True, help="At most so many."
)
@login_options
@profiles_option
@output_option
def probe_mqtt(
    url: str,
    filters: tuple[str, ...],
    for_s: float,
    messages: int,
    profiles: Path | None,
    output: str,
    **login: Any,
) -> None:
    """Look at an MQTT broker: does it take us, what does it carry, how often, in which format?

    Listens at QoS 0 in a session of its own that leaves nothing behind; publishes nothing.

    \b
    twinedge probe mqtt mqtt://broker:1883
    twinedge probe mqtt mqtts://broker:8883 --ca ca.pem --filter 'plants/#' --for 60
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinedge.config.broker import Login  # noqa: PLC0415 - --help stays fast
    from twinedge.probe import mqtt, target  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.mqtt_text import mqtt_text  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    place = target.url_target(url, "mqtt")
    say(f"connects to {place} as {login['user'] or 'anonymous'} and listens for {for_s:g} s; publishes nothing")
    document, problem = run_quietly(
        mqtt.probe_mqtt(
            place,
            Login(**login),
            filters,
            for_s,
            identifier=identifier(),
            clock=SystemClock(),
            profiles=profiles,
            messages_max=messages,
        )
    )
    emit(output, document, mqtt_text(document))
    if problem is not None:
        raise problem


@click.group("trust")
def trust_group() -> None:
    """Certificates of OPC UA servers that this gateway trusts, and its own."""


@trust_group.command("list")
@state_option
@output_option
def trust_list(state: Path, output: str) -> None:
    """Servers' certificates: those a person has accepted, and those that wait for one."""
    from twinedge.probe import trust  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    rows = trust.listed(state, SystemClock())
    emit(output, rows, trust.listed_text(rows, state))


@trust_group.command("accept")
@click.argument("thumbprint")
@state_option
@output_option
def trust_accept(thumbprint: str, state: Path, output: str) -> None:
    """Trust the waiting certificate whose THUMBPRINT begins so; compare it with what the server shows first."""
    from twinedge.probe import trust  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    row = trust.accept(state, thumbprint, SystemClock())
    emit(output, row, pairs({"trusted": row["thumbprint"], "name": row["name"], "hosts": ", ".join(row["hosts"])}))
    say("a running agent uses it at its next attempt to connect, within seconds")


@trust_group.command("revoke")
@click.argument("thumbprint")
@state_option
@output_option
def trust_revoke(thumbprint: str, state: Path, output: str) -> None:
    """Trust a certificate no longer: it waits again, and the next connection to its server is refused."""
    from twinedge.probe import trust  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    row = trust.revoke(state, thumbprint, SystemClock())
    emit(output, row, pairs({"revoked": row["thumbprint"], "name": row["name"]}))
    say("a connection that stands is not cut; restart the agent to end it at once")


@trust_group.command("show")
@click.argument("thumbprint", required=False)
@state_option
@output_option
def trust_show(thumbprint: str | None, state: Path, output: str) -> None:
    """Show a server's certificate in full; without THUMBPRINT our own, which servers must trust."""
    from twinedge.probe import trust  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    clock = SystemClock()
    document = trust.one(state, thumbprint, clock) if thumbprint else trust.own(state, clock)
    emit(output, document, trust.described_text(document))
    if not thumbprint:
        say("on each server: put this file among its trusted client certificates, or accept the thumbprint there")


COMMANDS: tuple[click.Command, ...] = (probe_group, trust_group)
