"""Payloads and their points, without a broker."""

from __future__ import annotations

import json
import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.payload import PAYLOAD_MAX, PayloadError, parser
from twinedge.drivers.payload_cbor import CborError, read_cbor
from twinedge.drivers.payload_fields import SAMPLES_MAX, Field, Shape, samples_of, time_reader
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.quality import GOOD, QualityReason, bad
from twinmodel.signal import Kind, Signal

ABSENT = bad(QualityReason.ABSENT)
FORMATS = ("json", "cbor", "msgpack", "raw")


def profile_of(point=None, **defaults):
    point = {"at": "$.v", "topic": "t"} | (point or {})
    return FirmwareProfile.model_validate(
        {"profile": "a/b", "protocol": "mqtt", "defaults": defaults, "points": {"v": point}}
    )


def field(point=None, kind=Kind.FLOAT, **defaults):
    profile = profile_of(point, **defaults)
    return Field(profile, profile.points["v"], Signal(0, "d.v", kind))


def time_of(content, **defaults):
    profile = profile_of(**defaults)
    return time_reader(Shape.of(profile, profile.points["v"]))(content)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
hostile = (
    st.binary(max_size=80)
    | st.text(max_size=60).map(str.encode)
    | plain.map(msgpack.packb)
    | plain.map(lambda x: json.dumps({"v": x}).encode())
)


@given(st.sampled_from(FORMATS), hostile, st.sampled_from(["$.v", "$", "$[0]", "$.v.v[1]"]))
def test_any_payload_of_any_format_is_read_or_refused(name, payload, at):
    try:
        content = parser(name)(payload)
    except PayloadError:
        return
    found = time_of(content, time="$.v")
    assert found is None or found > 0
    for kind in Kind:
        try:
            value, quality = field({"at": at}, kind, payload=name).read(content)
        except PayloadError:
            continue
        assert quality in {GOOD, ABSENT}
        assert quality or not (isinstance(value, float) and math.isnan(value))


@given(st.binary(max_size=200))
def test_any_bytes_are_cbor_or_refused(payload):
    try:
        read_cbor(payload)
    except CborError:
        return


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("json", b"[" * 100_000, "VALUE_INVALID"),
        ("json", b"9" * 5000, "VALUE_INVALID"),
        ("json", b"1" + b" " * PAYLOAD_MAX, "LIMIT_EXCEEDED"),
        ("json", b'"\xff"', "VALUE_INVALID"),
        ("json", b"{'a': 1}", "VALUE_INVALID"),
        ("cbor", b"\x81" * 100_000, "VALUE_INVALID"),
        ("cbor", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "VALUE_INVALID"),
        ("cbor", b"\x62\xff\xfe", "VALUE_INVALID"),
        ("cbor", b"", "VALUE_INVALID"),
        ("msgpack", b"\x91" * 100_000, "VALUE_INVALID"),
        ("msgpack", b"\xdd\xff\xff\xff\xff", "VALUE_INVALID"),
        ("msgpack", b"\xa2\xff\xfe", "VALUE_INVALID"),
        ("msgpack", b"\x81\x90\x01", "VALUE_INVALID"),
        ("msgpack", b"\x01\x02", "VALUE_INVALID"),
        ("raw", b"\xff\xfe", "VALUE_INVALID"),
        ("raw", b"", "VALUE_INVALID"),
    ],
)
def test_hostile_payloads_are_refused_with_a_reason(name, payload, reason):
    with pytest.raises(PayloadError) as refused:
        parser(name)(payload)
    assert refused.value.reason == reason
    assert refused.value.hint


