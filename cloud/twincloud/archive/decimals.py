"""Floats as integers over a divisor, where that gives back every bit.

A sensor with two decimals gives 21.37: the integer 2137 over 100. Integers in sequence differ by little, which a
delta code packs to a few bits; the double 21.37 has no short form. `scaled / divisor`, one division of IEEE 754,
rounds to the very double a decimal reads as, so the pair is exact wherever it is used.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

DIGITS_MAX = 12
_SCALED_MAX = float(1 << 52)
_TRIED = 512
_ENOUGH = 0.5
"""At least so much of a run must lie on the grid; what does not is kept as it is."""


def on_grid(value: NDArray[np.float64]) -> tuple[NDArray[np.int64], int, NDArray[np.bool_]]:
    """The grid of a run: integers, their divisor, and where `scaled / divisor` is the value to the bit.

    Integers are 0 where it is not. A run without a grid of at most `DIGITS_MAX` decimals gives a mask of False.

    Args:
        value: any floats, shape (n,).
    """
    tried = value[:: max(1, len(value) // _TRIED)]
    best, divisor = _ENOUGH, 0
    for digits in range(DIGITS_MAX + 1):
        share = float(np.mean(_exact(tried, 10**digits)[1])) if len(tried) else 0.0
        if share > best:
            best, divisor = share, 10**digits
        if best == 1.0:
            break
    if not divisor:
        return np.zeros(len(value), np.int64), 1, np.zeros(len(value), np.bool_)
    scaled, exact = _exact(value, divisor)
    # Steps of 0.05 are twentieths, not hundredths: fewer bits, and the same number rounded the same way.
    common = math.gcd(int(np.gcd.reduce(scaled)), divisor) if exact.any() else 1
    return scaled // common, divisor // common, exact


def _exact(value: NDArray[np.float64], divisor: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.rint(value * divisor)
        small = np.abs(near) <= _SCALED_MAX  # False for NaN and infinity
    scaled = np.where(small, near, 0.0).astype(np.int64)
    # Compared as bits: -0.0 is no 0, and no NaN is equal to another.
    exact = (scaled / divisor).view(np.int64) == value.view(np.int64)
    return np.where(exact & small, scaled, 0), exact & small
