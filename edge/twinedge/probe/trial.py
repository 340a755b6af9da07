"""`twinedge test`: every device of site.yaml read once, the way the agent reads it; nothing is written or kept.

    site.yaml ─▶ drivers of the agent ─▶ gate ─▶ the newest sample of each point ─▶ table, exit code

The drivers run until each point has its sample, at most for a bounded time. At brokers they have a client id and a
clean session of their own and ask for no births; so it works beside a running agent. What only one client may hold at
a time (a serial line, a Modbus device of one connection) is left to the agent while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from twinedge.config.address import parse_modbus
from twinedge.config.catalogue import build_catalogue, signals_of
from twinedge.config.load import LoadedSite
from twinedge.config.schema import Device, MqttBroker
from twinedge.drivers.registry import build_drivers
from twinedge.gate.gate import Gate
from twinedge.gate.rules import rules_of
from twinedge.ports import Delivery, Driver, NotAcquired
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import MissingError
from twinmodel.profile.document import nearest
from twinmodel.profile.schema import FirmwareProfile, Point
from twinmodel.profile.topics import expand_topic
from twinmodel.quality import QualityClass, QualityReason, bad, class_of, describe
from twinmodel.signal import Kind

SETTLE_S: Final = 1.5
"""How long a doubtful first sample may become a good one: factors of other points come, subscriptions begin."""
STOP_AGAIN_S: Final = 5.0
Json = dict[str, Any]
Sample = tuple[object, int, int]
_AWAY: Final = bad(QualityReason.NOT_CONNECTED)


class Newest:
    """A sink that keeps the newest sample of each signal; a lost connection takes nothing back."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.samples: dict[int, Sample] = {}
        self.changed = asyncio.Event()

    async def put(self, item: Delivery | NotAcquired) -> None:
        """See `Sink.put`."""
        if isinstance(item, NotAcquired):
            return
        for batch in item.batches:
            judged = self._gate.apply(batch)
            rows = zip(
                judged.signal.tolist(),
                judged.value.tolist(),
                judged.quality.tolist(),
                judged.t_ns.tolist(),
                strict=True,
            )
            for signal, value, quality, t_ns in rows:
                if quality != _AWAY or signal not in self.samples:
                    self.samples[signal] = (value, quality, t_ns)
        item.done()
        self.changed.set()

    async def until(self, signals: Iterable[int], within_s: float) -> None:
        """Waits for a sample of each signal, and a little for those that are not good; at most `within_s`."""
        wanted = set(signals)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._reach(lambda: wanted <= self.samples.keys())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_S):
                        await self._reach(lambda: all(self.samples[s][1] in {0, _AWAY} for s in wanted))

    async def _reach(self, condition: Any) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


def agent_runs(state: Path) -> bool:
    """Whether an agent has this state directory."""
    try:
        handle = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def chosen(loaded: LoadedSite, names: Sequence[str]) -> list[str]:
    """The devices that are named: by name, by the entry of a range (`meters` is `meters-1` ...), by `*`.

    Raises:
        MissingError: UNKNOWN_DEVICE with the nearest name.
    """
    devices = list(loaded.site.devices)
    if not names:
        return devices
    found: dict[str, None] = {}
    for name in names:
        mine = [d for d in devices if fnmatchcase(d, name) or _is_of_range(d, name)]
        if not mine:
            guess = nearest(name, devices)
            hint = f"did you mean `{guess}`?" if guess else f"there are: {', '.join(devices[:20])}"
            raise MissingError("UNKNOWN_DEVICE", f"{loaded.path} has no device {name!r}", hint=hint)
        found |= dict.fromkeys(mine)
    return list(found)


def _is_of_range(device: str, name: str) -> bool:
    return device.startswith(f"{name}-") and device[len(name) + 1 :].isdigit()


def held_back(device: Device, profile: FirmwareProfile) -> str:
    """Why a device must be left to an agent that runs, "" for one that takes a second client."""
    if device.protocol != "modbus":
        return ""
    if parse_modbus(device.address).framing == "rtu":
        return "the running agent has the serial line for itself"
    if profile.limits.connections == 1:
        return "it takes one connection (limits.connections of its profile), and the running agent has it"
    return ""


async def trial(
    loaded: LoadedSite, names: Sequence[str], *, state: Path, clock: Clock, within_s: float, anyway: bool = False
) -> Json:
    """Reads devices once.

    Args:
        loaded: the site.
        names: devices, none for all.
        state: where certificates and the trust store of the agent lie.
        clock: stamps samples.
        within_s: time for all of it.
        anyway: also what an agent that runs holds for itself.

    Raises:
        MissingError: UNKNOWN_DEVICE.
        ConfigError: what keeps the agent itself from starting.
    """
    wanted = chosen(loaded, names)
    running = agent_runs(state) and not anyway
    held = {n: held_back(loaded.site.devices[n], loaded.profiles[n]) for n in wanted} if running else {}
    read = [n for n in wanted if not held.get(n)]
    catalogue = build_catalogue(loaded)
    newest = Newest(Gate(rules_of(loaded, catalogue), clock))
    chance = random.Random(int.from_bytes(os.urandom(8), "big"))  # noqa: S311  # jitter
    drivers = (
        build_drivers(
            _alone(loaded, read), catalogue, clock=clock, rng=chance, client_id=_client_id(loaded), state_dir=state
        )
        if read
        else []
    )
    for driver in drivers:
        if hasattr(driver, "lasting"):
            driver.lasting = False
    signals = {n: {p: s.id for p, s in signals_of(catalogue, n, loaded.profiles[n]).items()} for n in wanted}
    read_ns: dict[str, int] = {}
    async with asyncio.TaskGroup() as group:
        for driver in drivers:
            ids = [i for n in driver.devices for i in signals[n].values()]
            group.create_task(_read(driver, newest, ids, within_s, clock, read_ns), name=f"test {driver.name}")
    health = {h.device: h for d in drivers for h in d.health()}
    findings = {(d.devices[f.link], f.point): f.text for d in drivers for f in getattr(d, "findings", ())}
    documents = []
    for name in wanted:
        device, profile = loaded.site.devices[name], loaded.profiles[name]
        document: Json = {"device": name, "protocol": device.protocol, "address": device.address}
        if held.get(name):
            documents.append(document | {"ok": False, "read": False, "error": held[name], "points": []})
            continue
        error = health[name].last_error if name in health else ""
        points = []
        for point, signal in signals[name].items():
            sample = newest.samples.get(signal)
            kind = catalogue.signals[signal].kind
            why = findings.get((name, point), "")
            points.append(_point(name, point, profile, device, sample, kind, error, why, read_ns[name], within_s))
        ok = not any(p["failed"] for p in points)
        documents.append(document | {"ok": ok, "read": True, "error": "" if ok else error, "points": points})
    return {"ok": all(d["ok"] for d in documents), "agent_runs": agent_runs(state), "devices": documents}