# Diagnostic examples of RFC 8949, appendix A.
@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("1903e8", 1000),
        ("1bffffffffffffffff", 18446744073709551615),
        ("c249010000000000000000", 18446744073709551616),
        ("3bffffffffffffffff", -18446744073709551616),
        ("3903e7", -1000),
        ("f93c00", 1.0),
        ("f90001", 5.960464477539063e-8),
        ("fa47c35000", 100000.0),
        ("fb3ff199999999999a", 1.1),
        ("f97c00", math.inf),
        ("f5", True),
        ("f6", None),
        ("f7", None),
        ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
        ("c11a514b67b0", msgpack.Timestamp(1363896240, 0)),
        ("c1fb41d452d9ec200000", msgpack.Timestamp(1363896240, 500_000_000)),
        ("4401020304", b"\x01\x02\x03\x04"),
        ("6449455446", "IETF"),
        ("83010203", [1, 2, 3]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\x01\x02\x03\x04\x05"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
    ],
)
def test_examples_of_the_cbor_standard_are_read(payload, expected):
    assert read_cbor(bytes.fromhex(payload)) == expected


@pytest.mark.parametrize(
    ("raw", "unit", "expected"),
    [
        (1_700_000_000_123, "ms", 1_700_000_000_123_000_000),
        (1_700_000_000.123456, "s", 1_700_000_000_123_456_000),
        (1_700_000_000_123_456_789, "ns", 1_700_000_000_123_456_789),
        ("2023-11-14T22:13:20.5Z", "ms", 1_700_000_000_500_000_000),
        ("2023-11-14T23:13:20+01:00", "iso8601", 1_700_000_000_000_000_000),
        (msgpack.Timestamp(1_700_000_000, 5), "iso8601", 1_700_000_000_000_000_005),
        (1_700_000_000, "iso8601", None),
        ("2023-11-14T22:13:20", "ms", None),
        ("9999-12-31T23:59:59+00:00", "ms", None),
        ("0001-01-01T00:00:00+23:59", "ms", None),
        ("soon", "ms", None),
        (-1, "ms", None),
        (3_600_000, "ms", None),
        (1e300, "s", None),
        (True, "ms", None),
        (None, "ms", None),
    ],
)
def test_time_of_the_payload_is_exact_or_none(raw, unit, expected):
    found = time_of({"t": raw}, time="$.t", time_unit=unit)
    assert found == expected or abs(found - expected) < 1000


def test_absent_markers_and_null_are_absent():
    assert field({"absent": -999}).read({"v": -999})[1] == ABSENT
    assert field().read({"v": None})[1] == ABSENT
    assert field().read(json.loads('{"v": NaN}'))[1] == ABSENT


def test_scale_applies_exactly():
    assert field({"scale": 0.1}).read({"v": 65496}) == (6549.6, GOOD)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (b" 42\n", Kind.FLOAT, 42.0),
        (b"-1.5e1\0", Kind.FLOAT, -15.0),
        (b"007", Kind.STRING, "007"),
        (b"42", Kind.STRING, "42"),
        (b"Off", Kind.BOOL, False),
        (b"1", Kind.BOOL, True),
    ],
)
def test_raw_text_is_read_as_the_points_kind(text, kind, expected):
    assert field({"at": "$"}, kind, payload="raw").read(parser("raw")(text)) == (expected, GOOD)


@pytest.mark.parametrize("text", [b"1_000", b"1,5", b"0x10", b"open", b"9" * 5000])
def test_raw_text_that_is_no_number_is_refused(text):
    with pytest.raises(PayloadError):
        field({"at": "$"}, payload="raw").read(parser("raw")(text))


def test_units_in_the_payload_are_converted_or_refused():
    read = field({"unit": "degC", "unit_at": "$.u"}).read
    assert read({"v": 20, "u": "degC"}) == (20.0, GOOD)
    assert read({"v": 293.15, "u": "K"}) == (pytest.approx(20.0), GOOD)
    for unit in ("m", "furlongs", 7, "x" * 1000):
        with pytest.raises(PayloadError):
            read({"v": 20.0, "u": unit})
    for n in range(200):
        with pytest.raises(PayloadError):
            read({"v": 20.0, "u": f"foreign{n}"})


def test_lists_of_samples_are_bounded():
    profile = profile_of(each="$.s", time="$.t")
    shape = Shape.of(profile, profile.points["v"])
    assert samples_of({"s": [{"v": 1}]}, shape) == [{"v": 1}]
    for content in ({}, {"s": 5}, {"s": [0] * (SAMPLES_MAX + 1)}):
        with pytest.raises(PayloadError):
            samples_of(content, shape)
