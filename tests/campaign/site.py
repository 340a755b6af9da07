"""A site of real processes: `twincloud serve` and gateways on disks of their own, links between them, an operator.

What can happen to each is a method here; when it happens is said by `processes`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import numpy as np

from tests.campaign.center import Center, Ground, Place
from tests.campaign.disks import Disk
from tests.campaign.feeder import Feed
from tests.campaign.gateway import lanes_of
from tests.campaign.history import NAMES, Excuse, History, Lane, Promise, Samples
from tests.campaign.netns import Network
from tests.campaign.nursery import Child, Nursery

START_S, DRAIN_S, LOOK_S = 60.0, 180.0, 0.02
VALUES_PER_LIFE, LIVES_MAX = 10_000_000, 10_000
SPOOL_BYTES = 2 << 20
GATEWAY_MIB = 48


class Box:
    """One gateway: its disk, its identity, and one process after the other."""

    def __init__(self, site: Site, number: int, when_full: str, kind: str = "ext4") -> None:
        self.site = site
        self.number = number
        self.name = f"gw-{number}"
        self.random = Random(f"{site.seed}/{number}")
        self.lock = threading.RLock()
        self.when_full = when_full
        self.place = Place(site.root, self.name, site.ground, 6 if kind == "tmpfs" else GATEWAY_MIB, kind)
        self.state = self.place.path / "state"
        self.identity = site.root / f"identity-{number}"
        self.told = site.root / f"told-{number}"
        self.namespace = site.network.add() if site.network is not None else None
        self.child: Child | None = None
        self.lives = 0
        self.snapshot: Path | None = None

    def start(self, *, large: bool = False, wait: bool = True) -> None:
        """A new life; returns once it has stored something, or at once without `wait`."""
        self.lives += 1
        first = (self.number * LIVES_MAX + self.lives) * VALUES_PER_LIFE
        pace_s = 0.02 if large else self.random.choice([0.005, 0.02, 0.1])
        feed = Feed(
            str(self.state), str(self.identity), str(self._promises(self.lives)), str(self.told), first, pace_s,
            self.when_full, SPOOL_BYTES, large,
        )  # fmt: skip
        self.site.note(f"{self.name} starts its life {self.lives} at value {first}")
        self.child = self.site.nursery.start("feeder", feed.words(), self.name, self.namespace)
        if wait:
            self.wait_promise()

    def wait_promise(self) -> None:
        """Until this life has stored something."""
        child, promises = self.child, self._promises(self.lives)
        assert child is not None
        self.site.until(
            lambda: (promises.exists() and promises.stat().st_size > 0) or not child.running,
            f"{self.name} stores nothing",
        )

    def _promises(self, life: int) -> Path:
        """The log of a life; the next one has its own, as a kill may leave half a line."""
        return self.site.root / f"promises-{self.number}-{life}"

    def kill(self) -> None:
        assert self.child is not None
        if not self.child.running:
            self.site.fail(f"{self.name} ended by itself with {self.child.code}: {self.child.last_words()}")
        self.child.kill()

    def cut(self) -> None:
        """No power, and then again."""
        disk = self._disk()
        assert self.child is not None
        self.child.halt()
        disk.cut()
        self.kill()
        disk.close()
        disk.mount()

    def pause(self, seconds: float) -> None:
        assert self.child is not None
        self.child.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.child.signal(signal.SIGCONT)

    def fill(self, seconds: float) -> None:
        disk = self._disk()
        disk.fill()
        time.sleep(seconds)
        disk.free()

    def freeze(self, seconds: float) -> None:
        disk = self._disk()
        disk.freeze()
        time.sleep(seconds)
        disk.thaw()

    def abort(self, seconds: float) -> None:
        """Its file system turns read-only while it runs; it lives on, until somebody mends the disk and restarts."""
        disk = self._disk()
        assert self.child is not None
        self.child.halt(idle=True)
        disk.abort()
        self.child.signal(signal.SIGCONT)
        time.sleep(seconds)
        self.kill()
        disk.close()
        disk.mount()

    def born_read_only(self) -> None:
        """It starts on a disk that is read-only, and goes on by itself when that heals."""
        disk = self._disk()
        self.kill()
        disk.read_only(on=True)
        told = len(self.words())
        self.start(wait=False)
        self.site.until(lambda: any("start" in one for one in self.words()[told:]), f"{self.name} does not complain")
        disk.read_only(on=False)
        self.wait_promise()

    def save(self) -> None:
        self.kill()
        self.snapshot = self.site.root / f"{self.name}.old.img"
        self._disk().save(self.snapshot)

    def restore(self) -> None:
        """An older image takes the place of the disk; what only the newer one had is gone, and nobody's fault."""
        assert self.snapshot is not None
        self.kill()
        self._disk().load(self.snapshot)
        survivor = self._lanes()
        marks = self.site.center.marks()
        for lane, next_seq in self.given().items():
            if next_seq > survivor.get(lane, 0):
                excuse = Excuse(lane, survivor.get(lane, 0), marks.get(lane, 0))
                self.site.note(
                    f"{self.name} excused {lane[0].hex()} {lane[1]} {excuse.from_seq} {excuse.committed_seq}"
                )
                self.site.history.excused.append(excuse)

    def clone(self, other: Box) -> None:
        """Another machine gets a copy of all we have, as it is at this moment; it must be dead meanwhile."""
        assert self.place.disk is not None
        assert other.place.disk is not None
        self.place.disk.save(self.site.root / "clone.img")
        other.place.disk.load(self.site.root / "clone.img")
        shutil.copytree(self.identity, other.identity)
        other.name = self.name

    def _lanes(self) -> dict[Lane, int]:
        copy = self.site.root / f"look-{self.number}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.state, copy)
        return lanes_of(copy)

    def given(self) -> dict[Lane, int]:
        """First numbers never promised."""
        found: dict[Lane, int] = {}
        for promise in self.promised():
            found[promise.lane] = max(found.get(promise.lane, 0), promise.last_seq + 1)
        return found

    def promised(self) -> list[Promise]:
        """All that its lives were told is stored."""
        found = []
        for path in map(self._promises, range(1, self.lives + 1)):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                for boot, stream, first_seq, name, times, values in msgpack.Unpacker(file):
                    t_ns, value = np.frombuffer(times, np.int64), np.frombuffer(values)
                    signal = np.full(len(value), NAMES.setdefault(name, len(NAMES)), np.int32)
                    found.append(Promise((boot, stream), first_seq, Samples(signal, t_ns, value)))
        return found

    def words(self) -> list[dict[str, Any]]:
        """All it has told so far; the last line may be half written."""
        if not self.told.exists():
            return []
        return [json.loads(line) for line in self.told.read_text().split("\n")[:-1]]

    def refused(self) -> tuple[str, int]:
        """The reason a person has to act upon, "" for none, and how often there was something to say of the link."""
        words = [one for one in self.words() if "reason" in one or "connected" in one]
        for one in reversed(words):
            if one.get("connected"):
                break
            if "reason" in one and one["reason"][1]:
                return one["reason"][0], len(words)
        return "", len(words)

    def _disk(self) -> Disk:
        assert self.place.disk is not None
        return self.place.disk


