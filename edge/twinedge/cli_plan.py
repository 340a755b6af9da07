"""`twinedge plan`: what a configuration will cost, as text for people; devices that are alike in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinedge.cli_options import config_option, emit, end, output_option, pairs, table
from twinmodel.errors import Exit

if TYPE_CHECKING:
    from twinedge.install.asking import Asking
    from twinedge.install.plan import LanePlan, Plan

LINES_MAX = 10
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _bytes(_ctx: click.Context, param: click.Parameter, text: str) -> int:
    from twinedge.config.schema import parse_bytes  # noqa: PLC0415 - --help stays fast

    try:
        found = parse_bytes(text)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), param=param) from None
    if not isinstance(found, int) or found <= 0:
        raise click.BadParameter(f"{text!r} is no size", param=param)
    return found


@click.command("plan")
@config_option
@click.option("--flash", callback=_bytes, default="8GiB", show_default=True, help="Size of the card or disk.")
@click.option("--cycles", type=click.IntRange(1), default=1000, show_default=True, help="How often it can be written.")
@output_option
def plan_command(config: Path, flash: int, cycles: int, output: str) -> None:
    """Tell what the configuration will cost, before it runs.

    Requests and points a second, bytes a day on the link, hours the spool covers, years the flash lasts. Nothing is
    asked of any device. Exit code 3 when something should be looked at.
    """
    from twinedge.config.load import load_site  # noqa: PLC0415 - --help stays fast
    from twinedge.install.plan import plan_of  # noqa: PLC0415 - --help stays fast

    plan = plan_of(load_site(config), flash_bytes=flash, flash_cycles=cycles)
    emit(output, plan.document(), told(plan))
    end(Exit.UNHEALTHY if plan.warnings else 0)


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a whole number."""
    for factor, unit in _SIZES:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def told(plan: Plan) -> str:
    """The whole plan."""
    devices = table(
        ["device", "protocol", "points", "points/s", "requests/s"],
        [
            [_names(alike), a.protocol, a.points, f"{a.samples_per_s:g}", f"{a.requests_per_s:g}" if a.line else "-"]
            for alike in _alike(plan.devices)
            for a in alike[:1]
        ],
    )
    lanes = table(
        ["lane", "signals", "samples/s", "window", "B/sample", "a day"],
        [
            [x.stream, x.signals, f"{x.samples_per_s:g}", f"{x.window_s:g} s", x.bytes_per_sample, _a_day(x)]
            for x in plan.lanes
        ],
    )
    busiest = sorted(plan.lines.items(), key=lambda line: -line[1])[:LINES_MAX]
    lines = table(["line", "busy"], [[line, f"{share:.1%}"] for line, share in busiest])
    totals = pairs(
        {
            "devices ask": f"{plan.requests_per_s:g} requests/s",
            "devices give": f"{plan.samples_per_s:g} points/s at most",
            "link": f"{size(plan.link_bytes_per_day)} a day, {plan.link_kbit_per_s:.1f} kbit/s on average",
            "spool": f"{size(plan.spool_bytes)}, covers {_hours(plan.hours_alone)} without the coordinator",
            "flash": f"{size(plan.device_bytes_per_day)} written a day; {size(plan.flash_bytes)} that bear"
            f" {plan.flash_cycles} cycles last {_years(plan.flash_years)}",
        }
    )
    parts = [devices, lines if plan.lines else "", lanes, totals, "\n".join(f"! {text}" for text in plan.warnings)]
    return "\n\n".join(part for part in parts if part)


def _alike(devices: Iterable[Asking]) -> Iterator[Sequence[Asking]]:
    """Neighbours of one range."""
    for _, group in groupby(devices, key=lambda a: (_stem(a.device), a.protocol, a.points, a.requests_per_s)):
        yield list(group)


def _stem(device: str) -> str:
    stem, _, number = device.rpartition("-")
    return stem if number.isdigit() and stem else device


def _names(alike: Sequence[Asking]) -> str:
    return alike[0].device if len(alike) == 1 else f"{alike[0].device} .. {alike[-1].device} ({len(alike)}, each)"


def _a_day(lane: LanePlan) -> str:
    return size(lane.bytes_per_day)


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def _years(years: float) -> str:
    return f"{years:.1f} years" if years < 100 else "longer than the gateway"
