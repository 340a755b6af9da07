"""Faults of one device: which are possible, which are on, and what they do to its readings.

    stuck        a sensor keeps the value it had                  size: not used
    drift        a sensor ramps away                              size: unit/s, default 0.1 % of the span per second
    spike        one reading in ten jumps up or down              size: unit, default 25 % of the span
    plant_drift  the plant itself ages over half a minute         size: lost share of the parameter, default 0.3
    dropout      the device answers nothing                       size: not used
    refuse       the device answers that it cannot (mqtt: says that it is not running)

Time is the device's own, in seconds since it was switched on, so that a seed and a scenario repeat exactly.
"""

from __future__ import annotations

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


_OF_SENSORS = {FaultKind.STUCK, FaultKind.DRIFT, FaultKind.SPIKE}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that is on.

    Attributes:
        kind: what it does.
        points: sensors it hits, empty for faults of the whole device.
        size: see the module.
        since_s: device time it began at.
        until_s: device time it ends at, None until cleared.
        held: values of the points when it began.
    """

    kind: FaultKind
    points: tuple[str, ...]
    size: float | None
    since_s: float
    until_s: float | None
    held: Mapping[str, float]


class FaultPanel:
    """The faults of one device; at most one of each kind, a new one replaces the old."""

    def __init__(self, sensors: Sequence[Sensor], rng: np.random.Generator) -> None:
        self._sensors = {sensor.name: sensor for sensor in sensors}
        self._rng = rng
        self._on: dict[FaultKind, Fault] = {}

    @property
    def on(self) -> tuple[Fault, ...]:
        """Faults that are on now."""
        return tuple(self._on.values())

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
    ) -> Fault:
        """Begins a fault at device time `now_s`.

        Raises:
            InputError: VALUE_INVALID for an unknown kind or size, UNKNOWN_SIGNAL for an unknown point.
        """
        if kind not in tuple(FaultKind):
            raise InputError("VALUE_INVALID", f"no fault is called {kind!r}", hint=f"use one of {', '.join(FaultKind)}")
        fault_kind = FaultKind(kind)
        if for_s is not None and for_s <= 0:
            raise InputError("VALUE_INVALID", f"a fault cannot last {for_s} s")
        if fault_kind is FaultKind.PLANT_DRIFT and size is not None and not 0 <= size < 1:
            raise InputError("VALUE_INVALID", f"plant_drift takes a share from 0 to below 1, not {size}")
        points = self._points(point) if fault_kind in _OF_SENSORS else ()
        held = {name: reading[name] for name in points}
        fault = Fault(fault_kind, points, size, now_s, None if for_s is None else now_s + for_s, held)
        self._on[fault_kind] = fault
        return fault

    def _points(self, point: str) -> tuple[str, ...]:
        if point == ALL_POINTS:
            return tuple(self._sensors)
        if not point:
            return (next(iter(self._sensors)),)
        if point not in self._sensors:
            raise InputError(
                "UNKNOWN_SIGNAL", f"no sensor is called {point!r}", hint=f"use one of {', '.join(self._sensors)}"
            )
        return (point,)

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
            for name in drift.points:
                slope = 0.001 * self._span(name) if drift.size is None else drift.size
                shown[name] += slope * (now_s - drift.since_s)
        if (spike := self._on.get(FaultKind.SPIKE)) is not None:
            for name in spike.points:
                if self._rng.random() < SPIKE_SHARE:
                    jump = 0.25 * self._span(name) if spike.size is None else spike.size
                    shown[name] += jump if self._rng.random() < 0.5 else -jump
        if (stuck := self._on.get(FaultKind.STUCK)) is not None:
            shown.update(stuck.held)
        return shown

    def _span(self, name: str) -> float:
        return self._sensors[name].high - self._sensors[name].low
