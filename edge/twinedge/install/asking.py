"""How often a configuration asks its devices, and whether their lines can bear it; no I/O."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from twinedge.config.address import ModbusAddress, parse_modbus
from twinedge.config.load import LoadedSite
from twinedge.config.schema import Device
from twinedge.drivers.link import Assignment
from twinedge.drivers.modbus_serial import silence_s, transmission_s
from twinedge.drivers.modbus_unit import Unit
from twinedge.drivers.plan import Read
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.signal import Catalogue

BUSY_MAX = 0.8
"""Share of a line's time beyond which retries and a dead unit leave the others too little."""
_BITS_PER_BYTE = 8
_REQUEST_BYTES = 8
_REPLY_BYTES = 5
_TURN_S = 0.005
"""What a device takes to answer when its profile does not say: seldom less."""
_BIT_TABLES = ("coil", "discrete")


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of one device.

    Attributes:
        device: its name.
        protocol: `modbus`, `opcua` or `mqtt`.
        points: how many.
        samples_per_s: of polled points exactly; of the others at most, as they report changes.
        requests_per_s: of polled devices.
        line: what it shares with others, "" for a device that is not polled.
        line_s: seconds a second of that line's time it takes.
        at_most_once: points whose samples may be lost between device and gateway, as they travel without receipt.
    """

    device: str
    protocol: str
    points: int
    samples_per_s: float
    requests_per_s: float = 0.0
    line: str = ""
    line_s: float = 0.0
    at_most_once: int = 0


def asking_of(loaded: LoadedSite, catalogue: Catalogue) -> list[Asking]:
    """One entry per device, in the order of site.yaml."""
    found = []
    alike: dict[tuple[int, str], tuple[float, float]] = {}
    for name, device in loaded.site.devices.items():
        profile = loaded.profiles[name]
        per_s = sum(SECOND_NS / profile.every_ns(point) for point in profile.points.values())
        if device.protocol == "modbus":
            address = parse_modbus(device.address)
            line = _line_of(device, address)
            same = id(profile), line if address.framing == "rtu" else ""
            if same not in alike:
                alike[same] = _polled(loaded, catalogue, name, address)
            found.append(Asking(name, "modbus", len(profile.points), per_s, alike[same][0], line, alike[same][1]))
            continue
        loose = _at_most_once(profile) if device.protocol == "mqtt" else 0
        found.append(Asking(name, device.protocol, len(profile.points), per_s, at_most_once=loose))
    return found


def busy_lines(askings: Iterable[Asking]) -> dict[str, float]:
    """Line -> share of its time that is taken."""
    lines: dict[str, float] = {}
    for asking in askings:
        if asking.line:
            lines[asking.line] = lines.get(asking.line, 0.0) + asking.line_s
    return lines


def _polled(loaded: LoadedSite, catalogue: Catalogue, name: str, address: ModbusAddress) -> tuple[float, float]:
    """Requests a second, and seconds of the line they take."""
    device, profile = loaded.site.devices[name], loaded.profiles[name]
    signals = {point: catalogue.by_name[f"{name}.{point}"] for point in profile.points}
    assignment = Assignment(name, device, profile, signals, catalogue.time_step_ns, loaded.path.parent)
    # The driver's own plan: what is said here is what will be asked.
    unit = Unit(assignment, ManualClock(), random.Random(0))  # noqa: S311 - phases do not matter here
    requests = line_s = 0.0
    for group in unit.groups:
        often = SECOND_NS / group.period_ns
        requests += often * len(group.planner.reads)
        line_s += often * sum(_duration_s(address, profile, read) for read in group.planner.reads)
    return requests, line_s


def _line_of(device: Device, address: ModbusAddress) -> str:
    return address.path if address.framing == "rtu" else device.address


def _duration_s(address: ModbusAddress, profile: FirmwareProfile, read: Read) -> float:
    """Time one request keeps its line from others."""
    bits = read.table in _BIT_TABLES
    reply = _REPLY_BYTES + (-(-read.count // _BITS_PER_BYTE) if bits else 2 * read.count)
    wait_s = max(profile.limits.delay / SECOND_NS, _TURN_S)
    if address.framing != "rtu":
        return wait_s
    return transmission_s(address, _REQUEST_BYTES + reply) + 2 * silence_s(address) + wait_s


def _at_most_once(profile: FirmwareProfile) -> int:
    defaults = profile.defaults.qos
    return sum((point.qos if point.qos is not None else defaults) == 0 for point in profile.points.values())
