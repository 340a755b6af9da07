"""An agent that runs in the loop of a test, alone, and what it has stored when it has ended."""

from __future__ import annotations

import asyncio
import csv
import random
from collections import defaultdict
from contextlib import asynccontextmanager

from twinedge.agent import Agent, Options
from twinedge.control import ask
from twinedge.spool.export import export
from twinmodel.clock import SystemClock
from twinmodel.errors import UnreachableError


@asynccontextmanager
async def running(config, state):
    """Yields a function that asks the agent over its socket: `await asked("config.reload", who="me")`."""
    state.mkdir(exist_ok=True)
    stop, ready = asyncio.Event(), asyncio.Event()
    agent = Agent(Options(config, state, offline=True), SystemClock(), random.Random(1))
    task = asyncio.create_task(agent.run(stop, lambda _facts: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()

    async def asked(name, **body):
        for _ in range(600):
            try:
                return await asyncio.to_thread(ask, state, name, body, 60.0)
            except UnreachableError:  # it does not listen yet
                await asyncio.sleep(0.05)
        raise AssertionError("no agent")

    asked.agent = agent
    try:
        yield asked
    finally:
        stop.set()
        await task


def stored(state, tmp_path):
    """Signal -> values in the order of their times, and the units they were stored in."""
    to = tmp_path / "export.csv"
    to.unlink(missing_ok=True)
    export(state, to)
    found = defaultdict(list)
    with to.open() as file:
        for row in csv.DictReader(file):
            found[row["signal"]].append(row)
    return found
