"""Workers do what is asked, tell how far they are, stop when it is cancelled, and end with the service."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.cloud.plant import Plant
from twincloud.operations.pool import LEASE_NS, Pool
from twincloud.storage.records_operations import Question
from twinmodel.errors import InputError

ECHO = "tests.cloud.operations.echo"


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path / "state")
    plant.store.create_tenant("acme", plant.clock.wall_ns())
    yield plant
    plant.close()


def ask(plant, **request):
    return plant.store.ask("acme", Question("sum", "mill/a", "", request), by="ann", now_ns=plant.clock.wall_ns())


async def ended(plant, asked):
    """The operation once it has ended; the pool's own timers make it so."""
    async with asyncio.timeout(50):
        while True:
            now = plant.store.operation("acme", asked.number)
            if now.state not in ("queued", "running"):
                return now
            await asyncio.sleep(0.02)


async def run_with(plant, work, meanwhile):
    pool = Pool(plant.store, plant.clock, {"sum": work})
    async with asyncio.TaskGroup() as group:
        running = group.create_task(pool.run(), name="pool")
        await meanwhile(pool)
        running.cancel()


async def test_work_is_done_and_its_errors_are_told(plant):
    def work(task):
        if task.request["n"] < 0:
            raise InputError("REQUEST_INVALID", "n: is negative", hint="use another")
        if task.request["n"] == 0:
            raise ZeroDivisionError
        return {"twice": 2 * task.request["n"]}

    async def meanwhile(pool):
        good, bad, broken = ask(plant, n=4), ask(plant, n=-1), ask(plant, n=0)
        pool.wake()
        assert (await ended(plant, good)).result == {"twice": 8}
        refused = await ended(plant, bad)
        assert (refused.state, refused.reason, refused.hint) == ("failed", "REQUEST_INVALID", "use another")
        assert (await ended(plant, broken)).reason == "INTERNAL"

    await run_with(plant, work, meanwhile)


async def test_service_that_ends_puts_its_work_back(plant):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    over = threading.Event()

    def work(task):
        loop.call_soon_threadsafe(begun.set)
        while not task.stopped:
            over.wait(0.01)
        task.progress(0.5)
        return {}

    async def meanwhile(pool):
        ask(plant)
        pool.wake()
        await begun.wait()

    await run_with(plant, work, meanwhile)
    (waiting,) = plant.store.operations("acme").items
    assert (waiting.state, waiting.attempts) == ("queued", 0)


async def test_work_that_a_killed_coordinator_left_is_taken_up(plant):
    asked = ask(plant, n=1)
    assert plant.store.claim_operation("killed", ("sum",), plant.clock.wall_ns(), LEASE_NS) is not None
    plant.clock.advance(LEASE_NS + 1)

    async def meanwhile(pool):
        assert (await ended(plant, asked)).result == {"ok": True}
        pool.wake()

    await run_with(plant, lambda _task: {"ok": True}, meanwhile)


async def test_child_computes_a_stream_of_messages_and_tells_its_error(plant, monkeypatch):
    monkeypatch.setattr("twincloud.operations.task.PYTHON_FLAGS", ())

    def work(task):
        return task.compute(ECHO, ({"n": n, "share": n / 3} for n in task.request["terms"]))

    async def meanwhile(pool):
        sums, failing = ask(plant, terms=[1, 2, 3]), ask(plant, terms=[1, -1])
        dying = ask(plant, terms=[1, 99])
        pool.wake()
        assert (await ended(plant, sums)).result == {"sum": 6}
        assert (await ended(plant, failing)).reason == "REQUEST_INVALID"
        assert (await ended(plant, dying)).reason == "OPERATION_LOST"

    await run_with(plant, work, meanwhile)
