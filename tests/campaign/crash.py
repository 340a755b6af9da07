"""Layer B: a spool on a disk that loses its power at each I/O call of its life, and what the next start finds.

What was written and not synced is lost, whole, torn at a sector or garbage, as the seed wants. A coordinator made of
production's rules of dedupe takes what is sent, so that the judge of the simulation judges here as well.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from random import Random

import numpy as np

from tests.campaign.beginning import memory_folder
from tests.campaign.cut_disk import NAME, CutDisk, Power
from tests.campaign.gateway import CATALOGUES, FORMS
from tests.campaign.history import Held, History, Promise
from tests.campaign.reading import held_of, samples_in
from tests.campaign.world import quiet
from twincloud.storage.dedupe import Verdict, judge, tail
from twinedge.spool.retention import POLICIES
from twinedge.spool.store import Spool
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import StorageError
from twinmodel.signal import Batch, Kind, Stream
from twinsync.item import Item, Mark

STEPS = 22
SEED_POINTS = 100_000
"""A seed of this layer is a workload times this, and the call its power goes at; 0 for never."""


class Sink:
    """A coordinator in memory: takes items by the rules of the store, tells marks, may be restored."""

    def __init__(self) -> None:
        self.marks: dict[tuple[bytes, Stream], int] = {}
        self.held: list[Held] = []
        self._backup: tuple[dict[tuple[bytes, Stream], int], int] = ({}, 0)

    def take(self, items: list[Item]) -> list[Mark]:
        for item in items:
            key = (item.boot, item.stream)
            mark = self.marks.get(key, 0)
            if judge(item, mark) in {Verdict.TAKE, Verdict.OVERLAP}:
                self.held.append(held_of(tail(item, mark), CATALOGUES))
                self.marks[key] = item.last_seq + 1
        return [Mark(*key, self.marks[key]) for key in {(i.boot, i.stream): None for i in items} if key in self.marks]

    def back_up(self) -> None:
        self._backup = (dict(self.marks), len(self.held))

    def restore(self) -> list[Mark]:
        """Goes back; tells what it is now, for every lane it knew."""
        marks, count = self._backup
        told = [Mark(*key, marks.get(key, 0)) for key in self.marks]
        self.marks = dict(marks)
        del self.held[count:]
        return told


class Workload:
    """A seed's life of a spool, the same up to the moment its power goes."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = Random(seed)
        self.folder = folder
        self.clock = ManualClock()
        self.when_full = POLICIES[seed % len(POLICIES)]
        # Every other round of the policies brings more than the budget holds.
        self.large = seed // len(POLICIES) % 2 == 0
        self.history = History()
        self.sink = Sink()
        self.values = 0

    def open(self, vfs: str | None = None) -> Spool:
        self.clock.advance(SECOND_NS)
        return Spool.open(
            self.folder, clock=self.clock, rng_bytes=self.random.randbytes, disk_max_bytes=1 << 20,
            when_full=self.when_full, vfs=vfs,
        )  # fmt: skip

    def live(self, vfs: str) -> None:
        """All of it; a StorageError of a disk without power ends it."""
        spool = self.open(vfs)
        try:
            for step in range(STEPS):
                self._append(spool)
                if self.random.random() < 0.35:
                    self._send(spool)
                if step == STEPS // 2 and self.random.random() < 0.5:
                    self.sink.back_up()
                if step == STEPS * 3 // 4 and self.random.random() < 0.3:
                    for mark in self.sink.restore():
                        spool.rewind(mark.boot, mark.stream, mark.next_seq)
                if self.random.random() < 0.08:
                    spool.close()
                    spool = self.open(vfs)
        finally:
            spool.close()

    def _append(self, spool: Spool) -> None:
        random = self.random
        stream = random.choices(list(Stream), [1, 2, 4, 1])[0]
        large = self.large and stream is not Stream.ALARM
        count = random.randint(9_000, 14_000) if large else random.randint(1, 30)
        form = FORMS[random.choice([0, 0, 0, 1])]
        ids = [signal.id for signal in form.signals if signal.stream is stream]
        value = np.arange(self.values, self.values + count) + np.random.default_rng(self.values).random(count)
        self.values += count
        self.clock.advance(SECOND_NS)
        t_ns = self.clock.wall_ns() + np.arange(count) * 1_000_000
        batch = Batch(
            Kind.FLOAT, np.full(count, random.choice(ids), np.uint32), value, np.zeros(count, np.uint16), t_ns
        )
        first_seq = spool._next.get(stream, 0)
        try:
            spool.append(stream, [batch], form)
        except StorageError as refused:
            if "declared" not in refused.facts:
                raise
        promise = Promise((spool.boot.id, int(stream)), first_seq, samples_in([batch], form))
        self.history.promised.append(promise)
        disk, most = spool.disk_bytes(), 1 << 20
        self.history.peaks["disk"] = (max(disk, self.history.peaks.get("disk", (0, 0))[0]), most)

    def _send(self, spool: Spool) -> None:
        items = spool.unsent(bytes_max=1 << 18, items_max=self.random.choice([1, 4, 50]))
        marks = self.sink.take(items)
        if self.random.random() < 0.8:  # else the acknowledgement got lost
            spool.acknowledge(marks)

    def drain(self) -> History:
        """The power is back: everything is sent, and the judge gets what came of it."""
        spool = self.open()
        try:
            if spool.salvage is not None:
                self.history.failures.append(f"a power cut damaged the file: {spool.salvage.cause}")
            # What a session does when it opens: marks of all boots, 0 for lanes the coordinator does not know.
            for boot, stream in itertools.product(spool.boots_since(b""), Stream):
                next_seq = self.sink.marks.get((boot.id, stream), 0)
                spool.rewind(boot.id, stream, next_seq)
                spool.acknowledge([Mark(boot.id, stream, next_seq)])
            while items := spool.unsent(bytes_max=1 << 22, items_max=500):
                if not spool.acknowledge(self.sink.take(items)):
                    break
            self.history.waiting["spool"] = len(spool.ranges())
            self.history.dropped = sum(line.samples for line in spool.ledger())
        finally:
            spool.close()
        self.history.held["gw-1"] = self.sink.held
        for item in self.sink.held:
            self.history.losses.setdefault("gw-1", type(self.history.faults)())[item.lane] += item.lost
        self.history.faults["power cut"] += 1
        return self.history


def run_crash(seed: int) -> History:
    """One life and its end; `seed` names the workload and the I/O call at which the power goes."""
    workload_seed, cut_at = divmod(seed, SEED_POINTS)
    return _run(workload_seed, cut_at or None)[0]


def operations(workload_seed: int) -> int:
    """I/O calls of a whole life."""
    return _run(workload_seed, None)[1]


def _run(workload_seed: int, cut_at: int | None) -> tuple[History, int]:
    root = memory_folder()
    power = Power(workload_seed * 31 + (cut_at or 0), cut_at)
    disk = CutDisk(power)
    workload = Workload(workload_seed, root / "state")
    try:
        with quiet():
            try:
                workload.live(NAME)
            except StorageError:
                if cut_at is None:
                    raise
            disk.unregister()
            power.settle()
            return workload.drain(), power.calls
    finally:
        shutil.rmtree(root, ignore_errors=True)


def points(workloads: range, per_workload: int) -> list[int]:
    """Seeds of this layer: so many cuts of each workload, spread over its life; all of them when it has no more."""
    found = []
    for seed in workloads:
        total = operations(seed)
        cuts = Random(seed).sample(range(1, total), min(per_workload, total - 1))
        found += [seed * SEED_POINTS + cut for cut in sorted(cuts)]
    return found
