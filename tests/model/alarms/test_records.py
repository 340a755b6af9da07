"""Records of alarms: the same after the wire, tolerant of newer builds, unforgiving with what is none."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.alarms.records import (
    RECORD_CHARS_MAX,
    SEVERITIES,
    TEXT_CHARS_MAX,
    AlarmRecord,
    Priority,
    decode,
    encode,
    priority_of,
)
from twinmodel.alarms.states import State
from twinmodel.errors import InputError

RECORD = AlarmRecord(
    alarm="tank-high",
    rule="tank-high",
    source="press.level2",
    state=State.UNACK,
    active=True,
    acked=False,
    severity=700,
    priority=Priority.HIGH,
    text="level above 9.5 cm",
    value=9.7,
    limit=9.5,
    unit="cm",
    quality="good",
    cause="",
    count=1,
    by="",
    comment="",
    until_ns=0,
    occurrence=3,
    at_ns=1_700_000_000_000_000_000,
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def text(chars_max):
    return st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=chars_max)


RECORDS = st.builds(
    AlarmRecord,
    alarm=text(60).filter(bool),
    rule=text(60),
    source=text(60),
    state=st.sampled_from(State),
    active=st.booleans(),
    acked=st.booleans(),
    severity=st.integers(1, 1000),
    priority=st.sampled_from(Priority),
    text=text(TEXT_CHARS_MAX),
    value=st.one_of(st.none(), FINITE, st.booleans(), text(64)),
    limit=st.one_of(st.none(), FINITE),
    unit=text(64),
    quality=text(64),
    cause=text(60),
    count=st.integers(0, 2**64 - 1),
    by=text(60),
    comment=text(TEXT_CHARS_MAX),
    until_ns=st.integers(0, 2**63 - 1),
    occurrence=st.integers(0, 2**64 - 1),
    at_ns=st.integers(0, 2**63 - 1),
)


@given(RECORDS)
def test_record_comes_back_as_it_was(record):
    assert decode(encode(record)) == record


@given(RECORDS, st.text(max_size=900))
def test_whatever_people_write_gives_a_record_that_can_be_read(record, written):
    back = decode(encode(replace(record, comment=written, text=written)))
    assert len(back.comment) <= TEXT_CHARS_MAX
    assert back.comment.encode().isascii() or back.comment.encode()
    assert "\0" not in back.comment


@given(st.text(max_size=300))
def test_text_that_is_no_record_is_refused_with_a_reason(written):
    with pytest.raises(InputError, match="VALUE_INVALID"):
        decode(written)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9), st.lists, max_leaves=4
)


@given(st.fixed_dictionaries({"v": st.just(1)}, optional={f.name: JSON for f in fields(AlarmRecord)}))
def test_fields_of_any_type_are_read_or_refused(found):
    try:
        record = decode(json.dumps(found))
    except InputError:
        return
    assert decode(encode(record)) == record


def test_newer_version_is_read_as_far_as_it_is_known():
    newer = {**json.loads(encode(RECORD)), "v": 7, "colour": "red", "priority": "hair-raising"}
    assert decode(json.dumps(newer)) == replace(RECORD, priority=Priority.HIGH)


def test_what_is_not_said_has_its_default():
    record = decode('{"v":1,"alarm":"a","state":"NORM"}')
    assert (record.severity, record.priority, record.value, record.until_ns) == (1, Priority.LOW, None, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 0},
        {"v": True},
        {"alarm": ""},
        {"state": "LOUD"},
        {"active": 1},
        {"severity": 1001},
        {"value": 10**400},
        {"limit": "high"},
        {"value": math.inf},
        {"text": 4},
    ],
)
def test_field_that_cannot_be_is_refused(change):
    with pytest.raises(InputError, match="VALUE_INVALID"):
        decode(json.dumps({**json.loads(encode(RECORD)), **change}))


def test_depth_and_length_are_bounded():
    for long in ("[" * RECORD_CHARS_MAX, " " * (RECORD_CHARS_MAX + 1)):
        with pytest.raises(InputError, match="VALUE_INVALID"):
            decode(long)


def test_number_that_is_none_becomes_nothing():
    assert decode(encode(replace(RECORD, value=math.nan, limit=math.inf))) == replace(RECORD, value=None, limit=None)


def test_severity_of_a_priority_lies_in_its_band():
    assert {priority_of(severity): severity for severity in SEVERITIES.values()} == SEVERITIES
