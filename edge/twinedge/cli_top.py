"""`twinedge top`: what the running agent does now."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from twinedge.cli_options import config_option, state_option

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command("top")
@config_option
@state_option
@click.option("--every", "every_s", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds.")
@click.option("-n", "count", type=click.IntRange(1), help="End after so many screens.  [default: until Ctrl-C]")
def top_command(config: Path, state: Path, every_s: float, count: int | None) -> None:
    """Show what the running agent does: rates of devices, ticks of models, what waits, alarms that stand.

    Where the output is no terminal, one screen follows the other.
    """
    from rich.console import Console  # noqa: PLC0415 - --help stays fast
    from rich.live import Live  # noqa: PLC0415 - --help stays fast

    from twinedge.health.client import running_status  # noqa: PLC0415 - --help stays fast
    from twinedge.health.top import Screen  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    clock, screen, console = SystemClock(), Screen(), Console(soft_wrap=not sys.stdout.isatty())
    pause = Event()
    with ExitStack() as stack:
        show: Callable[[RenderableType], None] = console.print
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, screen=count is None, auto_refresh=False))
            show = partial(live.update, refresh=True)
        stack.enter_context(suppress(KeyboardInterrupt))
        for place in itertools.count(1):
            show(screen.draw(running_status(config, state), clock.boot_ns()))
            if place == count:
                return
            pause.wait(every_s)
