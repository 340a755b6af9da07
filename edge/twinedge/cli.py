"""The `twinedge` command: join a coordinator, run the agent, look at what it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from twinedge import cli_browse, cli_probe
from twinedge.cli_alarm import alarm_group
from twinedge.cli_command import command_group
from twinedge.cli_config import config_group
from twinedge.cli_doctor import doctor_command
from twinedge.cli_init import init_command
from twinedge.cli_install import service_group
from twinedge.cli_options import config_option, emit, end, output_option, say, state_option
from twinedge.cli_plan import plan_command
from twinedge.cli_top import top_command
from twinmodel.errors import REASONS, Exit, MissingError
from twinmodel.process import loading

F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hybridtwin")
def cli() -> None:
    """The gateway agent: reads devices, runs models beside the machine, loses nothing offline."""


for _command in (
    *cli_probe.COMMANDS,
    *cli_browse.COMMANDS,
    doctor_command,
    top_command,
    init_command,
    plan_command,
    service_group,
    alarm_group,
    command_group,
    config_group,
):
    cli.add_command(_command)


@cli.command()
@click.argument("url")
@click.option("--token", required=True, help="One-time token of the invitation.")
@click.option("--ca-sha256", required=True, help="Fingerprint of the coordinator's certificate authority.")
@state_option
def join(url: str, token: str, ca_sha256: str, state: Path) -> None:
    """Enrol this gateway: run the line that `twinctl gateway invite` printed."""
    from twinedge.enrol import join as enrol  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    joined = enrol(url, token, ca_sha256, state, SystemClock())
    say(f"joined as {joined.site}/{joined.gateway} of {joined.tenant}; next: twinedge service install, or twinedge run")


@cli.command()
@config_option
@state_option
@click.option("--kernel-cache", type=click.Path(file_okay=False, path_type=Path), help="Folder of compiled kernels.")
@click.option("--offline", is_flag=True, help="Read, model and buffer, but do not look for the coordinator.")
@click.option("--ready-file", type=click.Path(dir_okay=False, path_type=Path), help="Written once devices are read.")
def run(config: Path, state: Path, kernel_cache: Path | None, ready_file: Path | None, *, offline: bool) -> None:
    """Run the agent until SIGTERM: devices in, estimates beside the machine, everything to the coordinator."""
    with loading():
        from twinedge.service import serve  # noqa: PLC0415 - --help stays fast

    serve(config, state, kernel_cache=kernel_cache, offline=offline, ready_file=ready_file)


@cli.command()
@config_option
@state_option
@output_option
def status(config: Path, state: Path, output: str) -> None:
    """Ask the running agent how it is; exit code 3 while it is degraded, 5 when none answers."""
    from twinedge.health.client import render, running_status  # noqa: PLC0415 - --help stays fast

    document = running_status(config, state)
    emit(output, document, render(document))
    end(Exit.UNHEALTHY if document["degraded"] else 0)


@cli.command()
@click.option("--kernel-cache", type=click.Path(file_okay=False, path_type=Path), help="Folder of compiled kernels.")
@click.option("--aot", is_flag=True, help="Also link them into one library, which needs neither numba nor LLVM to run.")
def warmup(kernel_cache: Path | None, *, aot: bool) -> None:
    """Compile the model kernels now, so that the first start need not.

    With --aot the agent saves their memory on small gateways: it then runs the generic kernels, and generates none for
    single models. Without a C compiler or linker the exit code is 1, and the compiled kernels stay as they are.
    """
    from twinmodel.kernel import warmup as kernels  # noqa: PLC0415 - --help stays fast

    say("compiles what is not compiled yet: half a minute a kernel at most, longer on a busy machine")
    say(f"ready: {', '.join(kernels.warm(kernel_cache))}")
    if aot:
        say(f"linked: {kernels.link(kernel_cache)}")


@cli.group()
def spool() -> None:
    """Look into the durable buffer; works beside a running agent."""


@spool.command("status")
@state_option
@output_option
def spool_status(state: Path, output: str) -> None:
    """What waits, what was lost, how large it is."""
    from twinedge.spool.inspect import status as inspect  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    document = inspect(state, SystemClock().wall_ns())
    emit(output, document, _lines(document))


@spool.command("export")
@state_option
@click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="FILE.csv, FILE.jsonl or FILE.db (SQLite).",
)
def spool_export(state: Path, to: Path) -> None:
    """Write every sample that is still on this gateway to a file."""
    from twinedge.spool.export import export  # noqa: PLC0415 - --help stays fast

    say(f"{export(state, to)} samples written to {to}")


@spool.command("verify")
@state_option
def spool_verify(state: Path) -> None:
    """Check every page, every block and every sequence of the spool."""
    from twinedge.spool.inspect import verify  # noqa: PLC0415 - --help stays fast

    click.echo(_lines(verify(state)))


@cli.command()
@click.argument("reason")
def explain(reason: str) -> None:
    """Tell what a reason of an error means and what to do."""
    found = REASONS.get(reason.upper())
    if found is None:
        raise MissingError("NOT_FOUND", f"no reason {reason}", hint="copy it from the error: UPPER_SNAKE")
    click.echo(f"{reason.upper()}: {found.hint}\nexit code {int(found.exit)}, HTTP {found.http}, gRPC {found.grpc}")


def _lines(document: dict[str, Any]) -> str:
    return "\n".join(f"{key:<24}{value}" for key, value in document.items())
