"""OPC UA status codes to quality, and its time stamps to nanoseconds; the tables that say what becomes what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import asyncua.ua
import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS
from twinmodel.quality import GOOD, QualityClass, QualityReason, quality, uncertain

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TICKS_TO_1970: Final = 116_444_736_000_000_000  # steps of 100 ns from 1601-01-01, Part 6, 5.2.2.5
CLOCK: Final = uncertain(QualityReason.CLOCK)
DOUBTED: Final = uncertain(QualityReason.NONE)
OVERFLOW: Final = 0x0480  # Part 4, 7.39.1: InfoType DataValue with the Overflow bit
_SPAN: Final = (1 << 63) // 100 - 1
TICKS_MIN, TICKS_MAX = TICKS_TO_1970 - _SPAN, TICKS_TO_1970 + _SPAN  # 1677 to 2262
_R = QualityReason
# Names of Part 4, 7.39.2 and Part 8, 6.3.2. The class (good, uncertain, bad) is that of the code itself.
REASONS: Final[Mapping[str, QualityReason]] = {
    "BadNoCommunication": _R.NOT_CONNECTED,
    "BadNotConnected": _R.NOT_CONNECTED,
    "BadCommunicationError": _R.NOT_CONNECTED,
    "BadConnectionClosed": _R.NOT_CONNECTED,
    "BadConnectionRejected": _R.NOT_CONNECTED,
    "BadDisconnect": _R.NOT_CONNECTED,
    "BadServerNotConnected": _R.NOT_CONNECTED,
    "BadServerHalted": _R.NOT_CONNECTED,
    "BadShutdown": _R.NOT_CONNECTED,
    "BadTimeout": _R.NOT_CONNECTED,
    "BadRequestTimeout": _R.NOT_CONNECTED,
    "BadWaitingForInitialData": _R.ABSENT,
    "BadWaitingForResponse": _R.ABSENT,
    "BadNoData": _R.ABSENT,
    "BadNoDataAvailable": _R.ABSENT,
    "BadDataLost": _R.ABSENT,
    "BadDataUnavailable": _R.ABSENT,
    "BadIndexRangeNoData": _R.ABSENT,
    "BadNoEntryExists": _R.ABSENT,
    "BadNotFound": _R.ABSENT,
    "BadStateNotActive": _R.ABSENT,
    "BadOutOfService": _R.STALE,
    "BadOutOfRange": _R.OUT_OF_RANGE,
    "BadDataEncodingInvalid": _R.DECODE,
    "BadDataEncodingUnsupported": _R.DECODE,
    "BadDecodingError": _R.DECODE,
    "BadEncodingError": _R.DECODE,
    "BadEncodingLimitsExceeded": _R.DECODE,
    "BadTypeMismatch": _R.DECODE,
    "BadIndexRangeInvalid": _R.DECODE,
    "BadAggregateInvalidInputs": _R.DECODE,
    "BadInvalidTimestamp": _R.CLOCK,
    "UncertainNoCommunicationLastUsableValue": _R.STALE,
    "UncertainLastUsableValue": _R.STALE,
    "UncertainSubstituteValue": _R.SUBSTITUTED,
    "UncertainInitialValue": _R.SUBSTITUTED,
    "UncertainSimulatedValue": _R.SUBSTITUTED,
    "UncertainTransducerInManual": _R.SUBSTITUTED,
    "UncertainSensorNotAccurate": _R.DEVICE_FAULT,
    "UncertainSensorCalibration": _R.DEVICE_FAULT,
    "UncertainConfigurationError": _R.DEVICE_FAULT,
    "UncertainSubNormal": _R.DEVICE_FAULT,
    "UncertainDataSubNormal": _R.DEVICE_FAULT,
    "UncertainEngineeringUnitsExceeded": _R.OUT_OF_RANGE,
    "UncertainOverRange": _R.OUT_OF_RANGE,
    "UncertainUnderRange": _R.OUT_OF_RANGE,
    "GoodLocalOverride": _R.SUBSTITUTED,
    "GoodEdited": _R.SUBSTITUTED,
    "GoodClamped": _R.OUT_OF_RANGE,
    "GoodEntryInserted": _R.BACKFILLED,
    "GoodEntryReplaced": _R.BACKFILLED,
}
_CODES: Final = {
    int(getattr(ua.StatusCodes, name)) >> 16: r for name, r in REASONS.items() if name in dir(ua.StatusCodes)
}


@lru_cache(maxsize=1024)
def quality_of(status: int) -> int:
    """Quality of a status code.

    A bad code that the table does not name is the device's fault (configuration, sensor, node, access); a good or
    uncertain one that it does not name has no reason.
    """
    klass = QualityClass(min(status >> 30, 2))
    reason = _CODES.get(status >> 16)
    if reason is None:
        reason = _R.DEVICE_FAULT if klass is QualityClass.BAD else _R.NONE
    return quality(klass, reason)


def overflowed(status: int) -> bool:
    """Whether the server's queue of the item overflowed: values before this one were lost."""
    return status & OVERFLOW == OVERFLOW


def ticks_to_ns(ticks: int) -> int:
    """Nanoseconds since 1970 of steps of 100 ns since 1601; what lies beyond 64 bits is cut to the nearest year."""
    return (min(max(ticks, TICKS_MIN), TICKS_MAX) - TICKS_TO_1970) * 100


def column_to_ns(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """`ticks_to_ns` of a column."""
    return (np.clip(ticks, TICKS_MIN, TICKS_MAX) - TICKS_TO_1970) * 100


def ticks_of(moment: datetime | None) -> int:
    """Steps of 100 ns since 1601 of a time stamp (without zone it is UTC); 0 when it is missing."""
    if moment is None:
        return 0
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1) * 10 + TICKS_TO_1970


def to_iso(t_ns: int) -> str:
    """RFC 3339 with nine digits."""
    seconds, rest = divmod(t_ns, SECOND_NS)
    return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def worst(*codes: int) -> int:
    """The first code of the worst class among some; a plain good one gives way to an annotated good one."""
    found = max(codes, key=lambda code: code >> 8)
    return found if found != GOOD else next((code for code in codes if code), GOOD)
