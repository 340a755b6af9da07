"""Layer C: real processes over mTLS on real file systems and real links, and what happens to them.

The coordinator is `twincloud serve`, a gateway joined by `twinedge join` runs production's spool and uplink (`feeder`).
Everything happens at once: one thread acts on each gateway, one on the coordinator, one copies disks, one operates.

    python -m tests.campaign.processes --seconds 3600 --first 100     sums up with what is in results/layer-c.json
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random

from tests.campaign import disks, netns
from tests.campaign.center import SITE, TENANT, Ground
from tests.campaign.checker import check
from tests.campaign.history import History
from tests.campaign.reading import Coordinator
from tests.campaign.results import LAYER_C, Results
from tests.campaign.runs import Summary, run_all
from tests.campaign.site import DRAIN_S, Box, Site
from twincloud.storage import open_store
from twincloud.storage.contract import TwinKey
from twincloud.storage.directory import DATABASE
from twinedge.spool.retention import POLICIES
from twinmodel.clock import SystemClock
from twinmodel.errors import TwinError

SITE_S = 60.0
EVIDENCE = Path(__file__).resolve().parents[2] / "var" / "campaign"
GATEWAYS = (4, 8)
LINEAGE_EVERY = 3
"""Each third site also knows copies: clones, old images of gateways and of the coordinator."""
CLONES_MAX = 2
LONG_PAUSE_S, OVERFLOW_S = 60.0, 10.0
TOLD = ("SERVER_REGRESSED", "FENCED", "IDENTITY_FORK", "STORE_FULL", "STORE_READ_ONLY", "STORE_SYNC_FAILED")


def ground(*, memory: bool = True, copies: bool = True) -> Ground:
    """What this machine can do; what it cannot is told on stderr."""
    mounts, lacking = disks.may_mount(), netns.missing()
    if not mounts:
        sys.stderr.write("CAMPAIGN WITHOUT POWER CUTS: no ext4 in a file can be mounted here\n")
    if lacking:
        sys.stderr.write(f"CAMPAIGN WITHOUT BAD LINKS: lacking {lacking} (run `make services`)\n")
    return Ground(mounts, not lacking, memory, copies)


class Storm:
    """Acts on the parts of a site until its time is over."""

    def __init__(self, site: Site, seconds: float, gateways: int | None = None) -> None:
        self.site = site
        self.end_s = time.monotonic() + seconds
        self.random = Random(site.seed)
        wanted = site.ground.mounts and site.ground.copies
        self.lineage = wanted and site.seed % LINEAGE_EVERY == LINEAGE_EVERY - 1
        self.drained = threading.Event()
        self.originals = gateways or self.random.randint(*GATEWAYS)

    def blow(self) -> None:
        """Everything at once; returns when all is calm again."""
        site = self.site
        for number in range(self.originals):
            # One of them lives on a small disk in memory, which fills but loses nothing by a kill.
            box = site.add(POLICIES[(site.seed + number) % len(POLICIES)], "tmpfs" if number == 0 else "ext4")
            site.center.join(box.name, box.identity)
        works: list[Callable[[], None]] = [self._on_center, *(lambda b=box: self._on_box(b) for box in site.boxes)]
        if self.lineage:
            works.append(self._copy)
        storms = [self._thread(work) for work in works]
        operator = self._thread(self._operate)
        for thread in storms:
            thread.join()
        self._drain()
        self.drained.set()
        operator.join()

    def _thread(self, work: Callable[[], None]) -> threading.Thread:
        def shell() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told to the judge
                where = traceback.extract_tb(error.__traceback__)[-1]
                self.site.fail(f"{type(error).__name__} in {where.name}: {error}")

        thread = threading.Thread(target=shell)
        thread.start()
        return thread

    def _going_on(self, random: Random, low_s: float, high_s: float) -> bool:
        time.sleep(random.uniform(low_s, high_s))
        return time.monotonic() < self.end_s and not self.site.failed.is_set()

    # ---- gateways ------------------------------------------------------------------------------------------------

    def _on_box(self, box: Box) -> None:
        random, site = box.random, self.site
        with box.lock:
            box.start()
        fair_s = 0.0
        while self._going_on(random, 0.0, 0.5):
            with box.lock:
                if fair_s and time.monotonic() > fair_s:
                    self._weather(box, "")
                    fair_s = 0.0
                kind = random.choices(*zip(*self._kinds(box), strict=True))[0]
                site.fault(kind, box.name)
                if kind in netns.WEATHERS:
                    self._weather(box, kind)
                    fair_s = time.monotonic() + random.uniform(0.5, 4.0)
                else:
                    self._act(box, kind)
        if fair_s:
            self._weather(box, "")

    def _kinds(self, box: Box) -> list[tuple[str, float]]:
        """What may happen to a gateway, and how often."""
        kinds = [("agent killed", 8.0), ("agent paused", 0.7)]
        if box.place.disk is not None:
            kinds += [("disk full", 0.4)]
        if box.place.cuttable:
            kinds += [("power cut", 5.0), ("disk hangs", 0.4), ("disk turns read-only", 0.3)]
            kinds += [("born on a read-only disk", 0.2)]
        if self.site.network is not None:
            kinds += [(kind, 0.4) for kind in netns.WEATHERS] + [("overflow", 0.25)]
        return kinds

    def _weather(self, box: Box, kind: str) -> None:
        if self.site.network is not None:
            self.site.network.weather(box.number, kind, box.random)

    def _act(self, box: Box, kind: str) -> None:
        random = box.random
        match kind:
            case "agent killed":
                box.kill()
                box.start(wait=random.random() < 0.7)
            case "power cut":
                box.cut()
                box.start(wait=random.random() < 0.7)
            case "agent paused":
                box.pause(random.uniform(0.2, 2.0))
            case "disk full":
                box.fill(random.uniform(0.2, 1.5))
            case "disk hangs":
                box.freeze(random.uniform(0.2, 1.0))
            case "disk turns read-only":
                box.abort(random.uniform(0.2, 1.0))
                box.start()
            case "born on a read-only disk":
                box.born_read_only()
            case "overflow":
                self._overflow(box)

    def _overflow(self, box: Box) -> None:
        """Cut off for so long that the disk's budget is used up, and its policy decides."""
        self._weather(box, "parted")
        box.kill()
        told = len(box.words())
        box.start(large=True)
        with contextlib.suppress(AssertionError):  # a busy machine fills it another time
            self.site.until(lambda: any("dropped" in one for one in box.words()[told:]), "not full", OVERFLOW_S)
        time.sleep(box.random.uniform(0.0, 0.5))
        box.kill()
        self._weather(box, "")
        box.start()

    # ---- the coordinator -----------------------------------------------------------------------------------------

    def _on_center(self) -> None:
        random, center = Random(f"{self.site.seed}/center"), self.site.center
        kinds = ["center killed"] * 3 + ["center paused"]
        if center.place.cuttable:
            kinds += ["center power cut"] * 3 + ["center disk full"]
        while self._going_on(random, 1.0, 4.0):
            kind = random.choice(kinds)
            self.site.fault(kind)
            match kind:
                case "center killed":
                    center.kill()
                case "center power cut":
                    center.cut()
                case "center paused":
                    center.pause(random.uniform(0.3, 3.0))
                case "center disk full":
                    center.fill(random.uniform(0.3, 1.5))

    # ---- copies --------------------------------------------------------------------------------------------------

    def _copy(self) -> None:
        random, site = Random(f"{self.site.seed}/copies"), self.site
        backup = site.root / "center.old.img"
        originals = [box for box in site.boxes if box.place.cuttable]
        sleeper = originals[0]
        pausing = self._thread(lambda: self._pause_long(sleeper))
        while self._going_on(random, 1.0, 4.0):
            kind = random.choice(["disk restored", "clone", "center restored"])
            box = random.choice(originals[1:] or originals)
            if kind == "center restored":
                if not backup.exists() or random.random() < 0.4:
                    site.note("center saved")
                    site.center.back_up(backup)
                    continue
                site.center.restore(backup)
            elif kind == "clone":
                if len(site.boxes) > self.originals + CLONES_MAX:
                    continue
                self._clone(box)
            else:
                with box.lock:
                    if box.snapshot is None or random.random() < 0.4:
                        site.note(f"{box.name} saved")
                        box.save()
                        box.start()
                        continue
                    box.restore()
                    box.start()
            site.fault(kind, box.name)
        pausing.join()

    def _clone(self, box: Box) -> None:
        clone = self.site.add(box.when_full)
        with clone.lock:
            with box.lock:
                box.kill()
                box.clone(clone)
                box.start()
            clone.start()

    def _pause_long(self, box: Box) -> None:
        """So long that the coordinator takes it for dead."""
        with box.lock:
            self.site.fault("agent paused for a minute")
            box.pause(min(LONG_PAUSE_S, max(self.end_s - time.monotonic(), 1.0)))

    # ---- the operator --------------------------------------------------------------------------------------------

    def _operate(self) -> None:
        """Ends forks and lets in whom a restored coordinator forgot, until all is drained."""
        site = self.site
        seen: dict[int, int] = {}
        while not self.drained.wait(0.5):
            for box in list(site.boxes):
                reason, count = box.refused()
                if not reason or seen.get(box.number) == count or box.child is None:
                    continue
                seen[box.number] = count
                if reason == "IDENTITY_FORK" and any(o.name == box.name for o in site.boxes if o is not box):
                    box.name = f"gw-{box.number}-renamed"
                with contextlib.suppress(TwinError, RuntimeError, TimeoutError):
                    site.center.join(box.name, box.identity)
                    box.child.signal(signal.SIGHUP)
                    continue
                del seen[box.number]

    def _drain(self) -> None:
        """All is well from now on: every gateway sends what it has, and ends."""
        site, begun_s = self.site, time.monotonic()
        for box in site.boxes:
            if box.child is not None and box.child.running:
                box.wait_promise()
                box.child.signal(signal.SIGTERM)
        for box in site.boxes:
            child = box.child
            if child is None:
                continue
            child.ended.wait(max(begun_s + DRAIN_S - time.monotonic(), 0.1))
            site.history.waiting[box.name] = int(child.code != 0)
            site.history.recoveries_ns.append(int((time.monotonic() - begun_s) * 1e9))


