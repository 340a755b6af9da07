"""OPC UA data values to samples: status codes to quality, time stamps to event time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from twinmodel.clock import SECOND_NS
from twinmodel.quality import GOOD, QualityClass, QualityReason, quality, uncertain

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SANE_FROM_NS = 946_684_800 * SECOND_NS  # 2000-01-01: an unset clock of a device says 1601, 1970 or 1980
SANE_AHEAD_NS = 60 * SECOND_NS
CLOCK = uncertain(QualityReason.CLOCK)
DOUBTED = uncertain(QualityReason.NONE)
_OVERFLOW = 0x0480  # OPC UA Part 4, 7.39.1: InfoType DataValue with the Overflow bit
_R = QualityReason
# Part 4, 7.39.2 and Part 8, 6.3.2: the code without its flag bits.
REASONS: Mapping[int, QualityReason] = {
    0x8031: _R.NOT_CONNECTED,  # BadNoCommunication
    0x808A: _R.NOT_CONNECTED,  # BadNotConnected
    0x8005: _R.NOT_CONNECTED,  # BadCommunicationError
    0x800A: _R.NOT_CONNECTED,  # BadTimeout
    0x8032: _R.ABSENT,  # BadWaitingForInitialData
    0x809B: _R.ABSENT,  # BadNoData
    0x803C: _R.OUT_OF_RANGE,  # BadOutOfRange
    0x808B: _R.DEVICE_FAULT,  # BadDeviceFailure
    0x808C: _R.DEVICE_FAULT,  # BadSensorFailure
    0x408F: _R.STALE,  # UncertainNoCommunicationLastUsableValue
    0x4090: _R.STALE,  # UncertainLastUsableValue
    0x4091: _R.SUBSTITUTED,  # UncertainSubstituteValue
    0x4092: _R.SUBSTITUTED,  # UncertainInitialValue
    0x4093: _R.DEVICE_FAULT,  # UncertainSensorNotAccurate
    0x4094: _R.OUT_OF_RANGE,  # UncertainEngineeringUnitsExceeded
    0x4095: _R.DEVICE_FAULT,  # UncertainSubNormal
    0x0096: _R.SUBSTITUTED,  # GoodLocalOverride
}


def quality_of(status: int) -> int:
    """Quality of a status code; an unknown bad one is the device's fault, an unknown uncertain one has no reason."""
    klass = QualityClass(min(status >> 30, 2))
    reason = REASONS.get(status >> 16)
    if reason is None:
        reason = _R.DEVICE_FAULT if klass is QualityClass.BAD else _R.NONE
    return quality(klass, reason)


def overflowed(status: int) -> bool:
    """Whether the server's queue of the item overflowed: values before this one were lost."""
    return status & _OVERFLOW == _OVERFLOW


def to_ns(moment: datetime | None) -> int | None:
    """Nanoseconds UTC of a time stamp (without zone it is UTC); None when it is missing."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1) * 1000


def event_time(source: datetime | None, server: datetime | None, arrival_ns: int) -> tuple[int, int]:
    """Event time and what it does to quality: the source's stamp, else the server's, else the arrival with doubt."""
    for moment in (source, server):
        t_ns = to_ns(moment)
        if t_ns is not None and SANE_FROM_NS <= t_ns <= arrival_ns + SANE_AHEAD_NS:
            return t_ns, GOOD if moment is source or source is None else CLOCK
    return arrival_ns, CLOCK
