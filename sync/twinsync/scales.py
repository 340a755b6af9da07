"""What a catalogue says about the numbers of its signals, as arrays that the block codec indexes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import Catalogue, Signal
from twinsync.columns import I64

# Powers of ten up to here are exact as floats.
_EXPONENT_MAX = 22
_STEP_MAX = 2**32
_INT64_MAX = 2**63 - 1
_MEMO_MAX = 32


@dataclass(frozen=True, slots=True)
class Scales:
    """One row per signal.

    Attributes:
        kind: `Kind` of its values.
        period_ns: nominal distance of its samples.
        units: integer units per 1.0, with the rounding of one multiplication.
        up, down: an integer k means the float `k * up / down`; one of the two is exact by construction.
    """

    kind: NDArray[np.uint8]
    period_ns: I64
    units: NDArray[np.float64]
    up: NDArray[np.float64]
    down: NDArray[np.float64]


_memo: dict[bytes, Scales] = {}


def scales_of(catalogue: Catalogue) -> Scales:
    """The scales of a catalogue, remembered by its digest for the few catalogues in use."""
    found = _memo.get(catalogue.digest)
    if found is None:
        found = _scales(catalogue.signals)
        while len(_memo) >= _MEMO_MAX:
            _memo.pop(next(iter(_memo)), None)
        _memo[catalogue.digest] = found
    return found


def _scales(signals: tuple[Signal, ...]) -> Scales:
    rows = [_row(signal) for signal in signals]
    units, up, down = np.array(rows, np.float64).reshape(len(rows), 3).T.copy()
    return Scales(
        np.array([s.kind for s in signals], np.uint8),
        np.array([s.period_ns if 0 <= s.period_ns <= _INT64_MAX else 0 for s in signals], np.int64),
        units,
        up,
        down,
    )


def _row(signal: Signal) -> tuple[float, float, float]:
    if abs(signal.exponent) > _EXPONENT_MAX or not 1 <= signal.step < _STEP_MAX:
        # No integer form: every value but 0 travels as it is.
        return 0.0, 1.0, 1.0
    if signal.exponent >= 0:
        return 10.0**signal.exponent / signal.step, float(signal.step), 10.0**signal.exponent
    return 1.0 / (signal.step * 10.0**-signal.exponent), signal.step * 10.0**-signal.exponent, 1.0
