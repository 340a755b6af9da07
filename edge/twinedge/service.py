"""The agent as a process: signals, ready file, systemd, logging; everything else is in `agent.py`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom

import structlog

from twinedge.agent import Agent, Options
from twinedge.resolver import THREADS, AgentLoop
from twinmodel.clock import SystemClock
from twinmodel.logs import configure_logs
from twinmodel.process import notify


def serve(config: Path, state: Path, *, kernel_cache: Path | None, offline: bool, ready_file: Path | None) -> None:
    """Runs an agent until SIGTERM or SIGINT; raises the TwinError that keeps it from starting.

    SIGHUP has it read site.yaml again.
    """
    # Spool and identity are for this user alone, whoever made the state directory.
    os.umask(0o077)
    # Connection errors of these libraries are told once by the drivers, with the device's name.
    configure_logs(silent=("asyncua", "pymodbus", "mqtt"))
    with asyncio.Runner(loop_factory=AgentLoop) as runner:
        runner.run(_serve(Options(config, state, kernel_cache, offline=offline), ready_file))


async def _serve(options: Options, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="agent"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    agent = Agent(options, SystemClock(), SystemRandom())
    loop.add_signal_handler(signal.SIGHUP, agent.hangup.set)

    def ready(facts: dict[str, object]) -> None:
        notify("READY=1\nSTATUS=reading devices")
        structlog.get_logger().info("ready", **facts)
        if ready_file is not None:
            partial = ready_file.with_suffix(".part")
            partial.write_text(json.dumps(facts))
            partial.replace(ready_file)

    await agent.run(stop, ready)
