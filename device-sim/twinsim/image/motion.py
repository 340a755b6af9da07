"""How the values of a simulated device move: functions of its age, drawn once from a seed.

Gauges wander by two sines within the middle of their range, slower than the point's `rate`; counters only rise; states
take their labels in turn, alarms rest at their first; bits flip now and then. Nothing is drawn while a device runs, so
that a value depends on seed, point and age alone, and a device that is not asked costs nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from twinmodel.profile.schema import Point

Motion = Callable[[float], "float | int | bool | str"]
"""Value at an age in seconds."""

_SPANS = {
    "V": (218.0, 242.0),
    "kV": (9.8, 10.4),
    "A": (0.5, 16.0),
    "W": (100.0, 4000.0),
    "kW": (1.0, 40.0),
    "VA": (100.0, 4200.0),
    "var": (-500.0, 500.0),
    "Hz": (49.9, 50.1),
    "degC": (15.0, 45.0),
    "K": (288.0, 318.0),
    "%": (20.0, 90.0),
    "bar": (1.0, 8.0),
    "Pa": (100000.0, 102500.0),
    "hPa": (990.0, 1030.0),
    "rpm": (600.0, 1800.0),
    "m/s": (0.0, 12.0),
    "m3/h": (5.0, 50.0),
    "ms": (1000.0, 60000.0),
}
_PLAIN = (10.0, 90.0)
_PER_S = {"kWh": 0.002, "MWh": 2e-6, "Wh": 2.0, "VA h": 2.0, "VAh": 2.0, "varh": 0.5, "h": 1 / 3600, "min": 1 / 60}
_PER_S |= {"s": 1.0, "ms": 1000.0, "m3": 0.01, "l": 3.0, "mm": 0.001, "Ah": 0.005, "kvarh": 0.0005}
STATE_HOLD_S = 45.0
PERIOD_MIN_S, PERIOD_MAX_S = 40.0, 300.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Values that can be shown at all, e.g. by the type on the wire."""

    low: float = -math.inf
    high: float = math.inf


def seeded(seed: str, name: str) -> random.Random:
    """What draws the motion of one point: the same for the same seed and name, in every profile."""
    return random.Random(f"{seed}/{name}")  # noqa: S311  # plausible values, no secrets


def span_of(point: Point, bounds: Bounds) -> tuple[float, float]:
    """Between which values a gauge wanders: the profile's range, or what its unit suggests within it."""
    if point.range is not None:
        low, high = point.range
        margin = 0.1 * (high - low)
        usual = _SPANS.get(point.unit, (low, low))
        inside = low < usual[0] < usual[1] < high
        low, high = usual if inside else (low + margin, high - margin)
    elif point.write is not None and point.write.range is not None:
        low, high = point.write.range
    else:
        low, high = _SPANS.get(point.unit, _PLAIN)
    if low > bounds.high or high < bounds.low:  # e.g. a scale below 0 of an unsigned number
        low, high = -high, -low
    low, high = max(low, bounds.low), min(high, bounds.high)
    if low > high:
        low, high = max(bounds.low, -1e6), min(bounds.high, 1e6)
    return low, high


def gauge(point: Point, rng: random.Random, bounds: Bounds) -> Motion:
    """A number that wanders."""
    low, high = span_of(point, bounds)
    middle, half = (low + high) / 2, (high - low) / 2
    slow = rng.uniform(PERIOD_MIN_S, PERIOD_MAX_S)
    if point.rate is not None and half > 0:  # 0.8 * half * w + 0.2 * half * 3 w stays below half of the rate
        slow = max(slow, 2 * math.pi * 1.4 * half / (0.5 * point.rate))
    w, a, b = 2 * math.pi / slow, rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
    sin, big, small, quick = math.sin, 0.8 * half, 0.2 * half, 3.1 * w
    return lambda age_s: middle + big * sin(w * age_s + a) + small * sin(quick * age_s + b)


def counter(point: Point, rng: random.Random, bounds: Bounds, step: float, *, whole: bool) -> Motion:
    """A number that only rises, and starts again at 0 after `wraps` raw counts (`step` each) or the type's end.

    Args:
        point: its profile.
        rng: draws where it starts and how fast it is.
        bounds: of what can be shown.
        step: value of one raw count.
        whole: whether values are whole numbers.
    """
    top = min(bounds.high, point.range[1]) if point.range is not None else bounds.high
    low = max(0.0, bounds.low if math.isfinite(bounds.low) else 0.0)
    per_s = _PER_S.get(point.unit, 1.0 if whole or not point.unit else 0.1) * rng.uniform(0.5, 2.0)
    span = min(top - low, 1e15)
    if point.wraps is not None:
        span = min(span, point.wraps * abs(step))
    per_s = min(per_s, span / 100_000) if span > 0 else 0.0
    start = min(span * 0.5, per_s * rng.uniform(1e4, 1e6))
    w = 2 * math.pi / rng.uniform(30.0, 120.0)
    sin = math.sin
    if whole:
        return lambda age_s: int(low + (start + per_s * (age_s + 0.8 * sin(w * age_s) / w)) % (span + 1))
    return lambda age_s: low + (start + per_s * (age_s + 0.8 * sin(w * age_s) / w)) % span if span else low


def states(point: Point, rng: random.Random, numbers: list[int]) -> Motion:
    """Labelled numbers in turn; an alarm stays at the first."""
    if point.priority == "alarm" or len(numbers) == 1:
        return lambda _age_s: numbers[0]
    hold_s, first = STATE_HOLD_S * rng.uniform(0.7, 1.5), rng.randrange(len(numbers))
    return lambda age_s: numbers[(first + int(age_s / hold_s)) % len(numbers)]


def flips(point: Point, rng: random.Random) -> Motion:
    """A bit: one that may be written and an alarm stay off, others change now and then."""
    if point.priority == "alarm" or point.write is not None:
        return lambda _age_s: False
    hold_s, first = STATE_HOLD_S * rng.uniform(0.7, 2.0), rng.random() < 0.7
    return lambda age_s: first ^ bool(int(age_s / hold_s) % 4 == 3)


def constant(value: float | str) -> Motion:
    """A value that stays."""
    return lambda _age_s: value
