"""Values of Sparkplug metrics: every scalar type in every field a sender may choose, and what is none of its type."""

from __future__ import annotations

import pytest

from tests.edge.drivers.sparkplug_node import T0_MS, TYPES
from twinedge.drivers.payload import PayloadError
from twinedge.drivers.sparkplug_metric import raw_value
from twinsync.v1.sparkplug_pb2 import SparkplugPayload


@pytest.mark.parametrize(
    ("datatype", "field", "wire", "expected"),
    [
        ("Int32", "int_value", 0xFFFFFFFF, -1),
        ("Int32", "int_value", 0x80000000, -(2**31)),
        ("Int32", "int_value", 5, 5),
        ("Int16", "int_value", 0xFFFE, -2),
        ("Int16", "int_value", 0xFFFFFFFE, -2),
        ("Int8", "int_value", 0x80, -128),
        ("Int8", "int_value", 0xFFFFFF80, -128),
        ("Int64", "long_value", 2**64 - 3, -3),
        ("Int32", "long_value", 2**64 - 3, -3),
        ("UInt8", "int_value", 255, 255),
        ("UInt16", "int_value", 65535, 65535),
        ("UInt32", "int_value", 2**32 - 1, 2**32 - 1),
        ("UInt32", "long_value", 2**32 - 1, 2**32 - 1),
        ("UInt64", "long_value", 2**64 - 1, 2**64 - 1),
        ("DateTime", "long_value", T0_MS, T0_MS),
        ("Float", "float_value", 0.5, 0.5),
        ("Double", "double_value", 0.1, 0.1),
        ("Boolean", "boolean_value", True, True),
        ("String", "string_value", b"on", "on"),
        ("Text", "string_value", "grün".encode(), "grün"),
        ("UUID", "string_value", b"a-b", "a-b"),
    ],
)
def test_every_scalar_type_is_read(datatype, field, wire, expected):
    metric = SparkplugPayload().metrics.add(**{field: wire})
    assert raw_value(metric, TYPES[datatype]) == expected


@pytest.mark.parametrize(
    ("datatype", "field", "wire"),
    [
        ("Int8", "int_value", 300),
        ("Int8", "int_value", 200 + 256),
        ("UInt8", "int_value", 256),
        ("UInt16", "int_value", 2**32 - 1),
        ("Int32", "double_value", 1.0),
        ("Double", "int_value", 1),
        ("Boolean", "int_value", 1),
        ("String", "string_value", b"\xff\xfe"),
        ("String", "int_value", 5),
    ],
)
def test_value_that_is_none_of_its_type_is_refused(datatype, field, wire):
    metric = SparkplugPayload().metrics.add(**{field: wire})
    with pytest.raises(PayloadError):
        raw_value(metric, TYPES[datatype])
