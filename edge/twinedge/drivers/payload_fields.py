"""Points of a payload, compiled once from the profile: where the value lies, its time, its unit, its scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgpack

from twinedge.drivers.decode import DECODE, Converter, Decoded, converter, typed_value
from twinedge.drivers.payload import PayloadError, raw_value
from twinmodel import units
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.profile.address import parse_json_path
from twinmodel.profile.schema import FirmwareProfile, Point
from twinmodel.profile.topics import parse_payload_path
from twinmodel.quality import GOOD
from twinmodel.signal import Kind, Signal

Path = tuple[str | int, ...]
Get = Callable[[object], object]
TimeOf = Callable[[object], int | None]

TIME_UNITS_NS: Final = {"s": SECOND_NS, "ms": 10**6, "us": 10**3, "ns": 1, "iso8601": 0}
TIME_MIN_NS: Final = 946_684_800 * SECOND_NS  # 2000-01-01: a device that says less has a clock that was never set
TIME_MAX_NS: Final = 1 << 62
SAMPLES_MAX: Final = 10_000  # elements of `each` in one message
UNITS_MAX: Final = 64  # unit texts remembered per point
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MISSING: Final = object()
_INF: Final = math.inf


class PayloadMissingError(PayloadError):
    """Nothing lies at the path."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What points of one message must share to be read together.

    Attributes:
        payload: format, see `payload.parser`.
        each: path of the list of samples, None for one sample a message.
        time: path of the event time, None when the payload carries none.
        time_of_all: whether `time` starts at the payload although there is a list.
        time_unit_ns: nanoseconds of one unit of a number there; 0 when only text will do.
        spacing_ns: distance of the elements, 0 when each has its own time.
        key: path of what tells two messages apart, None to tell by all of the payload.
    """

    payload: str
    each: Path | None
    time: Path | None
    time_of_all: bool
    time_unit_ns: int
    spacing_ns: int
    key: Path | None

    @staticmethod
    def of(profile: FirmwareProfile, point: Point) -> Shape:
        """The shape of the messages that carry a point of a checked profile."""
        defaults = profile.defaults
        time, each = point.time or defaults.time, point.each or defaults.each
        spacing_ns = point.spacing if point.spacing is not None else defaults.spacing or 0
        return Shape(
            point.payload or defaults.payload,
            _path(each),
            _path(time),
            each is None or spacing_ns > 0 or (time or "").strip().startswith("$$"),
            TIME_UNITS_NS[point.time_unit or defaults.time_unit],
            spacing_ns,
            _path(point.key or defaults.key),
        )


def _path(text: str | None) -> Path | None:
    return None if text is None else parse_json_path(parse_payload_path(text.strip()))


class Field:
    """One point of a payload; `read` is all that runs per sample.

    Attributes:
        signal: the signal it feeds.
        optional: whether a payload may leave it out.
    """

    __slots__ = ("_absent", "_convert", "_get", "_plain", "_text", "_unit", "_unit_of", "_units", "optional", "signal")

    def __init__(self, profile: FirmwareProfile, point: Point, signal: Signal) -> None:
        scale = point.scale if isinstance(point.scale, (int, float)) else None
        unit_at = _path(point.unit_at or profile.defaults.unit_at) if point.unit else None
        self.signal = signal
        self.optional = point.optional if point.optional is not None else profile.defaults.optional
        self._get = getter(_path(point.at) or ())
        self._convert = converter(scale, point.offset)
        self._absent = point.absent
        self._unit = point.unit
        self._unit_of = None if unit_at is None else getter(unit_at)
        self._units: dict[str, Converter | None] = {}
        self._text = (point.payload or profile.defaults.payload) == "raw" and signal.kind is not Kind.STRING
        self._plain = signal.kind is Kind.FLOAT and not (self._convert or self._unit_of or self._absent is not None)

    def read(self, content: object) -> Decoded:
        """The value and quality in one sample. Raises PayloadError for none, another type or a foreign unit."""
        raw = self._get(content)
        if self._plain and type(raw) is float and -_INF < raw < _INF:
            return raw, GOOD
        kind = self.signal.kind
        if self._text and type(raw) is str:
            raw = raw_value(raw)
        value, quality = typed_value(raw, kind, self._convert, self._absent)
        if quality == DECODE:
            raise PayloadError(f"a {type(raw).__name__} is no {kind.name.lower()}")
        if self._unit_of is not None and quality == GOOD:
            convert = self._conversion(self._unit_of(content))
            return (value, quality) if convert is None else typed_value(value, kind, convert, None)
        return value, quality

    def _conversion(self, text: object) -> Converter | None:
        """From a unit of the payload to the point's; None when they are one."""
        if not isinstance(text, str):
            raise PayloadError(f"a {type(text).__name__} is no unit")
        if text not in self._units:
            if len(self._units) >= UNITS_MAX:
                self._units.clear()
            self._units[text] = _unit_converter(text, self._unit)
        return self._units[text]


