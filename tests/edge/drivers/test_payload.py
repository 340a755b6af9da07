"""Payloads and messages in flight, without a broker."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.inflight import InFlight, message_key
from twinedge.drivers.payload import PAYLOAD_MAX, Field, PayloadError, parse_payload, read_time_ns, read_value
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.quality import GOOD, QualityReason, bad
from twinmodel.signal import Kind, Signal


def field(point=None, kind=Kind.FLOAT, **defaults):
    point = {"at": "$.v", "topic": "t"} | (point or {})
    profile = FirmwareProfile.model_validate(
        {"profile": "a/b", "protocol": "mqtt", "defaults": defaults, "points": {"v": point}}
    )
    return Field.of(profile, profile.points["v"], Signal(0, "d.v", kind))


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_payload_is_read_or_refused(payload):
    try:
        content = parse_payload(payload)
    except PayloadError:
        return
    for kind in Kind:
        one = field(kind=kind)
        assert read_time_ns(content, one) is None
        try:
            value, quality = read_value(content, one)
        except PayloadError:
            continue
        assert quality in {GOOD, bad(QualityReason.ABSENT)}
        assert quality or not (isinstance(value, float) and math.isnan(value))


@pytest.mark.parametrize("payload", [b"[" * 100_000, b"9" * 5000, b"1" + b" " * PAYLOAD_MAX, b'"\xff"', b"{'a': 1}"])
def test_hostile_payloads_are_refused(payload):
    with pytest.raises(PayloadError):
        parse_payload(payload)


@pytest.mark.parametrize(
    ("raw", "unit", "expected"),
    [
        (1_700_000_000_123, "ms", 1_700_000_000_123_000_000),
        (1_700_000_000.123456, "s", 1_700_000_000_123_456_000),
        (1_700_000_000_123_456_789, "ns", 1_700_000_000_123_456_789),
        ("2023-11-14T22:13:20.5Z", "ms", 1_700_000_000_500_000_000),
        ("2023-11-14T23:13:20+01:00", "ms", 1_700_000_000_000_000_000),
        ("2023-11-14T22:13:20", "ms", None),
        ("soon", "ms", None),
        (-1, "ms", None),
        (1e300, "s", None),
        (True, "ms", None),
        (None, "ms", None),
    ],
)
def test_time_of_the_payload_is_exact_or_none(raw, unit, expected):
    found = read_time_ns({"t": raw}, field(time="$.t", time_unit=unit))
    assert found == expected or abs(found - expected) < 1000


def test_absent_markers_and_null_are_absent():
    assert read_value({"v": -999}, field({"absent": -999}))[1] == bad(QualityReason.ABSENT)
    assert read_value({"v": None}, field())[1] == bad(QualityReason.ABSENT)
    assert read_value(json.loads('{"v": NaN}'), field())[1] == bad(QualityReason.ABSENT)


def test_scale_applies_exactly():
    assert read_value({"v": 65496}, field({"scale": 0.1})) == (6549.6, GOOD)


async def test_acknowledgement_follows_the_commit_and_never_crosses_connections():
    acked = []
    flight = InFlight()
    flight.connected(lambda mid, qos: acked.append(("first", mid)))
    one, two = flight.add("a", 1, 1), flight.add("b", 2, 1)
    flight.committed([one])
    assert acked == [("first", 1)]
    flight.disconnected()
    flight.committed([two])
    assert flight.pending == 0
    flight.connected(lambda mid, qos: acked.append(("second", mid)))
    assert flight.is_duplicate("b", 7, 1)
    assert acked == [("first", 1), ("second", 7)]
    assert not flight.is_duplicate("c", 8, 1)
    await flight.settled()


async def test_every_copy_of_a_message_under_way_is_acknowledged_after_its_one_commit():
    acked = []
    flight = InFlight()
    flight.connected(lambda mid, qos: acked.append(mid))
    entry = flight.add("a", 1, 1)
    assert flight.is_duplicate("a", 2, 1)
    assert acked == []
    flight.committed([entry])
    assert acked == [1, 2]
    assert flight.is_duplicate("a", 3, 1)
    assert acked == [1, 2, 3]


async def test_memory_of_messages_is_bounded():
    flight = InFlight(memory_max=10)
    for n in range(100):
        flight.committed([flight.add(n, n, 1)])
    assert not flight.is_duplicate(0, 0, 1)
    assert flight.is_duplicate(99, 99, 1)


def test_equal_payloads_without_time_are_told_apart_by_their_id():
    assert message_key("t", b"1", 1, has_time=False) != message_key("t", b"1", 2, has_time=False)
    assert message_key("t", b"1", 1, has_time=True) == message_key("t", b"1", 2, has_time=True)
