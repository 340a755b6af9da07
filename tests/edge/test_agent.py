"""How an agent ends: whatever its drivers' libraries do with a cancellation, it does not run for ever."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

from twinedge import connections, keeping
from twinedge.stages import Stages
from twinmodel.clock import SystemClock
from twinmodel.errors import StorageError


class Ended:
    """The stages `_end` asks, with nothing left to do."""

    def end(self) -> None: ...

    async def commit(self, *, everything: bool) -> bool:
        return everything

    async def call(self, _method):
        return SimpleNamespace(samples=0, items=0)


async def test_a_driver_that_loses_its_cancellation_to_an_error_is_asked_again(monkeypatch):
    monkeypatch.setattr(connections, "STOP_AGAIN_S", 0.05)
    begun = asyncio.Event()

    async def driver():
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)  # tries its device again, as if nobody had asked it to end

    running = object.__new__(Stages)
    running._pipeline = Ended()
    running._ground = SimpleNamespace(storage=Ended())
    running._clock, running._uplink, running._lanes = SystemClock(), None, ()
    task = asyncio.create_task(driver())
    await begun.wait()
    async with asyncio.timeout(30):
        await running._end([task], asyncio.create_task(asyncio.sleep(0)))
    assert task.cancelled()


async def test_all_that_is_in_memory_is_stored_at_the_end_and_a_refusing_spool_ends_nothing_early():
    class Full(Ended):
        """Takes one block a commit; does not answer questions."""

        def __init__(self):
            self.left = [3, 2, 1]

        def __len__(self):
            return sum(self.left)

        async def commit(self, *, everything: bool) -> bool:
            self.left.pop()
            return everything

        async def call(self, _method):
            raise StorageError("STORE_SYNC_FAILED", "gone")

    running = object.__new__(Stages)
    running._pipeline = running._lanes = Full()
    running._ground = SimpleNamespace(storage=running._pipeline)
    running._clock, running._uplink = SystemClock(), None
    async with asyncio.timeout(30):
        await running._end([], asyncio.create_task(asyncio.sleep(0)))
    assert len(running._lanes) == 0


async def test_a_defect_in_the_uplink_does_not_stop_the_agent(monkeypatch):
    monkeypatch.setattr(keeping, "RESTART_S", 0.0)
    runs = []

    async def defect():
        runs.append(1)
        if len(runs) == 3:
            raise asyncio.CancelledError
        raise ValueError("a defect")

    with contextlib.suppress(asyncio.CancelledError):
        await keeping.keep("uplink", defect)
    assert len(runs) == 3
