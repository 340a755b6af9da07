"""What a payload of unknown format likely is, and the values in it with the paths a profile would write."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgpack

from twinedge.drivers.payload import PAYLOAD_MAX, PayloadError, parser, raw_value
from twinedge.drivers.sparkplug import NAMESPACE
from twinedge.drivers.sparkplug_metric import name_of, read_payload, type_name
from twinedge.drivers.sparkplug_metric import raw_value as metric_value
from twinmodel.clock import SECOND_NS

FIELDS_MAX: Final = 60
DEPTH_MAX: Final = 8
ELEMENTS_MAX: Final = 4
TEXT_MAX: Final = 60
NEAR_NS: Final = 2 * 365 * 86_400 * SECOND_NS
TIME_UNITS: Final = {"s": SECOND_NS, "ms": 10**6, "us": 10**3, "ns": 1}
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_TIME_NAME: Final = re.compile(r"^(t|ts|time|timestamp|date|datetime|at|when|epoch|.*_(time|ts|at)|.*[a-z]Time)$")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Guess:
    """One payload as it seems to be.

    Attributes:
        kind: `json`, `cbor`, `msgpack`, `number`, `text`, `sparkplug`, `empty`, `binary` or `large`.
        content: plain values, None where it is none of them.
        fields: path -> value; a Sparkplug metric by its name.
        types: path -> type, as far as the payload tells (Sparkplug).
    """

    kind: str
    content: object
    fields: Mapping[str, object]
    types: Mapping[str, str]


def guess(topic: str, payload: bytes, size: int) -> Guess:
    """Looks at one payload; `size` is its whole length, of which only a beginning may be here."""
    if topic.startswith(f"{NAMESPACE}/") and "/STATE/" not in topic:
        found = _sparkplug(payload, size)
        if found is not None:
            return found
    if size > PAYLOAD_MAX:
        return Guess("large", None, {}, {})
    if not payload:
        return Guess("empty", None, {}, {})
    for kind, read in (("raw", _raw), ("json", _json), ("msgpack", _msgpack), ("cbor", _cbor)):
        del kind
        found = read(payload)
        if found is not None:
            return found
    return Guess("binary", None, {}, {})


def time_fields(fields: Mapping[str, object], now_ns: int) -> dict[str, str]:
    """Paths that are likely the time of the message, with the unit of that number or `iso8601`; likeliest first."""
    found: dict[str, str] = {}
    for path, value in fields.items():
        unit = _time_unit(value, now_ns)
        if unit:
            found[path] = unit
    leaf = {path: re.split(r"[.\[\]']+", path.rstrip("]'"))[-1].lower() for path in found}
    return dict(sorted(found.items(), key=lambda item: (not _TIME_NAME.match(leaf[item[0]]), item[0].count("."))))


def flat(content: object) -> dict[str, object]:
    """The values of a payload by their paths, at most `FIELDS_MAX`."""
    found: dict[str, object] = {}
    for path, value in _walk(content, "$", 0):
        if len(found) >= FIELDS_MAX:
            break
        found[path] = value
    return found


def _walk(content: object, path: str, depth: int) -> Iterator[tuple[str, object]]:
    if depth > DEPTH_MAX:
        return
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(key, str) and "'" not in key:
                step = f".{key}" if _PLAIN.fullmatch(key) else f"['{key}']"
                yield from _walk(value, path + step, depth + 1)
    elif isinstance(content, list):
        for number, value in enumerate(content[:ELEMENTS_MAX]):
            yield from _walk(value, f"{path}[{number}]", depth + 1)
    else:
        yield path, _short(content)


def _short(value: object) -> object:
    if isinstance(value, str):
        return value[:TEXT_MAX]
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, msgpack.Timestamp):
        return f"{value.to_datetime():%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:TEXT_MAX]


def _raw(payload: bytes) -> Guess | None:
    """A number or a word alone; None for text that may be JSON, and for bytes."""
    try:
        text = parser("raw")(payload)
    except PayloadError:
        return None
    assert isinstance(text, str), "that is what raw payloads are"
    if text[:1] in {"{", "[", '"'} or not text.isprintable():
        return None
    value = raw_value(text)
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Guess("number" if numeric else "text", value, {"$": _short(value)}, {})


def _json(payload: bytes) -> Guess | None:
    return _parsed("json", payload)


def _msgpack(payload: bytes) -> Guess | None:
    found = _parsed("msgpack", payload)
    return found if found is not None and isinstance(found.content, (dict, list)) else None


def _cbor(payload: bytes) -> Guess | None:
    found = _parsed("cbor", payload)
    return found if found is not None and isinstance(found.content, (dict, list)) else None


def _parsed(kind: str, payload: bytes) -> Guess | None:
    try:
        content = parser(kind)(payload)
    except PayloadError:
        return None
    return Guess(kind, content, flat(content), {})


def _sparkplug(payload: bytes, size: int) -> Guess | None:
    try:
        read = read_payload(payload, size)
    except PayloadError:
        return None
    fields: dict[str, object] = {}
    types: dict[str, str] = {}
    for metric in read.metrics[:FIELDS_MAX]:
        try:
            name = name_of(metric) or f"alias {metric.alias}"
            types[name] = type_name(metric.datatype)
            fields[name] = None if metric.is_null else _short(metric_value(metric, metric.datatype))
        except PayloadError as wrong:
            fields[name] = wrong.message
    return Guess("sparkplug", None, fields, types)


def _time_unit(value: object, now_ns: int) -> str:
    if isinstance(value, bool):
        return ""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return ""
        return "iso8601" if moment.tzinfo is not None and len(value) > 10 else ""
    if isinstance(value, (int, float)) and math.isfinite(value):
        for unit, size_ns in TIME_UNITS.items():
            if abs(value * size_ns - now_ns) < NEAR_NS:
                return unit
    return ""
