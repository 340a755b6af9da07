"""python -m tests.campaign.day --hours 30: gate, models, lanes and spool of an agent over a virtual day.

Devices of the simulator tick, what they measure goes the agent's way into a real spool, a coordinator of one line takes
it every ten seconds and is away for the first ten minutes of each hour. Time is a clock that is turned: timers of a
day pass in minutes, the disk is real. Looked at each virtual hour: memory, descriptors, the spool, the backlog. The
spool keeps what was acknowledged for a day, so only the hours after that say whether it grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from tests.campaign.results import FOLDER
from twinedge.config.load import load_site
from twinedge.gate.gate import Gate
from twinedge.gate.rules import rules_of
from twinedge.lanes import Flush, Lanes, windows_of
from twinedge.models import Models
from twinedge.modelstore.store import ModelStore
from twinedge.pipeline import Pipeline
from twinedge.ports import Delivery
from twinedge.replays import Replays, source_stamped
from twinedge.spool.retention import TAIL_AGE_NS
from twinedge.spool.store import Spool
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.package import signing
from twinmodel.package.build import build
from twinmodel.signal import Batch, Catalogue, Kind
from twinsim.deployment.running import find_examples, kernel_cache
from twinsim.device import Device
from twinsim.firmware import KINDS
from twinsync.item import Mark

FILE = FOLDER / "day.json"
DEVICES = 4
HOUR_S, CUT_S, TAKEN_EVERY_S = 3600, 600, 10
RSS_GROWTH_MIB, DISK_GROWTH_MIB = 12.0, 2.0
TAIL_HOURS = TAIL_AGE_NS // (HOUR_S * SECOND_NS)
ITEMS_MAX, BYTES_MAX = 256, 4 << 20


@dataclass(slots=True)
class Day:
    """What a virtual day has shown; a list has an entry for each hour."""

    hours: int
    samples: int = 0
    taken: int = 0
    ticks: int = 0
    rss_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    spool_mib: list[float] = field(default_factory=list)
    backlog: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def write_site(folder: Path) -> Path:
    """site.yaml of tanks at addresses that nobody asks."""
    every = range(1, DEVICES + 1)
    ports = [f"inputs: {{pump: T-{n}.pump}}, outputs: {{level2: T-{n}.level2}}" for n in every]
    lines = ["site: day", "devices:"]
    lines += [f'  T-{n}: {{modbus: "tcp://127.0.0.1:{n}", profile: hybridtwin/coupled-tanks}}' for n in every]
    lines.append("twins:")
    lines += [f'  tank-{n}: {{definition: two-tanks, {ports[n - 1]}, model: "two-tanks@1.0.0"}}' for n in every]
    lines.append("spool: {disk: 64MiB}")
    path = folder / "site.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


async def live(folder: Path, hours: int) -> Day:
    """Lives so many hours."""
    clock, day = ManualClock(1_760_000_000 * SECOND_NS), Day(hours)
    loaded = load_site(write_site(folder))
    key = signing.generate_key()
    signers = folder / "signers"
    signers.mkdir()
    signing.save_public_key(signers / "desk.pem", key.public_key())
    store = ModelStore(folder / "state", signers)
    store.put(signing.sign(build(find_examples() / "two-tanks.yaml"), key))
    models = Models(loaded, store, kernel_cache())
    models.start()
    spool = Spool.open(
        folder / "state", clock=clock, rng_bytes=random.Random(1).randbytes, disk_max_bytes=64 << 20, when_full="thin"
    )

    async def commit(flush: Flush, catalogue: Catalogue) -> None:
        spool.append_many(flush.parts, catalogue, flush.records, declare=flush.declare)

    lanes = Lanes(windows_of(loaded.site.spool.sync, loaded.site.spool.sync_telemetry))
    numbered = models.numbered
    replays = Replays(*source_stamped(loaded, numbered.signals.values()))
    gate = Gate(rules_of(loaded, numbered), clock, lambda: False)
    pipeline = Pipeline(replays, gate, lanes, models.runners, commit, clock)
    catalogue = models.catalogue()
    spool.put_catalogue(catalogue)
    await pipeline.use(catalogue, numbered)
    devices = [Device(KINDS["modbus"], n, 1) for n in range(1, DEVICES + 1)]
    names = {name: signal.id for name, signal in numbered.signals.items()}
    for second in range(hours * HOUR_S):
        clock.advance(SECOND_NS)
        for device in devices:
            device.tick(1.0, clock.wall_ns())
            await pipeline.put(_delivery(device, names, clock.wall_ns()))
        day.samples += 2 * len(devices)
        await pipeline.commit(everything=False)
        if second % TAKEN_EVERY_S == 0 and second % HOUR_S >= CUT_S:
            day.taken += _take(spool)
        if second % HOUR_S == HOUR_S - 1:
            _look(day, spool)
            sys.stderr.write(f"{len(day.rss_mib)} h: {day.rss_mib[-1]} MiB, {day.backlog[-1]} waiting\n")
    day.ticks = sum(runner.steps for runner in models.runners)
    spool.close()
    day.findings = judged(day, models)
    return day


def _delivery(device: Device, names: Mapping[str, int], t_ns: int) -> Delivery:
    signals = [names[f"{device.name}.{point}"] for point in device.reading]
    values = list(device.reading.values())
    batch = Batch.of(Kind.FLOAT, signals, values, [0] * len(signals), [t_ns] * len(signals))
    return Delivery(device.name, (batch,), None, urgent=True)


def _take(spool: Spool) -> int:
    """A coordinator that takes all there is."""
    taken = 0
    while items := spool.unsent((), bytes_max=BYTES_MAX, items_max=ITEMS_MAX):
        taken += sum(item.count for item in items)
        spool.acknowledge([Mark(item.boot, item.stream, item.last_seq + 1) for item in items])
    return taken


def _look(day: Day, spool: Spool) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    day.rss_mib.append(round(pages * resource.getpagesize() / 2**20, 2))
    day.descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
    day.spool_mib.append(round(spool.disk_bytes() / 2**20, 2))
    day.backlog.append(spool.backlog().samples)


def judged(day: Day, models: Models) -> list[str]:
    """What grows, and what did not go on."""
    found = [
        f"{what} grew by {by:.1f}, at most {bound:g}"
        for what, by, bound in (
            ("memory", growth(day.rss_mib), RSS_GROWTH_MIB),
            ("descriptors", growth(day.descriptors), 2.0),
            ("spool", spool_growth(day.spool_mib), DISK_GROWTH_MIB),
        )
        if by > bound
    ]
    wanted = day.hours * HOUR_S - 60
    found += [f"{r.wiring.twin} stepped {r.steps} times" for r in models.runners if r.steps < wanted]
    if day.taken < day.samples:
        found.append(f"{day.samples - day.taken} samples were not taken")
    return found


def growth(values: Sequence[float]) -> float:
    """From the median of the second quarter to that of the last."""
    quarter = max(1, len(values) // 4)
    return median(values[-quarter:]) - median(values[quarter : 2 * quarter] or values)


def spool_growth(values: Sequence[float]) -> float:
    """From the first hour in which as much is forgotten as comes to the last; 0 for a day that ends before."""
    return values[-1] - values[TAIL_HOURS] if len(values) > TAIL_HOURS else 0.0


def section() -> list[str]:
    """Markdown of the last virtual day, nothing while there was none."""
    if not FILE.exists():
        return []
    one = json.loads(FILE.read_text())
    return [
        "## A virtual day",
        "",
        f"Gate, {DEVICES} models, lanes and spool of production over {one['hours']} hours of a clock that is turned;",
        "the disk is real, the coordinator is away for ten minutes of each hour.",
        f"{one['samples']:,} samples, {one['ticks']:,} ticks. From the second quarter to the last memory grew by",
        f"{growth(one['rss_mib']):+.1f} MiB to {one['rss_mib'][-1]:.1f}, descriptors by",
        f"{growth(one['descriptors']):+g}; the spool, once it held what was acknowledged in {TAIL_HOURS} hours, by",
        f"{spool_growth(one['spool_mib']):+.1f} to {one['spool_mib'][-1]:.1f} MiB.",
        *[f"- {finding}" for finding in one["findings"]],
        "`python -m tests.campaign.day --hours 30` runs it again.",
        "",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.day")
    parser.add_argument("--hours", type=int, default=30)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="day-") as folder:
        found = asyncio.run(live(Path(folder), asked.hours))
    FILE.write_text(json.dumps(asdict(found), indent=1) + "\n")
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 1 if found.findings else 0


if __name__ == "__main__":
    sys.exit(main())
