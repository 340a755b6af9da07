"""Sums of floating-point numbers without rounding: what was added and taken away again leaves no trace.

A double is a whole number times 2^-1126, so a sum is one whole number. It does not depend on the order, and the float
it gives is the nearest one to the true sum.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHIFT: Final = 1_126
"""The smallest double, normalised to 53 bits, is a multiple of 2^-1126."""
_MANTISSA: Final = 53
_HALF: Final = 26


class ExactSum:
    """A sum of doubles.

    Attributes:
        units: the sum as a multiple of 2^-1126.
    """

    __slots__ = ("units",)

    def __init__(self) -> None:
        self.units = 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Adds finite values, shape (n,), n below 2^26."""
        self.units += units_of(values)

    def take(self, values: NDArray[np.float64]) -> None:
        """Takes away values that were added before."""
        self.units -= units_of(values)

    @property
    def value(self) -> float:
        """The nearest double; infinite when it is beyond all."""
        return ratio(self.units, 1)

    def over(self, count: int) -> float:
        """The nearest double of the sum divided by a count."""
        return ratio(self.units, count)


def ratio(units: int, count: int) -> float:
    """The nearest double of a multiple of 2^-1126 divided by a count above 0."""
    try:
        return units / (count << SHIFT)
    except OverflowError:
        return math.inf if units > 0 else -math.inf


def units_of(values: NDArray[np.float64]) -> int:
    """The exact sum of finite doubles as a multiple of 2^-1126."""
    if len(values) == 1:
        top, bottom = float(values[0]).as_integer_ratio()
        return (top << SHIFT) // bottom
    fraction, exponent = np.frexp(values)
    whole = np.ldexp(fraction, _MANTISSA).astype(np.int64)
    found, place = np.unique(exponent, return_inverse=True)
    # Two halves of 27 bits: a double holds their sums exactly.
    high = np.bincount(place, whole >> _HALF, len(found))
    low = np.bincount(place, whole & ((1 << _HALF) - 1), len(found))
    sums = zip(found.tolist(), high.tolist(), low.tolist(), strict=True)
    return sum(((int(top) << _HALF) + int(rest)) << (power - _MANTISSA + SHIFT) for power, top, rest in sums)
