"""What the schema of a profile cannot say: units, ranges, paths, topics, names that lead nowhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

from twinmodel import units
from twinmodel.errors import ConfigError, InputError
from twinmodel.profile.address import parse_json_path, parse_type
from twinmodel.profile.document import Document
from twinmodel.profile.firmware import parse_range
from twinmodel.profile.node import parse_node
from twinmodel.profile.parsing import KeyPath
from twinmodel.profile.registers import check_device, check_overlaps, check_register
from twinmodel.profile.schema import FirmwareProfile, Point, kind_of
from twinmodel.profile.topics import KNOWN, parse_metric, parse_payload_path, parse_template, parse_topic
from twinmodel.profile.writes import check_method, check_write
from twinmodel.signal import Kind


def check_profile(profile: FirmwareProfile, document: Document) -> list[ConfigError]:
    """Everything wrong with a profile that fits its schema, the first of each point; each with its place."""
    found = list(_caught(lambda: _check_header(profile, document)))
    for name, point in profile.points.items():
        found += _caught(lambda n=name, p=point: _check_point(profile, document, ("points", n), p))  # type: ignore[misc]
    for name, method in profile.methods.items():
        found += _caught(lambda n=name, m=method: check_method(profile, document, n, m))  # type: ignore[misc]
    if not found and profile.protocol == "modbus":
        found += check_overlaps(profile, document)
    return found


def _caught(check: Callable[[], None]) -> Iterator[ConfigError]:
    try:
        check()
    except ConfigError as wrong:
        yield wrong


def _check_header(profile: FirmwareProfile, document: Document) -> None:
    document.read(("firmware",), parse_range, profile.firmware)
    if profile.protocol == "modbus":
        check_device(profile, document)
    elif profile.protocol == "opcua" and not profile.namespace:
        hint = "add `namespace:` with the URI of the namespace that the browse names lie in"
        raise document.error("VALUE_INVALID", ("protocol",), "an opcua profile needs `namespace`", hint=hint)
    elif profile.protocol == "opcua":
        _check_identity(profile, document)
    elif profile.protocol == "mqtt":
        _check_availability(profile, document)


def _check_point(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}", str(keys[1])):
        raise document.error("VALUE_INVALID", keys, "names of points are letters, digits, _ . -", key=True)
    try:
        units.parse(point.unit)
    except InputError as wrong:
        raise document.error(wrong.reason, (*keys, "unit"), wrong.message, hint=wrong.hint) from None
    if point.range is not None and not point.range[0] < point.range[1]:
        message = f"the range must ascend, found {point.range[0]:g} .. {point.range[1]:g}"
        raise document.error("VALUE_INVALID", (*keys, "range"), message)
    if profile.every_ns(point) == 0:
        raise document.error("VALUE_INVALID", (*keys, "every"), "must be longer than 0")
    if point.offset is not None and not math.isfinite(point.offset):
        raise document.error("VALUE_INVALID", (*keys, "offset"), f"an offset of {point.offset}; write a number")
    if isinstance(point.scale, float | int) and (not math.isfinite(point.scale) or point.scale == 0):
        raise document.error("VALUE_INVALID", (*keys, "scale"), f"a scale of {point.scale:g}; write a number, not 0")
    _PROTOCOLS[profile.protocol](profile, document, keys, point)
    _check_meaning(document, keys, point)
    check_write(profile, document, keys, point)


def _check_meaning(document: Document, keys: KeyPath, point: Point) -> None:
    """`states`, `class` and `wraps` must fit the kind of the value."""
    kind = kind_of(point)
    if point.states and kind not in {Kind.INT, Kind.BOOL}:
        raise document.error("VALUE_INVALID", (*keys, "states"), "states name the values of integers and bits alone")
    if kind is Kind.BOOL and not point.states.keys() <= {0, 1}:
        raise document.error("VALUE_INVALID", (*keys, "states"), "a bit is 0 or 1")
    if point.klass == "counter" and kind in {Kind.BOOL, Kind.STRING}:
        raise document.error("VALUE_INVALID", (*keys, "class"), f"a {kind.name.lower()} counts nothing")
    if point.wraps is not None and (point.klass != "counter" or not math.isfinite(point.wraps)):
        raise document.error("VALUE_INVALID", (*keys, "wraps"), "only a counter wraps, at a finite number of counts")


def _check_opcua(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    del profile
    document.read((*keys, "at"), parse_node, point.at)
    if point.device_unit is not None:
        try:
            units.parse(point.device_unit)
        except InputError as wrong:
            raise document.error(wrong.reason, (*keys, "device_unit"), wrong.message, hint=wrong.hint) from None
    _check_plain(document, keys, point)


def _check_identity(profile: FirmwareProfile, document: Document) -> None:
    identify = profile.identify
    if identify is not None:
        document.read(("identify", "at"), parse_node, identify.at)
        if identify.firmware is not None:
            document.read(("identify", "firmware", "at"), parse_node, identify.firmware.at)


def _check_availability(profile: FirmwareProfile, document: Document) -> None:
    said = profile.availability
    if said is None:
        return
    document.read(("availability", "topic"), parse_topic, said.topic)
    document.read(("availability", "at"), parse_json_path, said.at)
    if said.online == said.offline:
        raise document.error("VALUE_INVALID", ("availability",), "`online` and `offline` must differ")
    if profile.defaults.payload == "sparkplug":
        raise document.error("VALUE_INVALID", ("availability",), "Sparkplug has births and deaths of its own")


_NOT_SPARKPLUG = (
    *("topic", "where", "payload", "time", "time_unit", "key", "each", "spacing", "unit_at", "qos"),
    "expect_every",
)


def _check_mqtt(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    payload = point.payload or profile.defaults.payload
    if (payload == "sparkplug") != (profile.defaults.payload == "sparkplug"):
        hint = "write it under `defaults`: sessions of Sparkplug carry whole devices"
        raise document.error("VALUE_INVALID", (*keys, "payload"), "sparkplug is for all points or none", hint=hint)
    if payload == "sparkplug":
        document.read((*keys, "at"), parse_metric, point.at)
        for key in _NOT_SPARKPLUG:
            if getattr(point, key):
                raise document.error("VALUE_INVALID", (*keys, key), f"Sparkplug says itself what `{key}` would say")
    else:
        _check_topic(profile, document, keys, point)
        _check_payload(profile, document, keys, point)
    _check_plain(document, keys, point)


def _check_topic(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    topic = point.topic or profile.defaults.topic
    if not topic:
        raise document.error("VALUE_INVALID", keys, "an mqtt point needs `topic`, here or under `defaults`")
    captures = document.read((*keys, "topic"), parse_template, topic)
    for name, text in point.where.items():
        if name not in captures or name in KNOWN:
            hint = f"captures of {topic!r}: {', '.join(c for c in captures if c not in KNOWN) or 'none'}"
            raise document.error("VALUE_INVALID", (*keys, "where", name), f"the topic captures no {name!r}", hint=hint)
        if not text or any(c in text for c in "/+#"):
            raise document.error("VALUE_INVALID", (*keys, "where", name), f"{text!r} is not one level of a topic")


def _check_payload(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    raw = (point.payload or profile.defaults.payload) == "raw"
    paths = {key: getattr(point, key) or getattr(profile.defaults, key) for key in ("time", "key", "each", "unit_at")}
    for key, path in ({"at": point.at} | paths).items():
        if path is not None:
            document.read((*keys, key), lambda text: parse_json_path(parse_payload_path(text)), path)
            if raw and path.strip() != "$":
                raise document.error("VALUE_INVALID", (*keys, key), "a raw payload is one value, `$`, and no more")
    if (point.spacing or profile.defaults.spacing) is not None and paths["each"] is None:
        raise document.error("VALUE_INVALID", (*keys, "spacing"), "`spacing` is of the elements of `each`")
    if paths["each"] is not None and paths["time"] is None:
        raise document.error("VALUE_INVALID", (*keys, "each"), "a list of samples needs their `time`")
    if paths["unit_at"] is not None and not point.unit:
        raise document.error(
            "VALUE_INVALID", (*keys, "unit_at"), "a unit in the payload needs the `unit` to convert to"
        )
    _check_plain(document, keys, point)


def _check_plain(document: Document, keys: KeyPath, point: Point) -> None:
    """Protocols that carry typed values: `as` names a type, a scale is a number."""
    if point.as_ is not None:
        document.read((*keys, "as"), lambda t: t == "string" or parse_type(t), point.as_)
    if isinstance(point.scale, str):
        raise document.error("VALUE_INVALID", (*keys, "scale"), "must be a number; 10^@point is for modbus")


_PROTOCOLS: dict[str, Callable[[FirmwareProfile, Document, KeyPath, Point], None]] = {
    "modbus": check_register,
    "opcua": _check_opcua,
    "mqtt": _check_mqtt,
}
