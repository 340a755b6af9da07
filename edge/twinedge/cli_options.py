"""Options and ways of printing that the groups of the `twinedge` command share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from twinedge.probe.tables import pairs, table

__all__ = [
    "MODES",
    "POLICIES",
    "config_option",
    "default_config",
    "default_state",
    "emit",
    "end",
    "identifier",
    "login_options",
    "output_option",
    "pairs",
    "quieten",
    "run_quietly",
    "say",
    "state_option",
    "table",
]
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

SYSTEM_STATE = Path("/var/lib/twinedge")
POLICIES = ("None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
MODES = ("none", "sign", "sign_and_encrypt")


def default_state() -> Path:
    """/var/lib/twinedge as root or as the service's user, whom it belongs to; else the XDG state directory."""
    if os.getuid() == 0 or _is_mine(SYSTEM_STATE):
        return SYSTEM_STATE
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "twinedge"


def _is_mine(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def default_config() -> Path:
    """/etc/hybridtwin/twinedge.yaml where it exists or as root, else the XDG configuration."""
    system = Path("/etc/hybridtwin/twinedge.yaml")
    if os.getuid() == 0 or system.exists():
        return system
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hybridtwin" / "twinedge.yaml"


state_option = click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), default=default_state, help="State directory."
)
config_option = click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), default=default_config, help="The gateway's site.yaml."
)
output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


def say(text: str) -> None:
    """A line of talk, on stderr: data alone goes to stdout."""
    click.echo(text, err=True)


def emit(output: str, document: object, text: str) -> None:
    """Prints the document as JSON, or its text for people."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if output == "json" else text)


def login_options(command: F) -> F:
    """Who we are to a broker: `user`, `password_file`, `ca`, `certificate`, `key`."""
    file = click.Path(dir_okay=False, exists=True, path_type=Path)
    for option in (
        click.option("--key", type=file, help="TLS: key of --certificate, PEM."),
        click.option("--certificate", type=file, help="TLS: certificate to show to the broker, PEM."),
        click.option("--ca", type=file, help="TLS: authority of the broker's certificate, PEM."),
        click.option("--password-file", type=file, help="Its password; none is ever tried."),
        click.option("--user", help="Name of a user.  [default: anonymous]"),
    ):
        command = option(command)
    return command


def run_quietly(work: Coroutine[Any, Any, T]) -> T:
    """Runs what looks at devices; libraries stay silent, as its own words say what went wrong."""
    import asyncio  # noqa: PLC0415 - --help stays fast

    quieten()
    return asyncio.run(work)


def quieten() -> None:
    """Errors alone are logged from here on, and nothing of libraries."""
    from twinmodel.logs import configure_logs  # noqa: PLC0415 - --help stays fast

    configure_logs("error", silent=("asyncio", "asyncua", "mqtt", "pymodbus"))


def identifier() -> str:
    """A client id that nobody has: a broker ends the older connection of two."""
    return f"twinedge-probe-{os.urandom(4).hex()}"


def end(code: int) -> None:
    """Ends the command with an exit code, quietly."""
    if code:
        click.get_current_context().exit(code)
