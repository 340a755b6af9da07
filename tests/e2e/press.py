"""A simulated press behind an agent that has joined a coordinator, all in one process."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from tests.edge.commands.conftest import PRESS, START
from twinedge.agent import Agent, Options
from twinmodel.clock import SystemClock
from twinmodel.profile.load import load_profile
from twinsim.image.device import ProfileDevice
from twinsim.image.source import Source
from twinsim.serve.modbus_profile import serve_registers


@contextlib.asynccontextmanager
async def agent_of(folder, running, site, **shown):
    """Yields the press once its agent runs by the text `site`, which holds `{address}`; `shown` are first values."""
    profile = folder / "profiles/test/press/1.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text(PRESS)
    clock = SystemClock()
    device = ProfileDevice("press", 1, Source(load_profile(profile), profile, "1"), 1, START)
    device.tick(0.1, clock.wall_ns())
    for point, value in shown.items():
        device.image.show(point, value)
    async with serve_registers([device], None, clock), asyncio.TaskGroup() as group:
        (folder / "site.yaml").write_text(site.format(address=device.address))
        await running.join(await running.invite(), folder / "state")
        stop = asyncio.Event()
        agent = Agent(Options(folder / "site.yaml", folder / "state", None), clock, Random(1))
        group.create_task(agent.run(stop, lambda _: None), name="agent")
        try:
            yield device
        finally:
            stop.set()
