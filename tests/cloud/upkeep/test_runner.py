"""Background work: leases, failures told once, and the way back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from random import Random

from structlog.testing import capture_logs

from twincloud.upkeep.partitions import Reclaim
from twincloud.upkeep.runner import Runner
from twinmodel.clock import ManualClock
from twinmodel.errors import StorageError


class Scripted:
    """A task that does what it is told: numbers are returned, errors raised."""

    name, period_s = "scripted", 0.001

    def __init__(self, *script, then=None):
        self.script, self.then, self.calls = list(script), then, 0

    def run(self, now_ns: int) -> int:
        self.calls += 1
        step = self.script.pop(0) if self.script else 0
        if not self.script and self.then is not None:
            self.then()
        if isinstance(step, Exception):
            raise step
        return step


def runner(task, granted=True) -> Runner:
    return Runner((task,), lambda _: contextlib.nullcontext(granted), ManualClock(), Random(1))


def test_failure_is_told_once_and_so_is_the_way_back():
    full = StorageError("STORE_FULL", "no space")
    task = Scripted(full, full, ValueError("odd"), 3, 0)
    one = runner(task)
    with capture_logs() as logs:
        more = [one.step(task)[0] for _ in range(2)]
        assert (one.failing[0].reason, one.failing[0].failures) == ("STORE_FULL", 2)
        more += [one.step(task)[0] for _ in range(3)]
    assert more == [0, 0, 0, 3, 0]
    assert [entry["event"] for entry in logs] == ["fails and is tried again"] * 2 + ["works again"]
    assert (one.failing, one.fares[0].steps) == ((), 2)


def test_replica_without_the_lease_does_nothing():
    task = Scripted(5)
    assert runner(task, granted=False).step(task) == (0, 0.0)
    assert task.calls == 0


async def test_steps_follow_each_other_while_there_is_more_and_end_with_the_service():
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    task = Scripted(1, RuntimeError("odd"), 1, then=lambda: loop.call_soon_threadsafe(done.set))
    async with asyncio.TaskGroup() as group:
        work = group.create_task(runner(task).run(), name="upkeep")
        await done.wait()
        work.cancel()
    assert task.calls >= 3


async def test_task_does_not_wait_for_a_long_step_of_another():
    loop, done, over = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    slow, quick = Scripted(0), Scripted(0, then=lambda: loop.call_soon_threadsafe(done.set))
    slow.name, slow.run = "slow", lambda _now: int(over.wait())
    both = Runner((slow, quick), lambda _: contextlib.nullcontext(True), ManualClock(), Random(1))
    async with asyncio.TaskGroup() as group:
        work = group.create_task(both.run(), name="upkeep")
        await done.wait()
        over.set()
        work.cancel()


def test_empty_partitions_are_given_back():
    class Partitioned:
        dropped = 2

        def reclaim(self) -> int:
            dropped, self.dropped = self.dropped, 0
            return dropped

    store = Partitioned()
    assert Reclaim(store).run(0) == 0
    assert store.dropped == 0
