"""A real spool behind a real session: a disk that refuses keeps nothing back, and thinned blocks pass."""

from __future__ import annotations

import apsw
import pytest

from tests.cloud.ingest.memory import GATEWAY, running, until
from tests.cloud.ingest.test_servicer import Coordinator
from tests.edge.spool.conftest import Bench
from tests.edge.spool.test_crash import CachedDisk, World
from tests.edge.uplink.test_sender import AUTHORITY, uplink
from twincloud.ingest.limits import IngestLimits
from twinedge.storage import Storage
from twinedge.uplink.spooled import SpooledItems
from twinmodel.clock import ClockQuality
from twinmodel.errors import StorageError, UnreachableError
from twinmodel.signal import Catalogue, Kind, Signal, Stream
from twinsync import limits
from twinsync.item import Mark
from twinsync.session import ServerLimits


@pytest.fixture
def world():
    world = World()
    disk = CachedDisk(world)
    yield world
    disk.unregister()


@pytest.mark.parametrize(
    "refusal", [apsw.FullError("no space"), apsw.IOError("input/output error")], ids=["full", "broken"]
)
async def test_a_session_opens_and_sends_what_is_stored_while_the_disk_refuses_and_is_told_the_marks_when_it_heals(
    tmp_path, world, refusal
):
    bench = Bench(tmp_path / "state")
    storage = await Storage.open(lambda: bench.open(1 << 22, vfs="cached-disk"))
    for _ in range(5):
        await storage.call(bench.append)
    world.refusal, world.refuses = refusal, ("write", "sync", "truncate")
    with pytest.raises(StorageError):
        await storage.call(bench.append)
    coordinator = Coordinator()
    async with coordinator.up(AUTHORITY.server()):
        items = SpooledItems(storage, lambda: ClockQuality.SYNCED)
        sender = uplink(f"localhost:{coordinator.port}", spool=items)
        async with running(sender.run()):
            await until(lambda: len(coordinator.store.history) == 50)
            assert sender.status().connected
            assert (await items.backlog()).samples == 50
            world.refuses = ()
            bench.clock.advance(2 * 10**9)
            await storage.call(bench.append)
            sender.wake()
            await until(lambda: len(coordinator.store.history) == 60)
            await until(lambda: sender.status().items_acked >= 6)
            assert (await items.backlog()).samples == 0
    assert len(set(coordinator.store.history)) == 60
    await storage.close()


async def test_a_start_on_a_full_disk_sends_what_older_boots_left_and_opens_anew_once_the_disk_takes_its_boot(
    tmp_path, world
):
    bench = Bench(tmp_path / "state")
    spool = bench.open(vfs="cached-disk")
    for _ in range(3):
        bench.append(spool)
    spool.close()
    world.refusal, world.refuses = apsw.FullError("no space"), ("write", "sync", "truncate")
    storage = await Storage.open(lambda: bench.open(1 << 22, vfs="cached-disk", patient=True))
    coordinator = Coordinator()
    async with coordinator.up(AUTHORITY.server()):
        items = SpooledItems(storage, lambda: ClockQuality.SYNCED)
        sender = uplink(f"localhost:{coordinator.port}", spool=items)
        async with running(sender.run()):
            await until(lambda: len(coordinator.store.history) == 30)
            first = sender.status().session
            world.refuses = ()
            bench.clock.advance(2 * 10**9)
            await storage.call(bench.append)
            sender.wake()
            # Besides ten samples, the outage before the new boot.
            await until(lambda: len(coordinator.store.history) == 41)
            assert (sender.status().session, sender.status().reason) == (first + 1, "BOOT_CHANGED")
            await until(lambda: sender.status().items_acked >= 5)
    assert len(set(coordinator.store.history)) == 41
    await storage.close()


async def test_no_session_opens_while_a_disk_that_refuses_holds_no_boot_at_all(tmp_path, world):
    bench = Bench(tmp_path / "state")
    world.refusal, world.refuses = apsw.FullError("no space"), ("write",)
    storage = await Storage.open(lambda: bench.open(1 << 22, vfs="cached-disk", patient=True))
    items = SpooledItems(storage, lambda: ClockQuality.SYNCED)
    with pytest.raises(StorageError, match="STORE_FULL"):
        await items.hello_facts()
    world.refuses = ()
    assert [boot.counter for boot in (await items.hello_facts()).boots] == [1]
    await storage.close()


async def test_thinned_blocks_reach_the_coordinator_with_their_whole_range(tmp_path):
    bench = Bench(tmp_path / "state")
    storage = await Storage.open(lambda: bench.open(1 << 20, "thin"))
    for _ in range(60):
        await storage.call(lambda spool: bench.append(spool, Stream.TELEMETRY, 2000, noisy=True))
    coordinator = Coordinator()
    async with coordinator.up(AUTHORITY.server()):
        items = SpooledItems(storage, lambda: ClockQuality.SYNCED)
        sender = uplink(f"localhost:{coordinator.port}", spool=items)
        async with running(sender.run()):
            await until(lambda: len(coordinator.store.history) == 60 * 2000)
    assert coordinator.store.dead == []
    assert any(getattr(item.content, "kept", b"") for item in coordinator.store.items)
    await storage.close()


