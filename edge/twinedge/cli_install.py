"""Commands of who sets a gateway up: the agent as a service of systemd."""

from __future__ import annotations

from pathlib import Path

import click

from twinedge.cli_options import say


@click.group("service")
def service_group() -> None:
    """The agent as a service of systemd: started with the machine, watched, few rights."""


_root = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    help="Root of an image to prepare instead of this machine.",
)


@service_group.command("install")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("/etc/hybridtwin/twinedge.yaml"),
    show_default=True,
    help="The gateway's site.yaml.",
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/var/lib/twinedge"),
    show_default=True,
    help="State directory.",
)
@click.option("--user", default="twinedge", show_default=True, help="Who runs it; made when there is none.")
@click.option("--program", type=click.Path(path_type=Path), help="Program to start.  [default: this installation's]")
@click.option("--no-start", is_flag=True, help="Enable it, start it with the machine.")
@click.option("--print", "print_only", is_flag=True, help="Print the unit file and do nothing.")
@_root
def service_install(
    config: Path, state: Path, user: str, program: Path | None, root: Path, *, no_start: bool, print_only: bool
) -> None:
    """Write the unit file, make user and folders, enable and start the service.

    Doing it again changes what differs and nothing else. Join first: an agent that has not joined is
    started again every two seconds and reads nothing until it has.
    """
    from twinedge.install import unit  # noqa: PLC0415 - --help stays fast

    serial = unit.has_serial(root / config.relative_to("/")) if config.is_absolute() else False
    service = unit.Service(program or unit.this_program(), config, state, user, serial)
    if print_only:
        click.echo(unit.unit_text(service), nl=False)
        return
    for line in unit.install(service, root=root, run=unit.run_command, start=not no_start):
        say(line)


@service_group.command("uninstall")
@_root
def service_uninstall(root: Path) -> None:
    """Stop the service and take its unit away; configuration, identity and spool stay."""
    from twinedge.install import unit  # noqa: PLC0415 - --help stays fast

    for line in unit.uninstall(root=root, run=unit.run_command):
        say(line)
