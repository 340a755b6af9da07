"""`twinctl`: fleets, twins, gateways and models of a coordinator, from a shell.

Data goes to stdout, talk to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 unhealthy, 4 not allowed, 5 unreachable.
"""

from __future__ import annotations

import difflib

import click

from twinctl.commands.alarm import alarm
from twinctl.commands.command import command
from twinctl.commands.context import context, login
from twinctl.commands.directive import deadletter, directive
from twinctl.commands.fleet import fleet
from twinctl.commands.gateway import gateway
from twinctl.commands.model import model
from twinctl.commands.operation import operation
from twinctl.commands.profile import profile
from twinctl.commands.retention import retention
from twinctl.commands.twin import twin
from twinctl.commands.twin_command import command as twin_command
from twinctl.commands.twin_export import export
from twinctl.commands.twin_replay import explain as explain_value
from twinctl.commands.twin_replay import replay
from twinctl.options import Root
from twinctl.render import emit
from twinmodel.errors import REASONS, MissingError

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group("twinctl", cls=Root, context_settings=_SETTINGS)
@click.version_option(package_name="hybridtwin", message="twinctl %(version)s")
def cli() -> None:
    """Ask and steer a hybridtwin coordinator.

    First `twinctl context add plant --url http://HOST:8420` and `twinctl login`, then `twinctl fleet`.
    """


@cli.command()
@click.argument("reason")
@click.pass_context
def explain(ctx: click.Context, reason: str) -> None:
    """Tell what an error's REASON means and what to do."""
    name = reason.strip().strip(":").upper()
    found = REASONS.get(name)
    if found is None:
        near = difflib.get_close_matches(name, REASONS, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "reasons are printed as `error: REASON ...`"
        raise MissingError("NOT_FOUND", f"no reason {reason!r}", hint=hint)
    row = {
        "reason": name,
        "hint": found.hint,
        "exit": int(found.exit),
        "exit_name": found.exit.name.lower().replace("_", " "),
        "http": found.http,
        "grpc": found.grpc,
    }
    emit(
        ctx,
        row,
        [
            ("reason", lambda r: r["reason"]),
            ("what to do", lambda r: r["hint"]),
            ("exit code", lambda r: f"{r['exit']} ({r['exit_name']})"),
            ("HTTP status", lambda r: r["http"]),
            ("gRPC status", lambda r: r["grpc"]),
        ],
    )


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL; e.g. eval "$(twinctl completion bash)"."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only this command needs it

    made = get_completion_class(shell)
    assert made is not None  # the choices above are the shells click knows
    click.echo(made(cli, {}, "twinctl", "_TWINCTL_COMPLETE").source())


for _part in (context, login, fleet, twin, alarm, gateway, model, profile, directive, deadletter, operation, retention):
    cli.add_command(_part)

cli.add_command(command)
twin.add_command(twin_command)
twin.add_command(export)
twin.add_command(explain_value)
twin.add_command(replay)


def main() -> None:
    """Entry point."""
    cli(prog_name="twinctl")
