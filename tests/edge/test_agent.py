"""How an agent ends: whatever its drivers' libraries do with a cancellation, it does not run for ever."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

from twinedge import agent
from twinmodel.clock import SystemClock


class Ended:
    """The stages `_end` asks, with nothing left to do."""

    def end(self) -> None: ...

    async def commit(self, *, everything: bool) -> bool:
        return everything

    async def call(self, _method):
        return SimpleNamespace(samples=0, items=0)


async def test_a_driver_that_loses_its_cancellation_to_an_error_is_asked_again(monkeypatch):
    monkeypatch.setattr(agent, "STOP_AGAIN_S", 0.05)
    begun = asyncio.Event()

    async def driver():
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)  # tries its device again, as if nobody had asked it to end

    running = object.__new__(agent._Running)
    running._pipeline = running._storage = Ended()
    running._clock, running._uplink, running._lanes = SystemClock(), None, ()
    task = asyncio.create_task(driver())
    await begun.wait()
    async with asyncio.timeout(5):
        await running._end([task], asyncio.create_task(asyncio.sleep(0)))
    assert task.cancelled()
