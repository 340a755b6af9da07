"""What the commands of the service's owner share: where the state lies, and how answers are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Row = Mapping[str, object]

_config = click.option("--config", type=click.Path(path_type=Path), help="YAML file [/etc/hybridtwin/twincloud.yaml]")
_state = click.option("--state", type=click.Path(path_type=Path), help="state directory [/var/lib/twincloud]")
output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


def places(command: F) -> F:
    """Gives a command `--config` and `--state`."""
    return _config(_state(command))


def settings_of(config: Path | None, state: Path | None, **flags: object) -> Any:
    """Defaults, file and flags, joined."""
    from twincloud.config import load_settings  # noqa: PLC0415 start-up time

    return load_settings(config, {"state": state, **flags})


def say(text: str) -> None:
    """Talk goes to stderr."""
    click.echo(text, err=True)


def show(rows: Sequence[Row], output: str) -> None:
    """Data goes to stdout, as a table or as JSON."""
    if output == "json":
        click.echo(json.dumps(list(rows), default=str))
        return
    if not rows:
        say("nothing yet")
        return
    from rich.console import Console  # noqa: PLC0415 start-up time
    from rich.table import Table  # noqa: PLC0415 start-up time

    table = Table(*(key.replace("_", " ") for key in rows[0]), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("-" if value is None else "yes" if value is True else "NO" if value is False else str(value)
                        for value in row.values()))  # fmt: skip
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200).print(table)
