"""MQTT payloads to samples: JSON paths, times inside the payload, and everything that can be wrong with them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from twinedge.drivers.decode import DECODE, Converter, Decoded, converter, typed_value
from twinmodel.clock import SECOND_NS
from twinmodel.profile.address import parse_json_path
from twinmodel.profile.schema import FirmwareProfile, Point
from twinmodel.signal import Signal

PAYLOAD_MAX = 256 * 1024
TIME_UNITS_NS: Mapping[str, int] = {"s": SECOND_NS, "ms": 10**6, "us": 10**3, "ns": 1}
TIME_MAX_NS = 1 << 62


class PayloadError(ValueError):
    """The payload is not what the profile says."""


@dataclass(frozen=True, slots=True)
class Field:
    """One point of a payload.

    Attributes:
        signal: the signal it feeds.
        path: steps into the JSON value.
        convert: scale and offset, None for none.
        absent: value that means "no value".
        time: steps to the event time, None when the payload carries none.
        time_unit_ns: nanoseconds of one unit of that number.
    """

    signal: Signal
    path: tuple[str | int, ...]
    convert: Converter | None
    absent: object
    time: tuple[str | int, ...] | None
    time_unit_ns: int

    @staticmethod
    def of(profile: FirmwareProfile, point: Point, signal: Signal) -> Field:
        """Prepares a point of a profile that `load_profile` has checked."""
        scale = point.scale if isinstance(point.scale, (int, float)) else None
        time = parse_json_path(profile.defaults.time) if profile.defaults.time else None
        unit_ns = TIME_UNITS_NS[profile.defaults.time_unit]
        path = parse_json_path(point.at)
        return Field(signal, path, converter(scale, point.offset), point.absent, time, unit_ns)


def parse_payload(payload: bytes) -> object:
    """The JSON value of a payload; a plain number or word is JSON too. Raises PayloadError."""
    if len(payload) > PAYLOAD_MAX:
        raise PayloadError(f"{len(payload)} bytes, at most {PAYLOAD_MAX}")
    try:
        parsed: object = json.loads(payload.decode())
    except UnicodeDecodeError as wrong:
        raise PayloadError("not UTF-8") from wrong
    except (ValueError, RecursionError) as wrong:
        raise PayloadError("not JSON") from wrong
    return parsed


def follow(content: Any, path: tuple[str | int, ...]) -> Any:
    """What lies at a path. Raises PayloadError when nothing does."""
    for step in path:
        named = isinstance(step, str) and isinstance(content, dict) and step in content
        counted = isinstance(step, int) and isinstance(content, list) and step < len(content)
        if not named and not counted:
            raise PayloadError(f"no {step!r} in the payload")
        content = content[step]
    return content


def read_value(content: object, field: Field) -> Decoded:
    """The value and quality of one point. Raises PayloadError for a value of another type."""
    raw = follow(content, field.path)
    value, quality = typed_value(raw, field.signal.kind, field.convert, field.absent)
    if quality == DECODE:
        raise PayloadError(f"a {type(raw).__name__} is no {field.signal.kind.name.lower()}")
    return value, quality


def read_time_ns(content: object, field: Field) -> int | None:
    """Event time of the payload in nanoseconds UTC; None when it carries none that makes sense.

    Numbers count from 1970 in the profile's unit; text is RFC 3339 with an offset.
    """
    if field.time is None:
        return None
    try:
        raw = follow(content, field.time)
    except PayloadError:
        return None
    t_ns = 0
    if isinstance(raw, int) and not isinstance(raw, bool):
        t_ns = raw * field.time_unit_ns
    elif isinstance(raw, float) and math.isfinite(raw):
        t_ns = round(Fraction(repr(raw)) * field.time_unit_ns)  # exact: a double times 1e9 would lose microseconds
    elif isinstance(raw, str):
        try:
            moment = datetime.fromisoformat(raw)
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        t_ns = round(Fraction(repr(moment.timestamp())) * SECOND_NS)
    return t_ns if 0 < t_ns < TIME_MAX_NS else None
