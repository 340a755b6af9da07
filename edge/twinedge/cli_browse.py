"""Commands of who installs a gateway: see what a device offers, and read all of a site once; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from twinedge.cli_options import (
    MODES,
    POLICIES,
    config_option,
    emit,
    end,
    identifier,
    login_options,
    output_option,
    run_quietly,
    say,
    state_option,
)
from twinmodel.errors import Exit

F = TypeVar("F", bound=Callable[..., Any])


@click.group("browse")
def browse_group() -> None:
    """See all that a device offers, and draft a firmware profile from it. Reads only."""


def _browse_options(command: F) -> F:
    draft = click.Path(dir_okay=False, path_type=Path)
    for option in (
        output_option,
        state_option,
        config_option,
        click.option("--replace", is_flag=True, help="Replace FILE."),
        click.option(
            "--as-profile", "profile", type=draft, metavar="FILE", help="Write a draft of a firmware profile."
        ),
    ):
        command = option(command)
    return command


@browse_group.command("opcua")
@click.argument("place", metavar="DEVICE|URL")
@click.option("--path", default="", help="Browse path below Objects, or a node id.  [default: all but Server]")
@click.option("--depth", type=click.IntRange(1, 64), default=8, show_default=True, help="Levels below it.")
@click.option("--nodes", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="At most so many.")
@click.option(
    "--within", "within_s", type=click.FloatRange(0.1, 3600), default=30.0, show_default=True, help="Seconds."
)
@click.option("--policy", type=click.Choice(POLICIES), help="Of a URL.  [default: the strongest offered]")
@click.option("--mode", type=click.Choice(MODES))
@click.option("--user", help="Of a URL: told only to a server that is trusted.  [default: anonymous]")
@click.option("--password-file", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Its password.")
@_browse_options
def browse_opcua(
    place: str,
    path: str,
    depth: int,
    nodes: int,
    within_s: float,
    policy: str | None,
    mode: str | None,
    user: str | None,
    password_file: Path | None,
    profile: Path | None,
    config: Path,
    state: Path,
    output: str,
    *,
    replace: bool,
) -> None:
    """The tree of an OPC UA server: type, value, unit and access of each node.

    \b
    twinedge browse opcua press
    twinedge browse opcua opc.tcp://10.0.0.9:4840 --path Press --as-profile press.yaml
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinedge.drivers.opcua_browse import BrowseLimits  # noqa: PLC0415 - --help stays fast
    from twinedge.probe import browse_opcua as tree  # noqa: PLC0415 - --help stays fast
    from twinedge.probe import browsing  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.opcua import Wanted  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    wanted, limits = Wanted(policy, mode, user, password_file), BrowseLimits(nodes, depth, within_s)
    document = run_quietly(
        browsing.opcua(place, wanted, path=path, limits=limits, config=config, state=state, clock=SystemClock())
    )
    emit(output, document, tree.tree_text(document))
    if profile is not None:
        say(browsing.save(tree.draft_of(document), profile, replace=replace))
        say(f'in site.yaml: {{opcua: "{document["url"]}", root: {document["path"] or chr(39) * 2}, profile: ...}}')


@browse_group.command("mqtt")
@click.argument("place", metavar="DEVICE|URL")
@click.option("--path", default="", help="Beginning of the topics of one device; Sparkplug: GROUP/NODE[/DEVICE].")
@click.option("--for", "for_s", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True, help="Seconds.")
@login_options
@_browse_options
def browse_mqtt(
    place: str,
    path: str,
    for_s: float,
    profile: Path | None,
    config: Path,
    state: Path,
    output: str,
    *,
    replace: bool,
    **login: Any,
) -> None:
    """The topics of a broker below a root, with formats and values.

    \b
    twinedge browse mqtt mqtt://broker:1883 --path plants/P-1 --as-profile pump.yaml
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinedge.config.broker import Login  # noqa: PLC0415 - --help stays fast
    from twinedge.probe import browse_mqtt as topics  # noqa: PLC0415 - --help stays fast
    from twinedge.probe import browsing  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.mqtt_text import mqtt_text  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    del state
    say(f"listens for {for_s:g} s; publishes nothing")
    document, root = run_quietly(
        browsing.mqtt(
            place,
            Login(**login),
            path=path,
            for_s=for_s,
            config=config,
            identifier=identifier(),
            clock=SystemClock(),
            messages_max=20_000,
        )
    )
    emit(output, document, mqtt_text(document))
    if profile is not None:
        draft, root = topics.draft_of(document, root)
        say(browsing.save(draft, profile, replace=replace))
        say(f'in site.yaml: {{mqtt: "{document["url"]}", root: {root}, profile: ...}}')


@browse_group.command("modbus")
@click.argument("place", metavar="DEVICE|HOST[:PORT]")
@click.option("--unit", default="1", show_default=True, help="Unit id.")
@click.option(
    "--path", default="", metavar="'holding 0..199'", help="Registers, from 0.  [default: 0..99 of both tables]"
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.05, 30), default=0.5, show_default=True, help="Seconds."
)
@click.option(
    "--within", "within_s", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, help="Seconds."
)
@_browse_options
def browse_modbus(
    place: str,
    unit: str,
    path: str,
    timeout_s: float,
    within_s: float,
    profile: Path | None,
    config: Path,
    state: Path,
    output: str,
    *,
    replace: bool,
) -> None:
    """The registers of a unit that can be read, and what they likely mean."""
    from twinedge.probe import browse_modbus as registers  # noqa: PLC0415 - --help stays fast
    from twinedge.probe import browsing  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    del state
    document = run_quietly(
        browsing.modbus(
            place, unit, path=path, within_s=within_s, timeout_s=timeout_s, config=config, clock=SystemClock()
        )
    )
    emit(output, document, registers.registers_text(document))
    if profile is not None:
        say(browsing.save(registers.draft_of(document), profile, replace=replace))


@click.command("test")
@click.argument("devices", nargs=-1)
@click.option(
    "--within", "within_s", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True, help="Seconds."
)
@click.option("--anyway", is_flag=True, help="Also devices of one connection that a running agent holds.")
@config_option
@state_option
@output_option
def test_command(
    devices: tuple[str, ...], within_s: float, config: Path, state: Path, output: str, *, anyway: bool
) -> None:
    """Read every device of site.yaml once, as the agent would; nothing is written, neither there nor here.

    Exit code 3 when a device fails; each point that fails is named with its reason.
    """
    from twinedge.config.load import load_site  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.trial import trial  # noqa: PLC0415 - --help stays fast
    from twinedge.probe.trial_text import summary, trial_text  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    loaded = load_site(config)
    document = run_quietly(trial(loaded, devices, state=state, clock=SystemClock(), within_s=within_s, anyway=anyway))
    emit(output, document, trial_text(document))
    say(summary(document))
    end(0 if document["ok"] else Exit.UNHEALTHY)


COMMANDS: tuple[click.Command, ...] = (browse_group, test_command)
