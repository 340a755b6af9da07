"""Messages of an MQTT device as its profile has them: which topic carries which points, and in what format."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack

from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.errors import InputError
from twinmodel.profile.address import parse_json_path
from twinmodel.profile.schema import Availability, FirmwareProfile, Point
from twinmodel.profile.topics import expand_topic, parse_payload_path
from twinsim.image.typed import TypedImage

SAMPLES_OF_EACH = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_NS = {"s": SECOND_NS, "ms": MILLISECOND_NS, "us": 1000, "ns": 1}
Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One message to publish."""

    topic: str
    payload: bytes
    qos: int
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """What points of one message share."""

    topic: str
    payload: str
    each: str | None
    time: str | None
    time_unit: str
    spacing_ns: int
    key: str | None
    qos: int


class Messages:
    """The messages of one device."""

    def __init__(self, profile: FirmwareProfile, root: str, device: str) -> None:
        """Plans the messages. Raises InputError VALUE_INVALID for points that cannot share one."""
        self.profile = profile
        self._groups: dict[_Group, list[str]] = {}
        for name, point in profile.points.items():
            group = _group(profile, name, point, root, device)
            self._groups.setdefault(group, []).append(name)
        for group, names in self._groups.items():
            if group.payload == "raw" and len(names) > 1:
                text = f"{profile.name} cannot be simulated: {names[1]}: shares the raw payload of {group.topic}"
                raise InputError("VALUE_INVALID", text, point=names[1])

    def make(self, image: TypedImage, t_ns: int, number: int) -> list[Message]:
        """All messages of one moment; `number` goes where the profile has a `key`."""
        return [self._message(group, names, image, t_ns, number) for group, names in self._groups.items()]

    def _message(self, group: _Group, names: list[str], image: TypedImage, t_ns: int, number: int) -> Message:
        if group.payload == "raw":
            payload = _word(image.wire(names[0])).encode()
            return Message(group.topic, payload, group.qos, tuple(names))
        content: Any = {}
        every_ns = group.spacing_ns or SECOND_NS // SAMPLES_OF_EACH
        if group.each is None:
            content = self._sample(group, names, image, content, t_ns)
        else:
            first_ns = t_ns - (SAMPLES_OF_EACH - 1) * every_ns
            times = [first_ns + i * every_ns for i in range(SAMPLES_OF_EACH)]
            whole = group.spacing_ns > 0 or (group.time or "").strip().startswith("$$")
            inner = group if not whole else _Group(**{**_fields(group), "time": None})
            samples = [self._sample(inner, names, image, {}, t) for t in times]
            content = put(content, parse_json_path(group.each), samples)
            if whole and group.time is not None:
                stamp = _time(first_ns if group.spacing_ns else t_ns, group.time_unit)
                content = put(content, parse_json_path(parse_payload_path(group.time)), stamp)
        if group.key is not None:
            content = put(content, parse_json_path(parse_payload_path(group.key)), number)
        return Message(group.topic, ENCODERS[group.payload](content), group.qos, tuple(names))

    def _sample(self, group: _Group, names: list[str], image: TypedImage, content: Any, t_ns: int) -> Any:
        for name in names:
            point, value = self.profile.points[name], image.wire(name)
            if value is None and (point.optional or self.profile.defaults.optional):
                continue
            content = put(content, parse_json_path(parse_payload_path(point.at)), value)
            unit_at = point.unit_at or self.profile.defaults.unit_at
            if unit_at is not None:
                content = put(content, parse_json_path(parse_payload_path(unit_at)), point.unit)
        if group.time is not None:
            content = put(content, parse_json_path(parse_payload_path(group.time)), _time(t_ns, group.time_unit))
        return content


def _fields(group: _Group) -> dict[str, Any]:
    return {name: getattr(group, name) for name in _Group.__slots__}


def _group(profile: FirmwareProfile, name: str, point: Point, root: str, device: str) -> _Group:
    defaults = profile.defaults
    known = {"root": root, "device": device, "point": name} | dict(point.where)
    topic = expand_topic(point.topic or defaults.topic or "", known)
    topic = "/".join("x" if level in {"+", "#"} else level for level in topic.split("/"))
    spacing = point.spacing if point.spacing is not None else defaults.spacing
    return _Group(
        topic,
        point.payload or defaults.payload,
        point.each or defaults.each,
        point.time or defaults.time,
        point.time_unit or defaults.time_unit,
        spacing or 0,
        point.key or defaults.key,
        defaults.qos if point.qos is None else point.qos,
    )


def put(content: Any, path: Steps, value: Any) -> Any:
    """The content with a value at a path; missing objects and lists are made."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        items = list(content) if isinstance(content, list) else []
        items += [None] * (step + 1 - len(items))
        items[step] = put(items[step], rest, value)
        return items
    table = dict(content) if isinstance(content, dict) else {}
    table[step] = put(table.get(step), rest, value)
    return table


def _time(t_ns: int, unit: str) -> Any:
    if unit == "iso8601":
        return (_EPOCH + timedelta(microseconds=t_ns // 1000)).isoformat().replace("+00:00", "Z")
    size_ns = _UNITS_NS[unit]
    return t_ns // size_ns if t_ns % size_ns == 0 else t_ns / size_ns


def _word(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def presence(said: Availability, root: str, device: str, *, online: bool) -> tuple[str, bytes]:
    """Topic and payload by which a device says whether it is there."""
    word = said.online if online else said.offline
    topic = expand_topic(said.topic, {"root": root, "device": device})
    path = parse_json_path(said.at)
    return topic, json.dumps(put({}, path, word)).encode() if path else word.encode()


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _msgpack(content: object) -> bytes:
    packed: bytes = msgpack.packb(content)
    return packed


def cbor(content: object) -> bytes:
    """CBOR (RFC 8949) of numbers, text, booleans, nothing, lists and tables."""
    if content is None or isinstance(content, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[content]
    if isinstance(content, int):
        return _head(0, content) if content >= 0 else _head(1, -1 - content)
    if isinstance(content, float):
        return b"\xfb" + struct.pack(">d", content)
    if isinstance(content, str):
        raw = content.encode()
        return _head(3, len(raw)) + raw
    if isinstance(content, list):
        return _head(4, len(content)) + b"".join(cbor(item) for item in content)
    if isinstance(content, dict):
        return _head(5, len(content)) + b"".join(cbor(k) + cbor(v) for k, v in content.items())
    raise TypeError(f"{type(content).__name__} has no place in a payload")


def _head(major: int, number: int) -> bytes:
    for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if number < 24:
            return bytes((major << 5 | number,))
        if number < 1 << (8 * size):
            return bytes((major << 5 | code,)) + number.to_bytes(size, "big")
    raise ValueError(f"{number} is too large for CBOR")


ENCODERS: Mapping[str, Callable[[object], bytes]] = {"json": _json, "cbor": cbor, "msgpack": _msgpack}
