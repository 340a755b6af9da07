"""Status codes and time stamps of OPC UA, one by one."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua

from twinedge.drivers.link import Columns, DeviceLink
from twinedge.drivers.opcua import _add
from twinedge.drivers.opcua_items import items_of
from twinedge.drivers.opcua_values import CLOCK, DOUBTED, EPOCH, event_time, overflowed, quality_of, to_ns
from twinmodel.quality import GOOD, QualityReason, bad, good, uncertain

ARRIVAL = 1_750_000_000 * 10**9
NOW = EPOCH + timedelta(seconds=1_750_000_000)
OVERFLOW = 0x480


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, GOOD),
        (ua.StatusCodes.GoodLocalOverride, good(QualityReason.SUBSTITUTED)),
        (ua.StatusCodes.UncertainSubNormal, uncertain(QualityReason.DEVICE_FAULT)),
        (ua.StatusCodes.UncertainEngineeringUnitsExceeded, uncertain(QualityReason.OUT_OF_RANGE)),
        (ua.StatusCodes.UncertainInitialValue, uncertain(QualityReason.SUBSTITUTED)),
        (ua.StatusCodes.UncertainNoCommunicationLastUsableValue, uncertain(QualityReason.STALE)),
        (ua.StatusCodes.Uncertain, uncertain(QualityReason.NONE)),
        (ua.StatusCodes.BadNoCommunication, bad(QualityReason.NOT_CONNECTED)),
        (ua.StatusCodes.BadDeviceFailure, bad(QualityReason.DEVICE_FAULT)),
        (ua.StatusCodes.BadTimeout, bad(QualityReason.NOT_CONNECTED)),
        (ua.StatusCodes.BadNoData, bad(QualityReason.ABSENT)),
        (ua.StatusCodes.Bad, bad(QualityReason.DEVICE_FAULT)),
        (0xC0000000, bad(QualityReason.DEVICE_FAULT)),
    ],
)
def test_status_becomes_quality_of_the_same_class(status, expected):
    assert quality_of(status) == expected
    assert quality_of(status | OVERFLOW) == expected


def test_time_is_the_sources_else_the_servers_else_the_arrival():
    old, zero = datetime(1980, 1, 1, tzinfo=UTC), datetime(1601, 1, 1, tzinfo=UTC)
    assert event_time(NOW, None, ARRIVAL) == (ARRIVAL, GOOD)
    assert event_time(NOW.replace(tzinfo=None), None, ARRIVAL) == (ARRIVAL, GOOD)
    assert event_time(None, NOW, ARRIVAL + 5) == (ARRIVAL, GOOD)
    assert event_time(old, NOW, ARRIVAL + 5) == (ARRIVAL, CLOCK)
    assert event_time(zero, None, ARRIVAL) == (ARRIVAL, CLOCK)
    assert event_time(None, None, ARRIVAL) == (ARRIVAL, CLOCK)
    assert event_time(NOW + timedelta(hours=1), None, ARRIVAL) == (ARRIVAL, CLOCK)


def test_microseconds_survive():
    assert to_ns(NOW + timedelta(microseconds=123456)) == ARRIVAL + 123_456_000


@pytest.fixture
def item(assign, clock):
    profile = {"namespace": "urn:x", "points": {"flow": {"at": "Flow", "as": "float64"}}}
    assignments, _ = assign(("p", {"opcua": "opc.tcp://h:4840", "root": "A/B"}, profile))
    return items_of([DeviceLink(assignments[0], clock)])[0]


def test_overflow_doubts_the_value_and_declares_the_hole_before_it(item):
    columns = Columns()
    first = ua.DataValue(ua.Variant(1.0), SourceTimestamp=NOW)
    later = NOW + timedelta(seconds=5)
    second = ua.DataValue(ua.Variant(2.0), ua.StatusCode(OVERFLOW), SourceTimestamp=later)
    assert overflowed(OVERFLOW)
    assert not overflowed(ua.StatusCodes.BadDeviceFailure)
    assert _add(item, first, ARRIVAL, columns) is None
    hole = _add(item, second, ARRIVAL + 5 * 10**9, columns)
    assert (hole.device, hole.from_ns, hole.to_ns) == ("p", ARRIVAL, ARRIVAL + 5 * 10**9)
    (batch,) = columns.batches()
    assert batch.quality.tolist() == [GOOD, DOUBTED]


def test_bad_status_without_value_keeps_its_own_reason(item):
    columns = Columns()
    status = ua.StatusCode(ua.StatusCodes.BadNoCommunication)
    _add(item, ua.DataValue(ua.Variant(None), status, SourceTimestamp=NOW), ARRIVAL, columns)
    (batch,) = columns.batches()
    assert math.isnan(batch.value[0])
    assert batch.quality.tolist() == [bad(QualityReason.NOT_CONNECTED)]


def test_paths_run_from_the_root_to_the_point(item):
    assert item.path == ("A", "B", "Flow")
