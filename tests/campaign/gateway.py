"""A gateway of the simulated plant: its disk, its process while it lives, and the devices it reads."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from tests.campaign.bad_disk import REFUSALS, Disk
from tests.campaign.beginning import credentials
from tests.campaign.history import History, Interval, Promise
from tests.campaign.link import Channel
from tests.campaign.loop import Life, VirtualClock
from tests.campaign.reading import samples_in
from tests.cloud.ingest.memory import SilentDownlink
from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.uplink.sender import Uplink
from twinedge.uplink.spooled import SpooledItems
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, ClockQuality
from twinmodel.errors import StorageError
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync.backoff import Backoff
from twinsync.item import NotAcquired

if TYPE_CHECKING:
    from tests.campaign.world import World


def catalogue(version: int) -> Catalogue:
    """Two signals a stream and a twin; each version has one signal more."""
    names = [(f"press.{stream.name.lower()}{n}", stream) for stream in Stream for n in range(2)]
    names += [(f"press.new{n}", Stream.STATE) for n in range(version)]
    signals = tuple(Signal(i, name, Kind.FLOAT, "", stream, exponent=0) for i, (name, stream) in enumerate(names))
    properties = {"level": "press.state0", "speed": "press.telemetry0", "alarm": "press.alarm0"}
    binding = TwinBinding("press", "press", "", properties, (), dict.fromkeys(properties, ""))
    return Catalogue(signals, (binding,))


CATALOGUES = {made.digest: made for made in map(catalogue, range(4))}
FORMS = tuple(CATALOGUES.values())


class WatchedItems(SpooledItems):
    """Notes when a coordinator knows less than it had acknowledged."""

    world: World

    async def rewind(self, marks) -> None:
        before = _acknowledged(self._storage._spool)
        await super().rewind(marks)
        after = _acknowledged(self._storage._spool)
        if any(after[lane] < acked for lane, acked in before.items() if lane in after):
            self.world.fault("SERVER_REGRESSED")


def _acknowledged(spool: Spool) -> dict[tuple[int, int], int]:
    return {(lane.boot, lane.stream): lane.acked_seq for lane in spool._file.read(spool._lanes)}


class Gateway:
    """One disk and the agents that live on it, one after the other."""

    def __init__(self, world: World, folder: Path, name: str) -> None:
        self.world = world
        self.folder = folder
        self.name = name
        self.number = world.made
        world.made += 1
        self.label = f"{name}/{self.number}"
        self.random = Random(world.random.random())
        self.clock = VirtualClock(world.loop, self.random.randint(0, 10**15))
        self.life = Life(self.label)
        self.life.alive = False
        self.snapshot: Path | None = None
        self.form = 0
        self.images = 0
        self.spool: Spool | None = None
        self.uplink: Uplink | None = None
        self.disk = Disk() if REFUSALS.keys() & world.plan.kinds else None
        self.certificate = "first"
        self.away, self.away_ns = "", 0
        self.back: list[NotAcquired] = []
        self.disk_peak = 0
        self.inbox_peak = 0
        self._lanes: dict[tuple[bytes, int], int] = {}
        self._task: asyncio.Task[None] | None = None

    # ---- the process ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.life.alive:
            return
        from tests.campaign.world import spawn

        self.life = Life(self.label, self._died)
        self._task = spawn(self.world, self.life, self._live)

    async def _live(self) -> None:
        plan = self.world.plan
        while True:
            try:
                storage = await Storage.open(self._open)
                break
            except StorageError as refused:
                self.world.fault(refused.reason)
                await asyncio.sleep(1.0)
        items = WatchedItems(storage, lambda: ClockQuality.FREE)
        items.world = self.world
        while True:
            try:
                await items.use(FORMS[self.form])
                break
            except StorageError as refused:
                self.world.fault(refused.reason)
                await asyncio.sleep(1.0)
        random = Random(self.random.random())
        self.uplink = Uplink(
            str(self.world.gateways.index(self)), lambda: credentials(self.name, self.certificate), items,
            SilentDownlink(), clock=self.clock, random=random, agent_version="1",
            backoff=Backoff(random, base_ns=500 * MILLISECOND_NS, cap_ns=plan.backoff_cap_ns),
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            group.create_task(self.uplink.run())
            group.create_task(self._produce(storage, items))

    def _open(self) -> Spool:
        plan = self.world.plan
        self.spool = Spool.open(
            self.folder, clock=self.clock, rng_bytes=self.random.randbytes, disk_max_bytes=plan.disk_max_bytes,
            when_full=plan.when_full, vfs=self.disk.name if self.disk is not None else None,
        )  # fmt: skip
        return self.spool

    async def _produce(self, storage: Storage, items: SpooledItems) -> None:
        """Devices give samples, now and then of a new configuration."""
        random, plan = self.random, self.world.plan
        while not self.world.healed:
            await asyncio.sleep(random.uniform(0.2, plan.pace_s))
            if random.random() < plan.reform and self.form + 1 < len(FORMS):
                self.form += 1
                self.world.fault("schema change")
                try:
                    await items.use(FORMS[self.form])
                except StorageError as refused:
                    self.world.fault(refused.reason)
            form = FORMS[self.form]
            parts = [self._batch(form) for _ in range(random.choice([1, 1, 2]))]
            await storage.call(self._store, dict(parts), form, self._absences())
            if self.uplink is not None:
                self.inbox_peak = max(self.inbox_peak, self.uplink._inbox.qsize())
                self.uplink.wake()
        await asyncio.Event().wait()

    def _absences(self) -> list[NotAcquired]:
        """Devices that went away or came back, sometimes told twice as by a driver that starts anew."""
        if "device lost" not in self.world.plan.kinds or self.random.random() < 0.5:
            return []
        now_ns = self.clock.wall_ns()
        if self.away and self.random.random() < 0.7:
            self.back = [NotAcquired(self.away, "DEVICE_UNREACHABLE", self.away_ns, max(now_ns, self.away_ns + 1))]
            self.away = ""
            return self.back
        if self.back and self.random.random() < 0.3:
            return self.back
        if not self.away:
            self.world.fault("device lost")
            self.away, self.away_ns = f"plc-{self.number}-{self.world.values}", now_ns
        return [NotAcquired(self.away, "DEVICE_UNREACHABLE", self.away_ns, 0)]

    def _batch(self, form: Catalogue) -> tuple[Stream, Batch]:
        random = self.random
        stream = random.choices(list(Stream), [1, 2, 4, 1])[0]
        ids = [signal.id for signal in form.signals if signal.stream is stream]
        large = self.world.plan.large and stream is not Stream.ALARM
        count = random.randint(4_000, 8_000) if large else random.randint(1, 12)
        first = self.world.values
        self.world.values += count
        value = np.arange(first, first + count, dtype=np.float64)
        if large:
            value += np.random.default_rng(random.getrandbits(32)).random(count)
        signal = np.sort(np.array([random.choice(ids) for _ in range(min(count, 8))], np.uint32))
        signal = np.sort(np.resize(signal, count))
        now_ns = self.clock.wall_ns() // MILLISECOND_NS * MILLISECOND_NS
        t_ns = now_ns - np.arange(count)[::-1] * MILLISECOND_NS
        return stream, Batch(Kind.FLOAT, signal, value, np.zeros(count, np.uint16), t_ns)

    def _store(self, spool: Spool, parts: dict[Stream, Batch], form: Catalogue, records: list[NotAcquired]) -> None:
        """In the thread of the spool: what returns from it is promised."""
        before = {stream: spool._next.get(stream, 0) for stream in parts}
        history, state = self.world.history, (spool.boot.id, int(Stream.STATE))
        seq = spool._next.get(Stream.STATE, 0) + len(parts.get(Stream.STATE, ()))
        told = [Interval(state, seq + place, one.device, one.to_ns) for place, one in enumerate(records)]
        history.recorded.update((one.lane, one.seq) for one in told)
        for one in told:
            history.tried.setdefault(one.device, set()).add(one.to_ns)
        try:
            spool.append_many([(stream, [batch]) for stream, batch in sorted(parts.items())], form, records)
        except StorageError as refused:
            self.world.fault(refused.reason)
            if "declared" not in refused.facts:
                if self.life.alive:
                    history.recorded.difference_update((one.lane, one.seq) for one in told)
                return
        history.intervals += told
        if told:
            self._lanes[state] = spool._next[Stream.STATE]
        for stream, batch in sorted(parts.items()):
            lane = (spool.boot.id, int(stream))
            self._lanes[lane] = spool._next[stream]
            self.world.history.promised.append(Promise(lane, before[stream], samples_in([batch], form)))
        self.disk_peak = max(self.disk_peak, spool.disk_bytes())

    # ---- what happens to it --------------------------------------------------------------------------------------

    def kill(self) -> None:
        """kill -9, or the end of its power."""
        if self.life.alive:
            self.life.alive = False
            self._died()

    def _died(self) -> None:
        self.world.note(f"{self.label} died")
        self.world.loop.call_soon(self._bury, self.life)

    def _bury(self, life: Life) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task, self.uplink = None, None
        self._move(self.folder)
        delay_ns = self.random.randint(0, 5_000) * MILLISECOND_NS
        self.world.loop.call_at((self.world.loop.now_ns + delay_ns) / SECOND_NS, self.start)

    def _move(self, source: Path) -> None:
        """The files as they lie on the disk now go to a new folder; the old process's handles stay behind."""
        self.images += 1
        target = self.world.root / f"disk{self.number}-{self.images}"
        if source.exists():
            copy_disk(source, target)
        self.folder = target
        if self.spool is not None:
            self.spool.close()
            self.spool = None

    @property
    def copyable(self) -> bool:
        """Whether its disk tells what was promised and no more: a commit that failed may have arrived all the same.

        A copy of that moment would bring it under numbers which the original gives again, see docs/reliability.md.
        """
        return self.spool is None or (self.spool._file._settled and not self.spool._file.refusing)

    def copy(self, target: Path) -> None:
        """The disk as it is now, for a clone or as an image."""
        copy_disk(self.folder, target)

    def restore(self) -> None:
        """An older image takes the place of the disk."""
        if self.snapshot is None:
            return
        survivor = lanes_of(self.snapshot)
        self.world.destroyed(self, survivor)
        self.life.alive = False
        self.world.note(f"{self.label} restored")
        self._lanes = dict(survivor)
        if self._task is not None:
            self._task.cancel()
        self._task, self.uplink = None, None
        self._move(self.snapshot)
        self.world.loop.call_at((self.world.loop.now_ns + SECOND_NS) / SECOND_NS, self.start)

    # ---- looking -------------------------------------------------------------------------------------------------

    def lanes(self) -> dict[tuple[bytes, int], int]:
        return dict(self._lanes)

    def adopt(self, lanes: dict[tuple[bytes, int], int]) -> None:
        self._lanes = dict(lanes)

    def channel(self, ours) -> Channel:
        return Channel(self.world.network, self.label, ours.chain)

    def renew(self, certificate: str) -> None:
        """Shows another certificate from the next connection on."""
        self.certificate = certificate
        if self.uplink is not None:
            self.uplink.retry_now()

    @property
    def drained(self) -> bool:
        if not self.life.alive or self.spool is None or self.uplink is None or not self.uplink.status().connected:
            return False
        return not self.spool.ranges()

    def waiting(self) -> int:
        return len(self.spool.ranges()) if self.spool is not None else 1

    def tell(self, history: History) -> None:
        history.peaks[f"{self.label} disk"] = (self.disk_peak, self.world.plan.disk_max_bytes)
        history.peaks[f"{self.label} inbox"] = (self.inbox_peak, 64)
        lineage = history.faults["clone"] + history.faults["disk restored"]
        if not lineage and self.spool is not None:
            history.dropped = sum(line.samples for line in self.spool.ledger())

    def end(self) -> None:
        self.life.alive = False
        if self._task is not None:
            self._task.cancel()
        if self.spool is not None:
            self.spool.close()
        if self.disk is not None:
            self.disk.close()


def copy_disk(source: Path, target: Path) -> None:
    """Files of a state directory as they are at this moment."""
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.suffix != ".lock" and not path.name.endswith("-shm"):
            shutil.copyfile(path, target / path.name)


def lanes_of(folder: Path) -> dict[tuple[bytes, int], int]:
    """First numbers not given of each lane of an image."""
    import apsw

    db = apsw.Connection(str(folder / "spool.db"))
    rows = db.execute("SELECT id, stream, next_seq FROM lanes JOIN boots ON boots.counter = lanes.boot").fetchall()
    db.close()
    return {(boot, stream): next_seq for boot, stream, next_seq in rows}