def told_by(site: Site) -> History:
    """What is left of a site that is calm: promises, what is held, what gateways said."""
    history = site.history
    if site.center.child is not None:
        site.center.child.stop()
    regressed = 0
    dropped: list[int] = []
    for box in site.boxes:
        words = box.words()
        history.promised += box.promised()
        regressed += sum("SERVER_REGRESSED" in one for one in words)
        reasons = [one["reason"][0] for one in words if "reason" in one]
        reasons += [one.get("store") or one.get("start") for one in words]
        history.faults += Counter(reason for reason in reasons if reason in TOLD)
        dropped += [one["dropped"] for one in words if "dropped" in one][-1:]
    history.faults["SERVER_REGRESSED"] += regressed
    if regressed and not history.faults["center restored"] + history.faults["disk restored"] + history.faults["clone"]:
        history.failures.append("the coordinator forgot what it had acknowledged")
    if not history.faults["disk restored"] + history.faults["clone"] and len(dropped) == len(site.boxes):
        history.dropped = sum(dropped)
    store = open_store(site.center.state, clock=SystemClock())
    try:
        for name, (items, losses, hashes) in Coordinator(site.center.state / DATABASE).read().items():
            history.held[name], history.losses[name] = items, losses
            for twin, hashed in hashes.items():
                with contextlib.suppress(TwinError):
                    history.states.append((f"{name} {twin}", store.state_hash(TwinKey(TENANT, SITE, twin)), hashed))
    finally:
        store.close()
    return history


