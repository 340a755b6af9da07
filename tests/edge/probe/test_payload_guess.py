"""Formats of payloads that nobody declared, and the paths of their values."""

from __future__ import annotations

import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.payload_fields import follow
from twinedge.probe.payload_guess import flat, guess, time_fields
from twinmodel.clock import SECOND_NS
from twinmodel.profile.address import parse_json_path
from twinsync.v1.sparkplug_pb2 import SparkplugPayload

NOW_NS = 1_790_000_000 * SECOND_NS
READING = {"t": 1_790_000_000_000, "tank": {"level": 1.5, "valves": [True, False]}, "odd key": 3}


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (json.dumps(READING).encode(), "json"),
        (msgpack.packb(READING), "msgpack"),
        (bytes.fromhex("a26174191388656c6576656cfb3ff8000000000000"), "cbor"),
        (b"21.5", "number"),
        (b" -3e2\n", "number"),
        (b"online", "text"),
        (b"", "empty"),
        (b"\xff\xfe\xfd", "binary"),
        (b'"quoted"', "json"),
    ],
)
def test_a_format_is_told_from_the_bytes(payload, kind):
    assert guess("a/b", payload, len(payload)).kind == kind


def test_a_payload_that_was_cut_off_is_only_called_large():
    assert guess("a", b"{", 1 << 20).kind == "large"


def test_paths_are_those_a_profile_writes():
    found = flat(READING)
    assert found["$.tank.valves[1]"] is False
    assert found["$['odd key']"] == 3
    for path, value in found.items():
        assert follow(READING, parse_json_path(path)) == value


def test_a_time_is_known_by_its_name_and_size():
    fields = {"$.n": 7, "$.made": 1_790_000_000, "$.t": 1_790_000_000_000, "$.at": "2026-09-01T10:00:00+00:00"}
    assert list(time_fields(fields, NOW_NS).items())[:2] == [("$.t", "ms"), ("$.at", "iso8601")]
    assert time_fields({"$.x": 5, "$.when": "2026-09-01"}, NOW_NS) == {}


def test_sparkplug_metrics_come_with_their_types():
    payload = SparkplugPayload(timestamp=1)
    payload.metrics.add(name=b"Level", datatype=10, double_value=1.5)
    payload.metrics.add(name=b"Away", datatype=9, is_null=True)
    raw = payload.SerializeToString()
    found = guess("spBv1.0/plant/NBIRTH/node", raw, len(raw))
    assert (found.kind, dict(found.fields)) == ("sparkplug", {"Level": 1.5, "Away": None})
    assert found.types["Level"] == "Double"


@given(st.binary(max_size=200), st.sampled_from(["a/b", "spBv1.0/g/NDATA/n"]))
def test_any_bytes_are_something_and_nothing_is_raised(payload, topic):
    found = guess(topic, payload, len(payload))
    assert found.kind
    json.dumps(dict(found.fields), default=str)