async def test_after_an_outage_live_samples_get_numbers_of_their_own_and_arrive_before_the_history(tmp_path):
    bench = Bench(tmp_path / "state")
    storage = await Storage.open(lambda: bench.open(1 << 24))
    for _ in range(40):
        await storage.call(lambda spool: bench.append(spool, Stream.TELEMETRY, 2000, noisy=True))
    before = await storage.call(lambda spool: spool.boot)
    bench.clock.advance(60 * 10**9)
    items = SpooledItems(storage, lambda: ClockQuality.SYNCED, bench.rng.randbytes)
    facts = await items.hello_facts()
    after = facts.boots[-1]
    assert (after.previous, after.counter) == (before.id, before.counter + 1)
    assert (await items.hello_facts()).boots[-1] == after
    await storage.call(bench.append)
    coordinator = Coordinator()
    async with coordinator.up(AUTHORITY.server()):
        sender = uplink(f"localhost:{coordinator.port}", spool=items)
        async with running(sender.run()):
            await until(lambda: len(coordinator.store.history) == 40 * 2000 + 10)
    assert coordinator.store.items[0].boot == after.id
    assert len(set(coordinator.store.history)) == 40 * 2000 + 10
    await storage.close()
    spool = bench.open(1 << 24)
    assert spool.boot.previous == after.id
    assert [(b.counter, b.previous) for b in spool.boots_since(b"")][:2] == [(1, b""), (2, before.id)]
    spool.close()


async def test_little_or_young_backlog_and_a_disk_that_refuses_leave_the_boot_as_it_is(tmp_path, world):
    bench = Bench(tmp_path / "state")
    storage = await Storage.open(lambda: bench.open(1 << 24, vfs="cached-disk"))
    items = SpooledItems(storage, lambda: ClockQuality.SYNCED, bench.rng.randbytes)
    await storage.call(bench.append)
    bench.clock.advance(600 * 10**9)
    boot = (await items.hello_facts()).boots[-1]
    await storage.call(lambda spool: spool.acknowledge([Mark(boot.id, Stream.TELEMETRY, 10)]))
    for _ in range(10):
        await storage.call(lambda spool: bench.append(spool, Stream.TELEMETRY, 2000, noisy=True))
    assert (await items.hello_facts()).boots[-1] == boot
    bench.clock.advance(600 * 10**9)
    world.refusal, world.refuses = apsw.FullError("no space"), ("write", "sync", "truncate")
    assert (await items.hello_facts()).boots[-1] == boot
    world.refuses = ()
    assert (await items.hello_facts()).boots[-1].previous == boot.id
    await storage.close()


async def test_any_number_of_starts_without_a_link_is_proved_in_several_sessions_and_is_no_fork(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HELLO_BOOTS_MAX", 4)
    monkeypatch.setattr("twinedge.uplink.closing.BOOTS_MAX", 4)
    bench = Bench(tmp_path / "state")
    # Two lanes of each boot hold something: its outage and its samples.
    coordinator = Coordinator(limits=IngestLimits(session=ServerLimits(boots_max=4, ranges_max=8)))
    async with coordinator.up(AUTHORITY.server()):
        for starts in (1, 11):
            for _ in range(starts - 1):
                spool = bench.open()
                bench.append(spool)
                spool.close()
            storage = await Storage.open(bench.open)
            await storage.call(bench.append)
            items = SpooledItems(storage, lambda: ClockQuality.SYNCED)
            sender = uplink(f"localhost:{coordinator.port}", spool=items)
            async with running(sender.run()):
                await until(lambda n=starts: len(coordinator.store.history) >= 10 * n, 30.0)
                await until(lambda s=sender: s.status().connected, 30.0)
            present = await storage.call(lambda spool: spool.boot.id)
            await storage.close()
            assert coordinator.store.heads[GATEWAY] == present
    assert {(boot, stream, seq) for boot, stream, seq in coordinator.store.history} >= set(bench.stored)


async def test_a_catalogue_that_was_replaced_is_told_of_by_a_hello_that_names_the_present_one_last(tmp_path):
    bench = Bench(tmp_path / "state")
    storage = await Storage.open(lambda: bench.open(1 << 22))
    items = SpooledItems(storage, lambda: ClockQuality.SYNCED)
    first, second = (Catalogue((Signal(0, f"press.{name}", Kind.FLOAT),)) for name in "pq")
    await items.use(Catalogue((Signal(0, "press.o", Kind.FLOAT),)))
    await items.hello_facts()
    # Both come within the window of telemetry: the block of the first is committed behind one of the second.
    for catalogue in (first, second):
        items.announce(catalogue)
        await storage.call(lambda spool, kept=catalogue: spool.put_catalogue(kept))
    assert await items.catalogue(second.digest) == second
    with pytest.raises(UnreachableError, match="to name an earlier catalogue"):
        await items.catalogue(first.digest)
    assert (await items.hello_facts()).schemas[-1] == second.digest  # though `use` has not come to its end
    items.announce(first)
    assert await items.catalogue(first.digest) == first
    await storage.close()
