"""python -m tests.campaign.soak --minutes 30: a whole plant of real processes under load, and what it holds on to.

An agent with three protocols, models, alarms and a server on site, its coordinator and its devices run for so long;
the link is cut, devices die and reboot, configurations change, over and over. Memory, descriptors and the disk of each
process are looked at every few seconds. A day is compressed by rate alone: the samples of 24 h at 1 Hz come in less
time, timers of a day do not. The virtual day of `tests.campaign.day` has these.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.campaign.results import FOLDER
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.errors import TwinError
from twinsim.deployment.operator import TRIES
from twinsim.deployment.play import Outcome, Play
from twinsim.deployment.processes import Program, ended_together, rss_bytes
from twinsim.deployment.running import Ports, Running, find_examples
from twinsim.deployment.schema import Deployment
from twinsim.served import Verdict

FILE = FOLDER / "soak.json"
GATEWAY = "soak/n1"
MODELS, METERS = 20, 60
LOOK_S = 5.0
CURVE = 24
CYCLE_S = 60
RSS_GROWTH_MIB = 16.0
"""What the allocator may still take between the second and the last quarter of a run.

Runs below half an hour say nothing of memory: what agents remember of brokers fills until then, to 19 MB.
"""
DESCRIPTORS_GROWTH = 8
DISK_GROWTH_MIB = 24.0
"""A backlog of one cut, and the log of the spool."""


def plan(minutes: float) -> Deployment:
    """The plant, and what befalls it each minute."""
    twins: dict[str, Any] = {
        f"tank-{n}": {
            "definition": "two-tanks",
            "inputs": {"pump": f"T-{n}.pump"},
            "outputs": {"level2": f"T-{n}.level2"},
            "model": "two-tanks@1.0.0",
        }
        for n in range(1, MODELS + 1)
    }
    config = {
        "twins": twins,
        "alarms": {"level": {"on": "T-*.level2", "high": 0.5, "hysteresis": 0.05}},
        "northbound": {"opcua": {"listen": "127.0.0.1:0", "anonymous": True, "insecure": True}},
        "spool": {"disk": "128MiB", "sync_telemetry": "2s"},
    }
    times = max(1, int(minutes * 60 / CYCLE_S) - 1)
    repeat = {"every": f"{CYCLE_S}s", "times": times}
    befalls = [
        {"at": "20s", "target": "wan", "fault": "cut", "for": "8s", "repeat": repeat},
        {"at": "35s", "target": "T-1", "fault": "dropout", "for": "6s", "repeat": repeat},
        {"at": "40s", "target": "T-2", "fault": "drift", "size": 0.2, "for": "8s", "repeat": repeat},
        {"at": "45s", "target": "meter-1", "fault": "reboot", "size": 3, "repeat": repeat},
        {"at": "50s", "target": "P-1", "fault": "dropout", "for": "5s", "repeat": repeat},
    ]
    edits = [
        {"at": f"{55 + CYCLE_S * n}s", "do": "edit", "target": "n1", "set": {"alarms.extra": _extra(n)}}
        for n in range(times)
    ]
    return Deployment.model_validate(
        {
            "lasts": f"{max(round(minutes * 60), CYCLE_S)}s",
            "modbus": {"devices": MODELS, "rate": 2},
            "opcua": {"devices": 20, "rate": 2},
            "mqtt": {"devices": 20, "rate": 2},
            "profiles": {"meter": {"profile": "abb/b23", "devices": METERS, "log": False}},
            "models": ["two-tanks.yaml"],
            # What it keeps decoded is full before the second quarter begins: what grows then grows for ever.
            "coordinator": {"decoded_samples": 100_000},
            "gateways": {
                GATEWAY: {"devices": ["T-*", "HX-*", "P-*", "meter-*"], "link": "wan", "config": config},
            },
            "faults": befalls,
            "steps": edits,
            "samples": {"lost": 0, "duplicates": 0},
        }
    )


def _extra(number: int) -> dict[str, object] | None:
    return {"on": "HX-1.hot_out", "high": 110} if number % 2 == 0 else None


@dataclass(slots=True)
class Holding:
    """What one process held at each look: MiB of memory, descriptors, MiB of its state on the disk."""

    rss_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    disk_mib: list[float] = field(default_factory=list)

    def growth(self) -> dict[str, float]:
        """From the median of the second quarter, when all is warm, to that of the last."""
        series: dict[str, Sequence[float]] = {
            "rss_mib": self.rss_mib, "descriptors": self.descriptors, "disk_mib": self.disk_mib
        }  # fmt: skip
        return {name: round(_growth(values), 2) for name, values in series.items()}


def _growth(values: Sequence[float]) -> float:
    quarter = max(1, len(values) // 4)
    return median(values[-quarter:]) - median(values[quarter : 2 * quarter] or values)


class Watcher:
    """Looks at processes in a thread until it is ended."""

    def __init__(self, plant: Running) -> None:
        self.held: dict[str, Holding] = {"agent": Holding(), "coordinator": Holding(), "devices": Holding()}
        self._plant = plant
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        states = {
            "agent": self._plant.state_of(GATEWAY),
            "coordinator": self._plant.state / "coordinator",
            "devices": self._plant.devices,
        }
        while not self._end.wait(LOOK_S):
            named = {_name(p): p for p in self._plant.programs if p.running}
            for name, held in self.held.items():
                if name in named:
                    _look(held, named[name].pid, states[name])


def _name(program: Program) -> str:
    return program.name.partition("-")[0]


def _look(held: Holding, pid: int, state: Path) -> None:
    try:
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        sizes = [path.stat().st_blocks * 512 for path in state.rglob("*") if path.is_file()]
    except OSError:
        return  # it, or one of its files, has just gone
    held.rss_mib.append(round(rss_bytes(pid) / 2**20, 2))
    held.descriptors.append(descriptors)
    held.disk_mib.append(round(sum(sizes) / 2**20, 2))


UNCOUNTED = Verdict(0, 0, 0, 0, 0, 0)


class Watched(Running):
    """A plant whose processes are looked at until the agents are told to end; `unread` is why it was not audited."""

    watcher: Watcher
    unread = ""

    def close(self) -> Verdict:
        self.watcher.end()
        try:
            return super().close()
        except (TwinError, OSError) as error:
            self.unread = f"the audit could not be read: {error}"
            return UNCOUNTED


@dataclass(frozen=True, slots=True)
class Soak:
    """What one soak has shown.

    Attributes:
        minutes: how long it was played.
        samples: given out by devices that number them, and found again.
        committed: samples of all devices and models that the coordinator holds.
        lost, duplicates, declared: see `twinsim.served.Verdict`.
        faults, edits: that came.
        growth: process -> what it grew from the second to the last quarter.
        last: process -> what it held at the end.
        curve: process -> MiB of memory over the run, two dozen values of it.
        findings: what is beyond its bound.
    """

    minutes: float
    samples: int
    committed: int
    lost: int
    duplicates: int
    declared: int
    faults: int
    edits: int
    growth: Mapping[str, Mapping[str, float]]
    last: Mapping[str, Mapping[str, float]]
    curve: Mapping[str, Sequence[float]]
    findings: Sequence[str]


def soak(folder: Path, minutes: float) -> Soak:
    """Runs one."""
    made = plan(minutes)
    plant = Watched(made, find_examples(), folder, SystemClock(), Ports.from_console(0))
    outcome, committed, broken = None, 0, []
    with ended_together(plant.programs):
        plant.start()
        plant.watcher = watcher = Watcher(plant)
        # Whatever goes wrong, what was seen until then is told: half an hour of curves is not for nothing.
        try:
            outcome = Play(plant, lambda _text: None).run(round(minutes * 60 * SECOND_NS))
            committed = sum(g["samples"] for g in plant.operator.pages("gateways", TRIES))
        except (TwinError, OSError) as error:
            broken.append(f"not to its end: {error}")
        finally:
            watcher.end()
    return shown(minutes, watcher.held, outcome, committed, [*broken, *([plant.unread] if plant.unread else [])])


def shown(
    minutes: float, held: Mapping[str, Holding], outcome: Outcome | None, committed: int, broken: Sequence[str]
) -> Soak:
    """What a soak has shown, of which there is no `outcome` when it did not come to its end."""
    counts = outcome.samples if outcome else asdict(UNCOUNTED)
    steps = outcome.steps if outcome else []
    growth = {name: one.growth() for name, one in held.items() if one.rss_mib}
    undone = [f"not done: {step.what}: {step.said}" for step in steps if not step.ok]
    unfit = [f"samples: {counts}"] if outcome and not outcome.samples_fit else []
    return Soak(
        minutes=minutes,
        samples=counts["samples_acquired"],
        committed=committed,
        lost=counts["lost"],
        duplicates=counts["duplicates"],
        declared=counts["declared_missing"],
        faults=sum(not step.what.startswith("edit") for step in steps),
        edits=sum(step.what.startswith("edit") for step in steps),
        growth=growth,
        last={
            name: {"rss_mib": one.rss_mib[-1], "descriptors": one.descriptors[-1], "disk_mib": one.disk_mib[-1]}
            for name, one in held.items()
            if one.rss_mib
        },
        curve={name: one.rss_mib[:: max(1, len(one.rss_mib) // CURVE)] for name, one in held.items()},
        findings=[*judged(growth), *undone, *unfit, *broken],
    )


def judged(growth: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What grows beyond its bound; the coordinator's disk holds history and is meant to grow."""
    bounds = {"rss_mib": RSS_GROWTH_MIB, "descriptors": DESCRIPTORS_GROWTH, "disk_mib": DISK_GROWTH_MIB}
    return [
        f"{name}: {what} grew by {by:g}, at most {bounds[what]:g}"
        for name, found in growth.items()
        if name != "devices"
        for what, by in found.items()
        if by > bounds[what] and (name, what) != ("coordinator", "disk_mib")
    ]


