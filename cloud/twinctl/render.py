"""What commands print: tables for people, bare JSON for programs; data on stdout, talk on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from twinmodel.errors import InputError, TwinError

Json = dict[str, Any]
Column = tuple[str, Callable[[Json], object]]
_MOOD = {"ok": "", "warn": "yellow", "bad": "bold red", "offline": "magenta", "REJECTED": "bold red", "open": "yellow"}


def emit(ctx: click.Context, rows: Sequence[Json] | Json, columns: Sequence[Column], *, empty: str = "none") -> None:
    """Prints one object or a list in the form asked for by `-o` and `--fields`."""
    options = ctx.find_root().obj
    if options.output == "json":
        click.echo(json.dumps(_cut(rows, options.fields), ensure_ascii=False, indent=None if _piped() else 1))
        return
    if options.fields:
        chosen = [_pointer(name) for name in options.fields]
        columns = list(zip(options.fields, chosen, strict=True))
    many = list(rows) if not isinstance(rows, Mapping) else [rows]
    if not many:
        say(empty)
        return
    _table(many, columns, color=options.color, upright=isinstance(rows, Mapping))


def say(text: str) -> None:
    """A line of talk, on stderr."""
    click.echo(text, err=True)


def on_one_terminal() -> bool:
    """Whether data and talk are read by the same eyes; what was said need not be printed again then."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def report(error: TwinError) -> None:
    """Prints an error and what to do about it, on stderr."""
    place = ":".join(str(error.facts[k]) for k in ("path", "line", "column") if error.facts.get(k) is not None)
    say(f"error: {error.reason} {place + ': ' if place else ''}{error.message}")
    if error.hint:
        say(f"hint: {error.hint}")


def text_of(value: object) -> str:
    """A cell: what a person reads."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def with_sigma(value: object, sigma: float | None) -> str:
    """A value and its standard deviation, to two digits of the latter."""
    if sigma is None or not isinstance(value, float) or not 0 < sigma < math.inf:
        return text_of(value)
    decimals = min(9, max(0, 1 - math.floor(math.log10(sigma))))
    return f"{value:.{decimals}f} ± {sigma:.{decimals}f}"


def seconds(value: float | None) -> str:
    """A duration of `value` seconds, short."""
    if value is None:
        return "-"
    for limit, size, unit in ((1, 0.001, "ms"), (120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if value < limit:
            return f"{value / size:.3g} {unit}"
    return f"{value / 86_400:.3g} d"


def instant(text: str | None) -> str:
    """A time as a person reads it: UTC, milliseconds where there are any."""
    if not text:
        return "-"
    whole, _, digits = text.removesuffix("Z").partition(".")
    return f"{whole.replace('T', ' ')}.{digits[:3]}Z" if digits.strip("0") else f"{whole.replace('T', ' ')}Z"


def size(value: int) -> str:
    """A number of bytes, short."""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def from_ns(t_ns: int) -> str:
    """RFC 3339 text with nine digits of an integer time."""
    whole = datetime.fromtimestamp(t_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{t_ns % 1_000_000_000:09d}Z"


def field_of(name: str) -> Callable[[Json], object]:
    """A column that shows one field."""
    return lambda row: row[name]


def _piped() -> bool:
    return not sys.stdout.isatty()


def _pointer(name: str) -> Callable[[Json], object]:
    def read(row: Json) -> object:
        value: object = row
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                known = ", ".join(sorted(row))
                raise InputError("REQUEST_INVALID", f"no field {name!r}", hint=f"fields are: {known}")
            value = value[part]
        return value

    return read


def _cut(rows: Sequence[Json] | Json, fields: Sequence[str]) -> object:
    if not fields:
        return rows if isinstance(rows, Mapping) else list(rows)
    reads = [(name, _pointer(name)) for name in fields]
    if isinstance(rows, Mapping):
        return {name: read(rows) for name, read in reads}
    return [{name: read(row) for name, read in reads} for row in rows]


def _table(rows: Sequence[Json], columns: Sequence[Column], *, color: bool, upright: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - 30 ms that `--help` does not pay
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    def cell(value: object) -> Text:
        text = text_of(value)
        return Text(text, style=_MOOD.get(text, "") if color else "")

    terminal = sys.stdout.isatty()
    console = Console(no_color=not color, highlight=False, soft_wrap=not terminal, width=None if terminal else 10_000)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=not upright, header_style="dim")
    if upright:
        table.add_column(style="dim" if color else "", no_wrap=True)
        table.add_column(overflow="fold")
        for name, read in columns:
            table.add_row(name, cell(read(rows[0])))
    else:
        for name, _ in columns:
            table.add_column(name.upper(), overflow="fold")
        for row in rows:
            table.add_row(*(cell(read(row)) for _, read in columns))
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    click.echo("\n".join(lines), color=color and terminal)
