"""A disk that refuses a catalogue keeps nobody from using it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from twinedge import publication
from twinedge.publication import Publication
from twinmodel.errors import StorageError
from twinmodel.signal import Catalogue, Kind, Signal

CATALOGUE = Catalogue((Signal(0, "press.p", Kind.FLOAT),))


class Spooled:
    """Refuses as often as it is told to."""

    def __init__(self, refusals):
        self.refusals = refusals
        self.stored = asyncio.Event()
        self.announced = []

    def announce(self, catalogue):
        self.announced.append(catalogue)

    async def use(self, _catalogue):
        if self.refusals:
            self.refusals -= 1
            raise StorageError("STORE_FULL", "no space")
        self.stored.set()


class Used(list):
    """A pipeline that notes what it uses."""

    async def use(self, catalogue, _numbered):
        self.append(catalogue)


async def test_a_catalogue_is_used_at_once_and_stored_when_the_disk_is_back(monkeypatch):
    monkeypatch.setattr(publication, "RETRY_S", 0.0)
    used, spooled = Used(), Spooled(3)
    published = Publication(spooled, used)
    await published.use(CATALOGUE)
    assert not await published.store()
    assert (used, published.trouble.reason) == ([CATALOGUE], "STORE_FULL")
    assert spooled.announced == [CATALOGUE]
    running = asyncio.create_task(published.run())
    async with asyncio.timeout(30):
        await spooled.stored.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert published.trouble is None


async def test_a_catalogue_that_was_present_before_is_told_anew():
    other = Catalogue((Signal(0, "press.q", Kind.FLOAT),))
    again = []
    published = Publication(Spooled(0), Used(), lambda: again.append(published.present))
    for catalogue in (CATALOGUE, other, other, CATALOGUE):
        await published.use(catalogue)
        await published.store()
    assert again == [CATALOGUE]


async def test_what_is_remembered_is_bounded_and_what_might_be_forgotten_is_told_anew(monkeypatch):
    monkeypatch.setattr(publication, "BEFORE_MAX", 3)
    catalogues = [Catalogue((Signal(0, f"press.q{n}", Kind.FLOAT),)) for n in range(8)]
    again = []
    published = Publication(Spooled(0), Used(), lambda: again.append(published.present))
    for catalogue in (*catalogues, catalogues[0]):
        await published.use(catalogue)
        await published.store()
        assert len(published._before) <= 3
    assert catalogues[0] in again
    assert catalogues[1] not in again
