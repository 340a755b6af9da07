"""A Sparkplug B edge node as its profile has it: births with names and aliases, data by alias, deaths.

Source: Sparkplug 3.0 specification, chapters 5 and 6.
"""

from __future__ import annotations

from collections.abc import Callable

from twinmodel.clock import MILLISECOND_NS
from twinmodel.errors import InputError
from twinmodel.profile.address import parse_type
from twinmodel.profile.schema import FirmwareProfile, Point
from twinsim.image.codec import Value
from twinsim.image.typed import TypedImage
from twinsync.v1.sparkplug_pb2 import SparkplugMetric, SparkplugPayload

BD_SEQ, REBIRTH = "bdSeq", "Node Control/Rebirth"
GROUP = "twinsim"
_WHOLE = {"int8": 1, "int16": 2, "int32": 3, "int64": 4, "uint8": 5, "uint16": 6, "uint32": 7, "uint64": 8}
_INT64, _FLOAT, _DOUBLE, _BOOLEAN, _STRING = 4, 9, 10, 11, 12


def datatype_of(point: Point) -> int:
    """Sparkplug's number of a point's type. Raises ValueError for one it has not."""
    text = point.as_ or "float64"
    if text == "string":
        return _STRING
    wire = parse_type(text)
    if wire.name in {"bit", "string"}:
        return _BOOLEAN if wire.name == "bit" else _STRING
    if wire.name == "float":
        return _FLOAT if wire.size == 32 else _DOUBLE
    if wire.name not in {"int", "uint"}:
        raise ValueError(f"Sparkplug has no {text}")
    return _WHOLE[f"{wire.name}{wire.size}"]


class Node:
    """Makes the messages of one edge node.

    Attributes:
        root: `GROUP/EDGE_NODE`, as site.yaml takes it.
        bd_seq: number of the session.
    """

    def __init__(self, profile: FirmwareProfile, name: str) -> None:
        """Plans the metrics. Raises InputError VALUE_INVALID for a type Sparkplug does not have."""
        self.root = f"{GROUP}/{name}"
        self.bd_seq = -1
        self._name = name
        self._seq = 0
        self._points: dict[str, tuple[str, int, int]] = {}
        for alias, (point_name, point) in enumerate(profile.points.items(), 1):
            try:
                self._points[point_name] = (point.at, datatype_of(point), alias)
            except ValueError as wrong:
                text = f"{profile.name} cannot be simulated: {point_name}: {wrong}"
                raise InputError("VALUE_INVALID", text, point=point_name) from None
        self._sent: dict[str, Value | None] = {}

    def topic(self, kind: str) -> str:
        """Topic of a message of the node."""
        return f"spBv1.0/{GROUP}/{kind}/{self._name}"

    def begin(self) -> bytes:
        """Begins a session and returns its Last Will, the NDEATH."""
        self.bd_seq = (self.bd_seq + 1) % 256
        return self.death()

    def death(self) -> bytes:
        """The NDEATH of this session; it has no sequence number."""
        payload = SparkplugPayload()
        _fill(payload.metrics.add(name=BD_SEQ.encode(), datatype=_INT64), _INT64, self.bd_seq)
        return payload.SerializeToString()

    def birth(self, image: TypedImage, t_ns: int) -> bytes:
        """The NBIRTH: every metric with name, alias, type and value."""
        self._seq = 0
        payload = self._payload(t_ns)
        names = {at for at, _, _ in self._points.values()}
        for name, datatype, value in ((BD_SEQ, _INT64, self.bd_seq), (REBIRTH, _BOOLEAN, False)):
            if name not in names:
                _fill(payload.metrics.add(name=name.encode(), datatype=datatype), datatype, value)
        self._sent = {}
        for point, (at, datatype, alias) in self._points.items():
            held = self._sent[point] = self._value(image, point, at)
            metric = payload.metrics.add(name=at.encode(), datatype=datatype, timestamp=t_ns // MILLISECOND_NS)
            if at != BD_SEQ:
                metric.alias = alias
            _fill(metric, datatype, held)
        return payload.SerializeToString()

    def data(self, image: TypedImage, t_ns: int) -> tuple[bytes, tuple[str, ...]]:
        """An NDATA with what has changed, by alias, and its points; no points when nothing has."""
        changed = [
            (point, datatype, alias, value)
            for point, (at, datatype, alias) in self._points.items()
            if at != BD_SEQ and (value := self._value(image, point, at)) != self._sent.get(point)
        ]
        if not changed:
            return b"", ()
        payload = self._payload(t_ns)
        for point, datatype, alias, value in changed:
            self._sent[point] = value
            _fill(payload.metrics.add(alias=alias, timestamp=t_ns // MILLISECOND_NS), datatype, value)
        return payload.SerializeToString(), tuple(point for point, *_ in changed)

    def command(self, raw: bytes, write: Callable[[str, Value], None]) -> bool:
        """Reads an NCMD: calls `write` with point and value of other metrics, and returns whether to be born anew."""
        payload, rebirth = SparkplugPayload(), False
        payload.ParseFromString(raw)
        by_name = {at.encode(): (p, alias) for p, (at, _, alias) in self._points.items()}
        by_alias = {alias: at for at, _, alias in self._points.values()}
        for metric in payload.metrics:
            name = metric.name or by_alias.get(metric.alias, "").encode()
            field = metric.WhichOneof("value")
            if name == REBIRTH.encode():
                rebirth |= metric.boolean_value
            elif name in by_name and field is not None:
                value = getattr(metric, field)
                write(by_name[name][0], value.decode(errors="replace") if isinstance(value, bytes) else value)
        return rebirth

    def _value(self, image: TypedImage, point: str, at: str) -> Value | None:
        return self.bd_seq if at == BD_SEQ else image.wire(point)

    def _payload(self, t_ns: int) -> SparkplugPayload:
        payload = SparkplugPayload(timestamp=t_ns // MILLISECOND_NS, seq=self._seq)
        self._seq = (self._seq + 1) % 256
        return payload


def _fill(metric: SparkplugMetric, datatype: int, value: Value | None) -> None:
    """Sets a value in the field of its type; negative integers go as two's complement."""
    if value is None:
        metric.is_null = True
    elif datatype == _BOOLEAN:
        metric.boolean_value = bool(value)
    elif datatype == _STRING:
        metric.string_value = str(value).encode()
    elif datatype == _FLOAT:
        metric.float_value = float(value)
    elif datatype == _DOUBLE:
        metric.double_value = float(value)
    elif datatype in {4, 8}:
        metric.long_value = int(value) & ((1 << 64) - 1)
    else:
        metric.int_value = int(value) & ((1 << 32) - 1)
