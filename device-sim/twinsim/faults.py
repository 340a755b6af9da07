"""Faults of one device: which are possible, which are on, and what they do to its readings.

    sensors  stuck drift spike               a value that stays, ramps away (unit/s), jumps now and then (unit)
    plant    plant_drift                     the plant itself ages over half a minute; size: lost share, default 0.3
    device   dropout refuse                  answers nothing; answers that it cannot (mqtt: says it is not running)
             reboot firmware_update          away for `size` seconds, then starts anew, as another profile with `to`
    writes   write_refused write_ignored write_unanswered   refuses, says yes and keeps what it had, does it in silence
    modbus   busy exception wrong_id wrong_unit late byte_by_byte short oversized reset half_open map_change
    opcua    bad_status uncertain old_clock future_clock overflow renumber alarm
    mqtt     death flood huge bad_utf8 retained broker_loss old_clock future_clock

`FAULTS` says of each what `size` means. Time is the device's own, in seconds since it was switched on, so that a seed
and a scenario repeat exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from twinmodel.errors import InputError
from twinsim.firmware import Sensor

SPIKE_SHARE = 0.1
PLANT_RAMP_S = 30.0
ALL_POINTS = "*"


class FaultKind(StrEnum):
    """Names of faults in scenarios and on the command line."""

    STUCK = "stuck"
    DRIFT = "drift"
    SPIKE = "spike"
    PLANT_DRIFT = "plant_drift"
    DROPOUT = "dropout"
    REFUSE = "refuse"
    REBOOT = "reboot"
    FIRMWARE_UPDATE = "firmware_update"
    WRITE_REFUSED = "write_refused"
    WRITE_IGNORED = "write_ignored"
    WRITE_UNANSWERED = "write_unanswered"
    BUSY = "busy"
    EXCEPTION = "exception"
    WRONG_ID = "wrong_id"
    WRONG_UNIT = "wrong_unit"
    LATE = "late"
    BYTE_BY_BYTE = "byte_by_byte"
    SHORT = "short"
    OVERSIZED = "oversized"
    RESET = "reset"
    HALF_OPEN = "half_open"
    MAP_CHANGE = "map_change"
    BAD_STATUS = "bad_status"
    UNCERTAIN = "uncertain"
    OLD_CLOCK = "old_clock"
    FUTURE_CLOCK = "future_clock"
    OVERFLOW = "overflow"
    RENUMBER = "renumber"
    ALARM = "alarm"
    DEATH = "death"
    FLOOD = "flood"
    HUGE = "huge"
    BAD_UTF8 = "bad_utf8"
    RETAINED = "retained"
    BROKER_LOSS = "broker_loss"


@dataclass(frozen=True, slots=True)
class FaultFacts:
    """What one kind of fault does.

    Attributes:
        protocols: devices it can hit: `any`, those of a protocol, with a `plant` behind them, or of any `profile`.
        text: what the device does.
        size: what `size` means, "" where it is not used.
        default: size when none is given, None where it depends on the sensor.
        low, high: sizes that are taken.
    """

    protocols: str
    text: str
    size: str = ""
    default: float | None = None
    low: float = -math.inf
    high: float = math.inf


_ALL, _CLOCK = "any", "seconds between its clock and the right one"
FAULTS: Mapping[FaultKind, FaultFacts] = {
    FaultKind.STUCK: FaultFacts(_ALL, "a sensor keeps the value it had"),
    FaultKind.DRIFT: FaultFacts(_ALL, "a sensor ramps away", "unit/s, else 0.1 % of the span per second"),
    FaultKind.SPIKE: FaultFacts(_ALL, "one reading in ten jumps up or down", "unit, else 25 % of the span"),
    FaultKind.PLANT_DRIFT: FaultFacts(
        "plant", "the plant ages over half a minute", "share lost", 0.3, 0.0, math.nextafter(1, 0)
    ),
    FaultKind.DROPOUT: FaultFacts(_ALL, "answers nothing"),
    FaultKind.REFUSE: FaultFacts(_ALL, "answers that it cannot (mqtt: is not running)"),
    FaultKind.REBOOT: FaultFacts("profile", "away, then starts anew", "seconds away", 5.0, 0.0, 3600.0),
    FaultKind.FIRMWARE_UPDATE: FaultFacts(
        "profile", "away, then comes back as the profile or firmware of `to`", "seconds away", 5.0, 0.0, 3600.0
    ),
    FaultKind.WRITE_REFUSED: FaultFacts("modbus", "refuses all writes", "the exception's code", 4.0, 1.0, 255.0),
    FaultKind.WRITE_IGNORED: FaultFacts("modbus opcua", "says that a write is done, and keeps what it had"),
    FaultKind.WRITE_UNANSWERED: FaultFacts("modbus", "does what is written, and answers nothing"),
    FaultKind.BUSY: FaultFacts("modbus", "refuses as busy", "share of requests", 1.0, 0.0, 1.0),
    FaultKind.EXCEPTION: FaultFacts("modbus", "answers with an exception", "its code", 4.0, 1.0, 255.0),
    FaultKind.WRONG_ID: FaultFacts("modbus", "answers with another transaction id"),
    FaultKind.WRONG_UNIT: FaultFacts("modbus", "answers with another unit id"),
    FaultKind.LATE: FaultFacts("modbus", "answers late", "seconds", 2.0, 0.0, 600.0),
    FaultKind.BYTE_BY_BYTE: FaultFacts("modbus", "answers byte by byte", "seconds between bytes", 0.005, 0.0, 1.0),
    FaultKind.SHORT: FaultFacts("modbus", "answers with fewer registers", "registers left out", 1.0, 1.0, 125.0),
    FaultKind.OVERSIZED: FaultFacts("modbus", "answers with more registers", "registers too many", 1.0, 1.0, 100.0),
    FaultKind.RESET: FaultFacts("modbus", "resets the connection at a request", "share of requests", 1.0, 0.0, 1.0),
    FaultKind.HALF_OPEN: FaultFacts("modbus", "takes the connection and is silent for all units behind it"),
    FaultKind.MAP_CHANGE: FaultFacts("modbus", "all its registers move", "by how many", 1.0, -1000.0, 1000.0),
    FaultKind.BAD_STATUS: FaultFacts("opcua", "gives values as bad", "status code", float(0x808B0000), 0.0, 2.0**32),
    FaultKind.UNCERTAIN: FaultFacts("opcua", "gives values as uncertain", "status code", float(0x40900000), 0, 2.0**32),
    FaultKind.OLD_CLOCK: FaultFacts("opcua mqtt", "its clock is behind", _CLOCK, 3600.0, 0.0, 2.0e9),
    FaultKind.FUTURE_CLOCK: FaultFacts("opcua mqtt", "its clock is ahead", _CLOCK, 3600.0, 0.0, 2.0e9),
    FaultKind.OVERFLOW: FaultFacts("opcua", "changes faster than queues hold", "changes a tick", 100.0, 1.0, 10_000.0),
    FaultKind.RENUMBER: FaultFacts(
        "opcua", "restarts with its namespaces numbered anew", "seconds away", 1.0, 0, 3600.0
    ),
    FaultKind.ALARM: FaultFacts("opcua", "raises an alarm of its own", "severity", 700.0, 1.0, 1000.0),
    FaultKind.DEATH: FaultFacts("mqtt", "loses its power: the Last Will speaks"),
    FaultKind.FLOOD: FaultFacts("mqtt", "publishes far too much", "messages a tick", 1000.0, 1.0, 50_000.0),
    FaultKind.HUGE: FaultFacts("mqtt", "publishes one huge payload a tick", "bytes", 10.0 * 2**20, 1.0, 100.0 * 2**20),
    FaultKind.BAD_UTF8: FaultFacts("mqtt", "publishes text that is not UTF-8"),
    FaultKind.RETAINED: FaultFacts("mqtt", "publishes everything retained"),
    FaultKind.BROKER_LOSS: FaultFacts(
        "mqtt", "the broker itself goes away, for all its devices", "seconds", 5.0, 0, 3600.0
    ),
}


_OF_SENSORS = {FaultKind.STUCK, FaultKind.DRIFT, FaultKind.SPIKE}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that is on.

    Attributes:
        kind: what it does.
        points: sensors it hits, empty for faults of the whole device.
        size: see `FAULTS`.
        since_s: device time it began at.
        until_s: device time it ends at, None until cleared.
        held: values of the points when it began.
        to: profile or firmware text that a firmware update leads to.
    """

    kind: FaultKind
    points: tuple[str, ...]
    size: float | None
    since_s: float
    until_s: float | None
    held: Mapping[str, float]
    to: str = ""


