"""Sparkplug B metrics to values: data types, two's complements, absent values and what is refused.

Source: Sparkplug 3.0 specification, clauses 6.4.6 (metrics) and 6.4.16 (data types).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from twinedge.drivers.decode import DECODE, Converter, Decoded, converter, typed_value
from twinedge.drivers.payload import PayloadError
from twinmodel.profile.schema import Point
from twinmodel.quality import GOOD, QualityReason, bad
from twinmodel.signal import Signal
from twinsync.v1.sparkplug_pb2 import SparkplugMetric, SparkplugPayload

PAYLOAD_MAX: Final = 4 << 20
METRICS_MAX: Final = 50_000
NAME_BYTES_MAX: Final = 1024
# bits and sign of the integers
_INTEGERS: Final[Mapping[int, tuple[int, bool]]] = {
    1: (8, True),
    2: (16, True),
    3: (32, True),
    4: (64, True),
    5: (8, False),
    6: (16, False),
    7: (32, False),
    8: (64, False),
    13: (64, False),
}
_OTHERS: Final = {9: "float_value", 10: "double_value", 11: "boolean_value"}
_TEXTS: Final = frozenset({12, 14, 15})
_SCALARS: Final = (
    *("Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double"),
    *("Boolean", "String", "DateTime", "Text", "UUID"),
)
_REFUSED: Final = (
    *("DataSet", "Bytes", "File", "Template", "PropertySet", "PropertySetList", "Int8Array", "Int16Array"),
    *("Int32Array", "Int64Array", "UInt8Array", "UInt16Array", "UInt32Array", "UInt64Array", "FloatArray"),
    *("DoubleArray", "BooleanArray", "StringArray", "DateTimeArray"),
)
TYPE_NAMES: Final[Mapping[int, str]] = dict(enumerate(_SCALARS + _REFUSED))
BOOLEAN, INT64 = 11, 4
_QUALITY: Final = b"Quality"
_QUALITIES: Final = {192: GOOD, 0: bad(QualityReason.DEVICE_FAULT), 500: bad(QualityReason.STALE)}


def read_payload(raw: bytes, size: int) -> SparkplugPayload:
    """One message. Raises PayloadError when it is too large, no Sparkplug, or holds too many metrics."""
    if size > PAYLOAD_MAX:
        raise PayloadError(f"{size} bytes, at most {PAYLOAD_MAX}", "LIMIT_EXCEEDED")
    payload = SparkplugPayload()
    try:
        payload.ParseFromString(raw)
    except DecodeError as wrong:
        raise PayloadError("not Sparkplug B") from wrong
    if len(payload.metrics) > METRICS_MAX:
        raise PayloadError(f"{len(payload.metrics)} metrics, at most {METRICS_MAX}", "LIMIT_EXCEEDED")
    return payload


def name_of(metric: SparkplugMetric) -> str:
    """The name of a metric, "" for none. Raises PayloadError when it is no UTF-8 or too long."""
    if len(metric.name) > NAME_BYTES_MAX:
        raise PayloadError(f"a metric's name of {len(metric.name)} bytes", "LIMIT_EXCEEDED")
    try:
        return metric.name.decode()
    except UnicodeDecodeError as wrong:
        raise PayloadError(f"a metric's name is not UTF-8: {metric.name[:40]!r}") from wrong


@dataclass(frozen=True, slots=True)
class Binding:
    """The point that a metric feeds."""

    signal: Signal
    convert: Converter | None
    absent: object

    @staticmethod
    def of(point: Point, signal: Signal) -> Binding:
        """The binding of a point of a checked profile."""
        scale = point.scale if isinstance(point.scale, (int, float)) else None
        return Binding(signal, converter(scale, point.offset), point.absent)

    def read(self, metric: SparkplugMetric, datatype: int) -> Decoded:
        """Value and quality of a metric whose type its birth has told. Raises PayloadError for what is no value."""
        kind = self.signal.kind
        if metric.is_null:
            return typed_value(None, kind, None, None)
        value, quality = typed_value(raw_value(metric, datatype), kind, self.convert, self.absent)
        if quality == DECODE:
            raise PayloadError(f"a {type_name(datatype)} is no {kind.name.lower()}")
        if metric.HasField("properties") and quality == GOOD:
            quality = _quality_property(metric)
        return value, quality


def type_name(datatype: int) -> str:
    """Name of a data type's number."""
    return TYPE_NAMES.get(datatype, f"type {datatype}")


def carried(datatype: int) -> bool:
    """Whether values of a data type can be a signal's."""
    return datatype in _INTEGERS or datatype in _OTHERS or datatype in _TEXTS


def raw_value(metric: SparkplugMetric, datatype: int) -> object:
    """The value of a metric of this type. Raises PayloadError when the type is refused or the field another one's."""
    field = metric.WhichOneof("value")
    if field is None:
        raise PayloadError(f"no value and not null, a {type_name(datatype)}")
    if datatype in _INTEGERS and field in {"int_value", "long_value"}:
        return _integer(getattr(metric, field), datatype)
    if datatype in _TEXTS and field == "string_value":
        try:
            return metric.string_value.decode()
        except UnicodeDecodeError as wrong:
            raise PayloadError("text is not UTF-8") from wrong
    if _OTHERS.get(datatype) == field:
        value: object = getattr(metric, field)
        return value
    if not carried(datatype):
        raise PayloadError(f"a {type_name(datatype)} cannot be carried")
    raise PayloadError(f"a {type_name(datatype)} came as {field}")


def _integer(value: int, datatype: int) -> int:
    """An integer from its field: a negative one comes as two's complement, of its own width or of the field's."""
    bits, signed = _INTEGERS[datatype]
    if signed:
        for width in (bits, 32, 64):
            if width >= bits and (1 << width) - (1 << (bits - 1)) <= value < 1 << width:
                return value - (1 << width)
    if value >= 1 << (bits - signed):
        raise PayloadError(f"{value} is no {type_name(datatype)}")
    return value


def _quality_property(metric: SparkplugMetric) -> int:
    for key, value in zip(metric.properties.keys, metric.properties.values, strict=False):
        if key == _QUALITY:
            return _QUALITIES.get(value.int_value, GOOD)
    return GOOD
