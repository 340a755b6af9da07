"""The agent as a process: signals, ready file, systemd, logging; everything else is in `agent.py`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from random import SystemRandom

import structlog

from twinedge.agent import Agent, Options
from twinmodel.clock import SystemClock
from twinmodel.process import notify


def serve(config: Path, state: Path, *, kernel_cache: Path | None, offline: bool, ready_file: Path | None) -> None:
    """Runs an agent until SIGTERM or SIGINT; raises the TwinError that keeps it from starting."""
    set_up_logging()
    asyncio.run(_serve(Options(config, state, kernel_cache, offline=offline), ready_file))


async def _serve(options: Options, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready(facts: dict[str, object]) -> None:
        notify("READY=1\nSTATUS=reading devices")
        structlog.get_logger().info("ready", **facts)
        if ready_file is not None:
            partial = ready_file.with_suffix(".part")
            partial.write_text(json.dumps(facts))
            partial.replace(ready_file)

    await Agent(options, SystemClock(), SystemRandom()).run(stop, ready)


def set_up_logging() -> None:
    """Structured lines on stderr: for people on a terminal, JSON elsewhere; libraries speak up from WARNING on."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    for chatty in ("asyncua", "pymodbus", "mqtt"):
        # Their connection errors are told once by the drivers, with the device's name.
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    terminal = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=terminal) if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
