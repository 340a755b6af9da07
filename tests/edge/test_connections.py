"""A connection that takes the place of another one: who waits for whom."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from twinedge import connections
from twinedge.connections import Connections
from twinmodel.clock import SystemClock

GROUP = ("opcua", "press")


class Reading:
    """A driver that reads beside the one before it, at once."""

    overlaps = True

    def __init__(self, name: str) -> None:
        self.name, self.devices, self.ended = name, ("press",), asyncio.Event()
        self.begun = asyncio.Event()
        self.connected = False

    def health(self):
        return [SimpleNamespace(device="press", connected=self.connected)]

    async def run(self, _sink):
        self.connected = True
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def assignment(version: int):
    return SimpleNamespace(version=version, signals={"flow": SimpleNamespace(id=7)})


@asynccontextmanager
async def reading(monkeypatch, linger_s):
    """Connections with one driver that reads, and what was said of its signals."""
    monkeypatch.setattr(connections, "LINGER_S", linger_s)
    said = []

    async def commit():
        return None

    made = Connections(
        lambda _group, mine: Reading(f"driver {mine[0].version}"), None, commit, SystemClock(),
        lambda signals, over: said.append((tuple(signals), over)),
    )  # fmt: skip
    made.build({GROUP: (assignment(1),)})
    with suppress(asyncio.CancelledError):
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            made.begin(group)
            await made.drivers[0].begun.wait()
            yield made, said
            for task in made.tasks:
                task.cancel()


async def change(made, version):
    wanted = {GROUP: (assignment(version),)}
    return await made.change(wanted, made.fresh(wanted))


async def test_an_answer_does_not_wait_for_the_end_of_what_was_replaced(monkeypatch):
    async with reading(monkeypatch, 3600.0) as (made, said):
        (first,) = made.drivers
        assert (await change(made, 2)).restarted == ("driver 2",)
        assert made.drivers[0].connected
        assert not first.ended.is_set()
        assert said == [((7,), False)]
        assert len(made.tasks) == 3  # the agent's end is that of all of them
    assert first.ended.is_set()


async def test_the_next_change_waits_until_what_was_replaced_has_ended(monkeypatch):
    async with reading(monkeypatch, 0.0) as (made, said):
        (first,) = made.drivers
        await change(made, 2)
        await made.settled()
        assert first.ended.is_set()
        assert said == [((7,), False), ((7,), True)]
        await made.settled()
        assert len(made.tasks) == 1


@pytest.mark.parametrize("defect", [OSError("socket"), ZeroDivisionError("a defect")])
async def test_a_commit_that_fails_at_the_end_of_one_ends_no_other(monkeypatch, defect):
    async with reading(monkeypatch, 0.0) as (made, said):

        async def fails():
            raise defect

        made._commit = fails
        await change(made, 2)
        await made.settled()
        assert said[-1] == ((7,), True)
        assert made.drivers[0].connected