class FaultPanel:
    """The faults of one device; at most one of each kind, a new one replaces the old."""

    def __init__(self, sensors: Sequence[Sensor], rng: np.random.Generator, traits: Sequence[str] = ()) -> None:
        """Makes a panel of a device that has `traits`: `any`, its protocol, `plant` or `profile`."""
        self._sensors = {sensor.name: sensor for sensor in sensors}
        self._rng = rng
        self._kinds = tuple(kind for kind, facts in FAULTS.items() if set(facts.protocols.split()) & set(traits))
        self._on: dict[FaultKind, Fault] = {}

    @property
    def on(self) -> tuple[Fault, ...]:
        """Faults that are on now."""
        return tuple(self._on.values())

    @property
    def sensors(self) -> Sequence[str]:
        """Names of the sensors that faults can hit."""
        return tuple(self._sensors)

    @property
    def silent(self) -> bool:
        """Whether the device answers nothing."""
        return FaultKind.DROPOUT in self._on

    @property
    def refusing(self) -> bool:
        """Whether the device answers that it cannot."""
        return FaultKind.REFUSE in self._on

    def switch_on(
        self,
        kind: str,
        *,
        now_s: float,
        reading: Mapping[str, float],
        point: str = "",
        size: float | None = None,
        for_s: float | None = None,
        to: str = "",
    ) -> Fault:
        """Begins a fault at device time `now_s`. Raises as `check`."""
        fault_kind, points = self.check(kind, point=point, size=size, for_s=for_s, to=to)
        held = {name: reading[name] for name in points if name in reading}
        fault = Fault(fault_kind, points, size, now_s, None if for_s is None else now_s + for_s, held, to)
        self._on[fault_kind] = fault
        return fault

    def check(
        self, kind: str, *, point: str = "", size: float | None = None, for_s: float | None = None, to: str = ""
    ) -> tuple[FaultKind, tuple[str, ...]]:
        """Which fault of which points would begin; nothing does.

        Raises:
            InputError: VALUE_INVALID for an unknown kind or size, UNKNOWN_SIGNAL for an unknown point.
        """
        if kind not in self._kinds:
            raise InputError(
                "VALUE_INVALID", f"no fault is called {kind!r}", hint=f"use one of {', '.join(self._kinds)}"
            )
        fault_kind = FaultKind(kind)
        if for_s is not None and for_s <= 0:
            raise InputError("VALUE_INVALID", f"a fault cannot last {for_s} s")
        facts = FAULTS[fault_kind]
        if size is not None and not facts.low <= size <= facts.high:
            text = f"{kind} takes {facts.size} from {facts.low:g} to {facts.high:g}, not {size}"
            raise InputError("VALUE_INVALID", text)
        if bool(to) != (fault_kind is FaultKind.FIRMWARE_UPDATE):
            raise InputError("VALUE_INVALID", "firmware_update, and no other fault, takes a profile or a firmware `to`")
        named = fault_kind in _OF_SENSORS or (fault_kind is FaultKind.REBOOT and bool(point))
        return fault_kind, self._points(point) if named else ()

    def _points(self, point: str) -> tuple[str, ...]:
        if point == ALL_POINTS:
            return tuple(self._sensors)
        if not self._sensors:
            raise InputError("UNKNOWN_SIGNAL", "the device has no sensors")
        if not point:
            return (next(iter(self._sensors)),)
        if point not in self._sensors:
            raise InputError(
                "UNKNOWN_SIGNAL", f"no sensor is called {point!r}", hint=f"use one of {', '.join(self._sensors)}"
            )
        return (point,)

    def size(self, kind: FaultKind) -> float | None:
        """Size of a fault that is on, its default where none was given; None while it is off."""
        fault = self._on.get(kind)
        if fault is None:
            return None
        return (FAULTS[kind].default or 0.0) if fault.size is None else fault.size

    def strikes(self, kind: FaultKind) -> bool:
        """Whether a fault whose size is a share of requests hits this one."""
        share = self.size(kind)
        return share is not None and (share >= 1.0 or float(self._rng.random()) < share)

    def end(self, kind: FaultKind) -> Fault | None:
        """Ends one fault and returns it."""
        return self._on.pop(kind, None)

    def __bool__(self) -> bool:
        """Whether any fault is on."""
        return bool(self._on)

    def clear(self) -> None:
        """Ends all faults."""
        self._on.clear()

    def expire(self, now_s: float) -> None:
        """Ends the faults whose time is over."""
        for fault in self.on:
            if fault.until_s is not None and now_s >= fault.until_s:
                del self._on[fault.kind]

    def wear_factor(self, now_s: float) -> float:
        """Scale of the plant's ageing parameter at device time `now_s`; 1.0 without plant_drift."""
        fault = self._on.get(FaultKind.PLANT_DRIFT)
        if fault is None:
            return 1.0
        lost = 0.3 if fault.size is None else fault.size
        return 1.0 - lost * min(1.0, (now_s - fault.since_s) / PLANT_RAMP_S)

    def distort(self, values: Mapping[str, float], now_s: float) -> dict[str, float]:
        """What the faulty sensors show in place of `values`; a stuck sensor wins over the others."""
        shown = dict(values)
        if (drift := self._on.get(FaultKind.DRIFT)) is not None:
            for name in (p for p in drift.points if p in shown):
                slope = 0.001 * self._span(name) if drift.size is None else drift.size
                shown[name] += slope * (now_s - drift.since_s)
        if (spike := self._on.get(FaultKind.SPIKE)) is not None:
            for name in (p for p in spike.points if p in shown):
                if self._rng.random() < SPIKE_SHARE:
                    jump = 0.25 * self._span(name) if spike.size is None else spike.size
                    shown[name] += jump if self._rng.random() < 0.5 else -jump
        if (stuck := self._on.get(FaultKind.STUCK)) is not None:
            shown.update(stuck.held)
        return shown

    def _span(self, name: str) -> float:
        return self._sensors[name].high - self._sensors[name].low