def run_processes(
    seed: int,
    seconds: float = SITE_S,
    place: Ground | None = None,
    evidence: Path | None = None,
    gateways: int | None = None,
) -> History:
    """One site for so long, then its drain; what it leaves to clean up is cleaned up, here or by the next run.

    Real processes do not repeat themselves: of a site that fails, logs and state are kept in `evidence`.
    """
    disks.sweep()
    netns.sweep()
    place = place or ground()
    root = disks.made_folder(memory=place.memory)
    try:
        site = Site(seed, root, place)
        try:
            storm = Storm(site, seconds, gateways)
            storm.blow()
            history = told_by(site)
            if evidence is not None and check(history):
                _keep(site, evidence)
            return history
        finally:
            site.close()
    finally:
        disks.remove(root)


def _keep(site: Site, evidence: Path) -> None:
    shutil.rmtree(evidence, ignore_errors=True)
    shutil.copytree(site.center.state, evidence / "center")
    shutil.copytree(site.root / "logs", evidence / "logs")
    for box in site.boxes:
        shutil.copytree(box.state, evidence / box.state.parent.name)
    for pattern in ("told-*", "promises-*"):
        for path in site.root.glob(pattern):
            shutil.copy(path, evidence)


def campaign(first: int, seconds: float, site_s: float, into: Path, place: Ground) -> Summary:
    """Site after site until the time is over; the sum stands in a file after each, evidence of a failure below var."""
    end_s = time.monotonic() + seconds
    results = Results.read(into)
    total = Summary()
    for seed in itertools.count(first):
        left_s = end_s - time.monotonic()
        if left_s < site_s / 2:
            return total
        evidence = EVIDENCE / f"site-{seed}"
        one = run_all(partial(run_processes, seconds=site_s, place=place, evidence=evidence), [seed])
        total.merge(one)
        results.add(seed, one)
        results.write(into)
        sys.stderr.write(f"{seed} {json.dumps(one.plain())}\n")
        sys.stderr.flush()
    return total


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.processes")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--first", type=int, default=0, help="first seed; each is a site")
    parser.add_argument("--site-seconds", type=float, default=SITE_S)
    parser.add_argument("--into", type=Path, default=LAYER_C, help="sums up with what stands there")
    parser.add_argument("--no-copies", action="store_true", help="no clones and old images")
    asked = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = ground(copies=not asked.no_copies)
    total = campaign(asked.first, asked.seconds, asked.site_seconds, asked.into, place)
    print(json.dumps(total.plain(), indent=1))  # noqa: T201 - a command's answer
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
