"""Options and ways of printing that the groups of the `twinedge` command share."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click


def default_state() -> Path:
    """/var/lib/twinedge as root, else the XDG state directory."""
    if os.getuid() == 0:
        return Path("/var/lib/twinedge")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "twinedge"


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


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> str:
    """Rows as aligned columns below their head; the last column is not padded."""
    cells = [list(head), *[["" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(head))]
    return "\n".join(
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in cells
    )


def pairs(document: Mapping[str, object], *, indent: str = "") -> str:
    """Keys and values as two columns."""
    width = max((len(key) for key in document), default=0)
    return "\n".join(f"{indent}{key:<{width}}  {value}" for key, value in document.items())