class Site:
    """All of it; `close` ends every process and unmounts every disk."""

    def __init__(self, seed: int, root: Path, ground: Ground) -> None:
        self.seed = seed
        self.root = root
        self.ground = ground
        self.history = History()
        self.failed = threading.Event()
        self._lock = threading.Lock()
        self.boxes: list[Box] = []
        self.network: Network | None = None
        self.nursery = Nursery(root / "logs")
        self.network = Network(0) if ground.links else None
        self.center = Center(self)
        self.center.start()

    def add(self, when_full: str, kind: str = "ext4") -> Box:
        """One gateway more, not yet joined."""
        box = Box(self, len(self.boxes), when_full, kind)
        self.boxes.append(box)
        return box

    def until(self, done: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        """Looks until it is so; raises AssertionError when it takes too long."""
        end_s = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > end_s:
                raise AssertionError(what)
            time.sleep(LOOK_S)

    def fault(self, kind: str, where: str = "") -> None:
        """Counts what happens now."""
        with self._lock:
            self.history.faults[kind] += 1
        self.note(f"{kind} {where}")

    def note(self, text: str) -> None:
        """For whoever looks for the cause of a violation."""
        with self._lock, (self.root / "logs" / "events.log").open("a") as file:
            file.write(f"{time.monotonic():.3f} {text}\n")

    def fail(self, text: str) -> None:
        with self._lock:
            self.history.failures.append(text)
        self.failed.set()

    def close(self) -> None:
        self.nursery.close()
        for place in (*(box.place for box in self.boxes), self.center.place):
            place.close()
        if self.network is not None:
            self.network.close()