async def _read(
    driver: Driver, newest: Newest, signals: Sequence[int], within_s: float, clock: Clock, read_ns: dict[str, int]
) -> None:
    """Runs a driver until it has said something of each of its points."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(driver.run(newest), name=driver.name)
        await newest.until(signals, within_s)
        read_ns |= dict.fromkeys(driver.devices, clock.wall_ns())
        while not task.done():  # libraries lose a cancellation now and then
            task.cancel()
            await asyncio.wait([task], timeout=STOP_AGAIN_S)


def _alone(loaded: LoadedSite, names: Sequence[str]) -> LoadedSite:
    """The site with these devices only; brokers are asked for no births and told of no host: that would be writing."""
    devices = {}
    for name in names:
        device = loaded.site.devices[name]
        if device.mqtt is not None:
            broker: MqttBroker = device.broker.model_copy(update={"rebirth": False, "primary_host": None})
            device = device.model_copy(update={"mqtt": broker})
        devices[name] = device
    return replace(
        loaded,
        site=loaded.site.model_copy(update={"devices": devices}),
        profiles={n: loaded.profiles[n] for n in names},
    )


def _client_id(loaded: LoadedSite) -> str:
    """One that nobody has: a broker ends the older connection of two."""
    return f"{loaded.site.site}-test-{os.urandom(4).hex()}"


def _point(
    device: str,
    name: str,
    profile: FirmwareProfile,
    entry: Device,
    sample: Sample | None,
    kind: Kind,
    error: str,
    finding: str,
    now_ns: int,
    within_s: float,
) -> Json:
    point = profile.points[name]
    document: Json = {"point": name, "at": point.at, "unit": point.unit}
    if sample is None:
        optional = bool(point.optional if point.optional is not None else profile.defaults.optional)
        reason = (
            "optional, and not in what came" if optional else _silence(device, name, profile, entry, within_s, error)
        )
        return document | {"value": None, "quality": "", "age_s": None, "reason": reason, "failed": not optional}
    value, quality, t_ns = sample
    failed = class_of(quality) is QualityClass.BAD
    number = isinstance(value, float) and not math.isfinite(value)
    return document | {
        "value": None if number or (failed and kind is not Kind.FLOAT) else value,
        "quality": describe(quality),
        "age_s": round((now_ns - t_ns) / SECOND_NS, 3),
        "reason": _reason(point, quality, error, finding) if quality else "",
        "failed": failed,
        "state": point.states.get(int(value), "") if isinstance(value, (int, bool)) else "",
    }


def _reason(point: Point, quality: int, error: str, finding: str) -> str:
    """Why a sample is not plainly good, in words."""
    reason = quality & 0xFF
    said = finding or error
    if reason == QualityReason.OUT_OF_RANGE and point.range is not None:
        return f"outside {point.range[0]:g}..{point.range[1]:g}, the profile's range"
    texts: Mapping[int, str] = {
        QualityReason.OUT_OF_RANGE: "none of the profile's `states`",
        QualityReason.ABSENT: "the device says that it has no value",
        QualityReason.CLOCK: "its time stamp makes no sense: set the clock of device or gateway",
        QualityReason.BACKFILLED: "the broker had kept it: how old it is nobody knows",
        QualityReason.NOT_CONNECTED: said or "the device does not answer",
        QualityReason.DEVICE_FAULT: said or "the device reports a fault",
        QualityReason.DECODE: said or "what came is not what the profile says",
        QualityReason.STALE: said or "it was silent for too long",
    }
    return texts.get(reason, said)


def _silence(device: str, name: str, profile: FirmwareProfile, entry: Device, within_s: float, error: str) -> str:
    """Why no sample of a point came."""
    if profile.protocol != "mqtt":
        return f"nothing came in {within_s:g} s{': ' + error if error else ''}"
    if profile.defaults.payload == "sparkplug":
        return f"no birth of {entry.root} in {within_s:g} s, and none is asked for: that would be writing"
    point = profile.points[name]
    known = {"root": entry.root, "device": device, "point": name} | dict(point.where)
    topic = expand_topic(point.topic or profile.defaults.topic or "", known)
    return f"no message on {topic} in {within_s:g} s{'; ' + error if error else ''}; wait longer with --within"
