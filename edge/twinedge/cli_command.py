"""`twinedge command`: what the devices of this gateway were told, by whom, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from twinedge.cli_options import emit, output_option, state_option, table

_NS = 1_000_000_000


@click.group("command")
def command_group() -> None:
    """See the ledger of commands. They are given at the coordinator alone, where persons are known: see twinctl."""


@command_group.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many, newest first.")
@state_option
@output_option
def command_list(state: Path, output: str, *, limit: int) -> None:
    """List the newest commands and how they ended, beside a running agent or without one."""
    from twinedge.commands.book import described  # noqa: PLC0415 - --help stays fast
    from twinedge.commands.ledger import read_ledger  # noqa: PLC0415 - --help stays fast

    entries = [described(entry) for entry in reversed(read_ledger(state)[-limit:])]
    rows = [
        [
            _time(e["taken_ns"]),
            e["id"],
            e["target"],
            str(e["arguments"]),
            _persons(e),
            e["step"],
            e["reason"],
            e["detail"],
        ]
        for e in entries
    ]
    head = ["TIME", "ID", "TARGET", "VALUE", "BY", "STEP", "REASON", "DETAIL"]
    emit(output, entries, table(head, rows) if rows else "nothing was commanded")


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // _NS, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _persons(entry: dict[str, object]) -> str:
    others = entry["approved_by"]
    return ", ".join([str(entry["by"]), *(others if isinstance(others, list) else [])])
