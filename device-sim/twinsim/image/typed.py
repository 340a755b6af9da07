"""What a device of OPC UA or MQTT holds: typed values by point, and what of them goes over the wire."""

from __future__ import annotations

import random
from collections.abc import Mapping

from twinmodel.errors import InputError
from twinmodel.profile.address import parse_type
from twinmodel.profile.schema import FirmwareProfile, Point, kind_of
from twinmodel.signal import Kind
from twinsim.image import motion
from twinsim.image.codec import INT_MAX, INT_MIN, Value

DECIMALS = 3


class TypedImage:
    """Values of one device's points.

    Attributes:
        profile: it was made from.
        firmware: the text it tells.
    """

    def __init__(
        self,
        profile: FirmwareProfile,
        seed: str,
        *,
        settings: Mapping[str, Value | None] | None = None,
        firmware: str = "",
    ) -> None:
        """Makes the image; arguments as of `RegisterImage`. Raises InputError as it does."""
        self.profile = profile
        self.firmware = firmware
        self._held: dict[str, Value | None] = dict(settings or {})
        self._values: dict[str, Value | None] = {}
        self._motions = {n: self._motion(n, p, motion.seeded(seed, n)) for n, p in profile.points.items()}
        self.refresh(0.0)

    def _motion(self, name: str, point: Point, rng: random.Random) -> motion.Motion:
        kind = kind_of(point)
        held = self._held.get(name)
        if held is not None:
            if isinstance(held, str) != (kind is Kind.STRING):
                text = f"{self.profile.name} cannot be simulated: {name}: {held!r} is no {kind.name.lower()}"
                raise InputError("VALUE_INVALID", text, point=name)
            return motion.constant(bool(held) if kind is Kind.BOOL else held)
        if kind is Kind.STRING:
            return motion.constant(next(iter(point.states.values())) if point.states else name.upper())
        if kind is Kind.BOOL:
            return motion.flips(point, rng)
        return motion.states(point, rng, sorted(point.states)) if point.states else _numbers(point, rng)

    def refresh(self, age_s: float, ages_s: Mapping[str, float] | None = None) -> None:
        """Moves all values to an age of the device; `ages_s` says other ages of single points."""
        for name, move in self._motions.items():
            if self._held.get(name, 0) is None:
                self._values[name] = None
            else:
                value = move(age_s if ages_s is None else ages_s.get(name, age_s))
                self._values[name] = self._rounded(name, value)

    def _rounded(self, name: str, value: Value) -> Value:
        point = self.profile.points[name]
        kind = kind_of(point)
        if isinstance(value, bool | str):
            return value
        if kind is Kind.INT:
            return min(max(round(value), INT_MIN), INT_MAX)
        if kind is Kind.BOOL:
            return bool(value)
        if point.scale is not None or point.offset is not None:
            return value
        if point.resolution is not None:
            return round(round(value / point.resolution) * point.resolution, 9)
        return round(value, DECIMALS)

    def value(self, name: str) -> Value | None:
        """What a point holds, None for nothing."""
        return self._values[name]

    def show(self, name: str, value: Value) -> None:
        """Puts a value in place of the point's own until the next refresh."""
        self._values[name] = self._rounded(name, value)

    def hold(self, name: str, value: Value) -> None:
        """A client wrote a point: it stays."""
        self._held[name] = value
        self._motions[name] = motion.constant(value)
        self._values[name] = value

    def wire(self, name: str) -> Value | None:
        """What goes over the wire: the value before `scale` and `offset`; None for nothing."""
        value, point = self._values[name], self.profile.points[name]
        if value is None or isinstance(value, bool | str) or (point.scale is None and point.offset is None):
            return value
        raw = (value - (point.offset or 0.0)) / float(point.scale or 1)
        return raw if whole_bits(point) is None else round(raw)


def _numbers(point: Point, rng: random.Random) -> motion.Motion:
    low, high = wire_range(point)
    factor, offset = float(point.scale or 1), point.offset or 0.0
    ends = sorted((low * factor + offset, high * factor + offset))
    bounds = motion.Bounds(*ends)
    if point.klass == "counter":
        return motion.counter(point, rng, bounds, factor, whole=kind_of(point) is Kind.INT)
    return motion.constant(max(0.0, ends[0])) if point.klass == "state" else motion.gauge(point, rng, bounds)


def whole_bits(point: Point) -> int | None:
    """Bits of an integer type on the wire, negative for unsigned ones; None for other types."""
    text = point.as_ or "float64"
    if text == "string":
        return None
    wire = parse_type(text)
    return None if wire.name not in {"int", "uint"} else wire.size * (-1 if wire.name == "uint" else 1)


def wire_range(point: Point) -> tuple[float, float]:
    """Smallest and largest number the type on the wire holds."""
    bits = whole_bits(point)
    if bits is None:
        return -3.4e38, 3.4e38
    if bits < 0:
        return 0, min((1 << -bits) - 1, INT_MAX)
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
