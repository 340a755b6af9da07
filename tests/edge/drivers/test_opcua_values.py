"""Status codes and time stamps of OPC UA, one by one."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.opcua_values import (
    EPOCH,
    REASONS,
    column_to_ns,
    overflowed,
    quality_of,
    ticks_of,
    ticks_to_ns,
    to_iso,
    worst,
)
from twinmodel.quality import GOOD, QualityClass, QualityReason, bad, class_of, good, uncertain

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


@pytest.mark.parametrize("name", REASONS)
def test_every_status_of_the_table_exists_and_keeps_its_class(name):
    code = getattr(ua.StatusCodes, name)
    klass = {"G": QualityClass.GOOD, "U": QualityClass.UNCERTAIN, "B": QualityClass.BAD}[name[0]]
    assert class_of(quality_of(code)) is klass
    assert quality_of(code) & 0xFF == REASONS[name]


@given(st.integers(0, 0xFFFFFFFF))
def test_any_status_has_a_quality_of_its_class(status):
    assert class_of(quality_of(status)) == min(status >> 30, 2)


def test_overflow_needs_its_bit_and_the_info_type_of_data_values():
    assert overflowed(OVERFLOW)
    assert not overflowed(0x80)
    assert not overflowed(ua.StatusCodes.BadDeviceFailure)


def test_microseconds_survive_and_a_missing_stamp_is_zero():
    moment = EPOCH + timedelta(seconds=1_750_000_000, microseconds=123_456)
    assert ticks_to_ns(ticks_of(moment)) == 1_750_000_000_123_456_000
    assert ticks_of(moment.replace(tzinfo=None)) == ticks_of(moment)
    assert ticks_of(None) == 0


def test_time_as_text_has_nine_digits():
    assert to_iso(1_750_000_000_000_000_001) == "2025-06-15T15:06:40.000000001Z"
    assert to_iso(-1) == "1969-12-31T23:59:59.999999999Z"


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_no_stamp_overflows_and_columns_agree_with_single_ones(ticks):
    found = column_to_ns(np.array([ticks], np.int64))[0]
    assert -(1 << 63) <= ticks_to_ns(ticks) < 1 << 63
    assert found == ticks_to_ns(ticks)


def test_worst_keeps_the_first_of_the_worst_class_and_annotations_of_good():
    assert worst(GOOD, good(QualityReason.SUBSTITUTED)) == good(QualityReason.SUBSTITUTED)
    assert worst(bad(QualityReason.STALE), bad(QualityReason.DECODE)) == bad(QualityReason.STALE)
    assert worst(GOOD, uncertain(QualityReason.CLOCK), bad(QualityReason.ABSENT)) == bad(QualityReason.ABSENT)
