"""A disk that refuses a catalogue keeps nobody from polling, and nobody from stopping."""

from __future__ import annotations

import asyncio

from twinedge import publication
from twinedge.publication import Publication
from twinmodel.errors import StorageError
from twinmodel.signal import Catalogue, Kind, Signal

CATALOGUE = Catalogue((Signal(0, "press.p", Kind.FLOAT),))


class Spooled:
    """Refuses as often as it is told to."""

    def __init__(self, refusals):
        self.refusals = refusals
        self.asked = asyncio.Event()

    async def use(self, _catalogue):
        self.asked.set()
        if self.refusals:
            self.refusals -= 1
            raise StorageError("STORE_FULL", "no space")


class Used(list):
    """A pipeline that notes what it uses."""

    async def use(self, catalogue):
        self.append(catalogue)


async def test_a_stop_before_the_disk_took_the_catalogue_ends_the_wait(monkeypatch):
    monkeypatch.setattr(publication, "RETRY_S", 60.0)
    spooled, used, stop = Spooled(9), Used(), asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        publishing = group.create_task(Publication(spooled, used).publish(CATALOGUE, stop))
        await spooled.asked.wait()
        stop.set()
    assert (publishing.result(), used) == (False, [])


async def test_the_first_catalogue_is_used_at_once_and_stored_when_the_disk_is_back(monkeypatch):
    monkeypatch.setattr(publication, "RETRY_S", 0.0)
    used = Used()
    published = Publication(Spooled(3), used)
    await published.begin(CATALOGUE)
    assert (used, published.trouble.reason) == ([CATALOGUE], "STORE_FULL")
    assert await published.publish(CATALOGUE, asyncio.Event())
    assert (used, published.trouble) == ([CATALOGUE, CATALOGUE], None)
