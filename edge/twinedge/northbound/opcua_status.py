"""Quality as OPC UA status codes, such that our own driver reads the same quality back wherever OPC UA has a code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncua.ua
import numpy as np
from numpy.typing import NDArray

from twinmodel.quality import QualityClass, QualityReason, class_of

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

_R = QualityReason
_PLAIN: Final = {QualityClass.GOOD: "Good", QualityClass.UNCERTAIN: "Uncertain", QualityClass.BAD: "BadDeviceFailure"}
# Part 4, 7.39.2 and Part 8, 6.3.2. OPC UA has no codes for frozen, jumping or settling values: the property `Quality`
# of each node tells the reason in our words.
_GOOD: Final[Mapping[QualityReason, str]] = {
    _R.OUT_OF_RANGE: "GoodClamped",
    _R.SUBSTITUTED: "GoodLocalOverride",
    _R.BACKFILLED: "GoodEntryInserted",
}
_UNCERTAIN: Final[Mapping[QualityReason, str]] = {
    _R.OUT_OF_RANGE: "UncertainEngineeringUnitsExceeded",
    _R.RATE: "UncertainSensorNotAccurate",
    _R.FROZEN: "UncertainSensorNotAccurate",
    _R.SPIKE: "UncertainSensorNotAccurate",
    _R.STALE: "UncertainLastUsableValue",
    _R.DEVICE_FAULT: "UncertainSensorNotAccurate",
    _R.SUBSTITUTED: "UncertainSubstituteValue",
    _R.REGIME: "UncertainSubNormal",
}
_BAD: Final[Mapping[QualityReason, str]] = {
    _R.NONE: "Bad",
    _R.OUT_OF_RANGE: "BadOutOfRange",
    _R.RATE: "BadSensorFailure",
    _R.FROZEN: "BadSensorFailure",
    _R.SPIKE: "BadSensorFailure",
    _R.STALE: "BadOutOfService",
    _R.ABSENT: "BadNoData",
    _R.NOT_CONNECTED: "BadNoCommunication",
    _R.DEVICE_FAULT: "BadDeviceFailure",
    _R.CLOCK: "BadInvalidTimestamp",
    _R.DECODE: "BadDecodingError",
}
_NAMES: Final = {QualityClass.GOOD: _GOOD, QualityClass.UNCERTAIN: _UNCERTAIN, QualityClass.BAD: _BAD}


def _status(code: int) -> int:
    klass, reason = class_of(code), code & 0xFF
    known = _R(reason) if reason in _R._value2member_map_ else _R.NONE
    return int(getattr(ua.StatusCodes, _NAMES[klass].get(known, _PLAIN[klass])))


STATUS: Final[NDArray[np.uint32]] = np.array([_status(code) for code in range(3 << 8)], np.uint32)
"""Status code by quality code."""
WAITING: Final = int(ua.StatusCodes.BadWaitingForInitialData)
"""Status of a signal that has not had a sample since the start."""


def status_of(quality: NDArray[np.uint16], t_ns: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Status codes of samples; a time of 0 says that there was none yet."""
    found: NDArray[np.uint32] = STATUS[np.minimum(quality, len(STATUS) - 1)]
    return np.where(t_ns == 0, np.uint32(WAITING), found)