def _unit_converter(found: str, wanted: str) -> Converter | None:
    try:
        if units.parse(found) == units.parse(wanted):
            return None
        units.convert(0.0, found, wanted)
    except InputError as clash:
        raise PayloadError(clash.message[:200], clash.reason) from clash
    return lambda value: units.convert(value, found, wanted)


def getter(path: Path) -> Get:
    """The function that takes what lies at a path. It raises PayloadMissingError when nothing does."""
    if len(path) == 1 and isinstance(path[0], str):
        only = path[0]

        def get(content: object) -> object:
            found = content.get(only, _MISSING) if type(content) is dict else _MISSING
            if found is _MISSING:
                raise PayloadMissingError(f"no {only!r} in the payload")
            return found

        return get
    return (lambda content: follow(content, path)) if path else (lambda content: content)


def follow(content: Any, path: Path) -> Any:
    """What lies at a path. Raises PayloadMissingError when nothing does."""
    for step in path:
        named = isinstance(step, str) and isinstance(content, dict) and step in content
        counted = isinstance(step, int) and isinstance(content, list) and step < len(content)
        if not named and not counted:
            raise PayloadMissingError(f"no {step!r} in the payload")
        content = content[step]
    return content


def time_reader(shape: Shape) -> TimeOf | None:
    """The function that reads the event time at the shape's path in nanoseconds UTC; None without a path.

    It gives None for what is no time or makes no sense. Numbers count from 1970 in the shape's unit, text is
    ISO 8601 with an offset.
    """
    if shape.time is None:
        return None
    get, unit_ns = getter(shape.time), shape.time_unit_ns

    def read(content: object) -> int | None:
        try:
            raw = get(content)
        except PayloadMissingError:
            return None
        t_ns = raw * unit_ns if type(raw) is int else _time_ns(raw, unit_ns)
        return t_ns if TIME_MIN_NS <= t_ns < TIME_MAX_NS else None

    return read


def _time_ns(raw: object, unit_ns: int) -> int:
    """Time of a number with fraction, of a text, or of a format's own type; 0 for what is none."""
    if isinstance(raw, float) and math.isfinite(raw):
        whole = math.floor(raw)
        return whole * unit_ns + round((raw - whole) * unit_ns)  # a double times 1e9 would lose microseconds
    if isinstance(raw, str):
        try:
            moment = datetime.fromisoformat(raw)
            return 0 if moment.tzinfo is None else (moment - _EPOCH) // _MICROSECOND * 1000
        except (ValueError, OverflowError):
            return 0
    if isinstance(raw, msgpack.Timestamp):
        return raw.to_unix_nano()  # type: ignore[no-any-return]  # msgpack has no types
    return 0


def samples_of(content: object, shape: Shape) -> list[object]:
    """The samples of one message. Raises PayloadError when the list is none or too long."""
    if shape.each is None:
        return [content]
    found = follow(content, shape.each)
    if not isinstance(found, list):
        raise PayloadError(f"a {type(found).__name__} is no list of samples")
    if len(found) > SAMPLES_MAX:
        raise PayloadError(f"{len(found)} samples in a message, at most {SAMPLES_MAX}", "LIMIT_EXCEEDED")
    return found