def section() -> list[str]:
    """Markdown of the last soak, nothing while there was none."""
    if not FILE.exists():
        return []
    one = json.loads(FILE.read_text())
    hours = one["committed"] / 200 / 3600
    lines = [
        "## Soak",
        "",
        f"{one['minutes']:g} minutes of one plant of real processes: Modbus, OPC UA and MQTT, {MODELS} models, alarms,",
        f"a server on site; {one['faults']} faults (link, devices) and {one['edits']} changes of site.yaml meanwhile.",
        f"{one['committed']:,} samples were committed, as many as 200 points give in {hours:.1f} h at 1 Hz; time is",
        f"compressed by rate alone. Of {one['samples']:,} that devices numbered, {one['lost']} were lost,",
        f"{one['duplicates']} came twice, {one['declared']} were declared missing.",
        "",
        "| process | memory at the end | grown | descriptors | grown | disk | grown |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, last in one["last"].items():
        by = one["growth"][name]
        lines.append(
            f"| {name} | {last['rss_mib']:.0f} MiB | {by['rss_mib']:+.1f} | {last['descriptors']} | "
            f"{by['descriptors']:+g} | {last['disk_mib']:.1f} MiB | {by['disk_mib']:+.1f} |"
        )
    lines += [
        "",
        "Grown: from the median of the second quarter to that of the last. The coordinator keeps history, and",
        "compacts it for the first time after a quarter of an hour: what that takes is a step. MiB over the run:",
        "",
        *(f"- {name}: {', '.join(f'{mib:.0f}' for mib in one['curve'][name])}" for name in one["last"]),
        "",
    ]
    lines += [f"Beyond its bound: {finding}." for finding in one["findings"]]
    return [*lines, "`python -m tests.campaign.soak --minutes 30` runs it again.", ""]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    asked = parser.parse_args()
    # Whoever ends the run ends its programs with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    found = soak(folder, asked.minutes)
    FILE.write_text(json.dumps(asdict(found), indent=1) + "\n")
    sys.stdout.write(f"{time.monotonic() - begun_s:.0f} s: {json.dumps(asdict(found))}\n")
    if found.findings:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
