"""Residuals of a bank of filters over a window: how well each filter fits each output, and what a fault looks like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
LIMIT: Final = 4.0
_SLOPE_LIMIT: Final = 6.0


class Residuals:
    """Whitened residuals of p + 1 filters on p outputs.

    Args:
        outputs: p.
        warm: ticks that do not count.
        size: ticks of the window.

    Attributes:
        ticks: that count so far, below 0 while the filters warm up.
    """

    def __init__(self, outputs: int, warm: int, size: int) -> None:
        self.ticks = -warm
        self._y = np.full((size, outputs), np.nan)
        self._prediction = np.full((size, outputs + 1, outputs), np.nan)
        self._spread = np.full((size, outputs + 1, outputs), np.nan)

    def add(self, y: F64, prediction: F64, spread: F64) -> None:
        """One tick: measurements (p,), predictions and their sigma (p + 1, p)."""
        if 0 <= self.ticks < len(self._y):
            self._y[self.ticks] = y
            self._prediction[self.ticks] = prediction
            self._spread[self.ticks] = spread
        self.ticks += 1

    def measured(self) -> list[int]:
        """Outputs with a measurement in at least half of the ticks."""
        return np.flatnonzero(np.isfinite(self._y).sum(axis=0) * 2 >= len(self._y)).tolist()

    def misfit(self, lane: int, outputs: Sequence[int]) -> float:
        """How badly a filter fits these outputs: the largest of mean and excess of squares, 1 is at the limit."""
        worst = 0.0
        for j in outputs:
            w = self._whitened(lane, j)
            count = len(w)
            mean = abs(float(w.sum())) / math.sqrt(count) / LIMIT
            excess = (float(w @ w) - count) / math.sqrt(2.0 * count) / LIMIT
            # A filter that has diverged predicts NaN, which no comparison would take for the largest.
            if not math.isfinite(mean + excess):
                return math.inf
            worst = max(worst, mean, excess)
        return worst

    def loudness(self, output: int) -> float:
        """Mean residual of an output in the filter without it, in sigma of that mean."""
        w = self._whitened(output, output)
        return abs(float(w.sum())) / math.sqrt(len(w))

    def own(self, output: int) -> tuple[F64, F64]:
        """Measurements of an output, and their residuals in the filter without it, where there are some."""
        y = self._y[:, output]
        there = np.isfinite(y)
        return y[there], (y - self._prediction[:, output, output])[there]

    def _whitened(self, lane: int, output: int) -> F64:
        w = (self._y[:, output] - self._prediction[:, lane, output]) / self._spread[:, lane, output]
        return np.asarray(w[np.isfinite(self._y[:, output])])


def fault_of(y: F64, residual: F64) -> str:
    """What is wrong with a sensor, in words: `frozen at`, `drift of`, `bias of` or `noise of` with its size."""
    if np.ptp(y) == 0.0:
        return f"frozen at {y[-1]:.4g}"
    t = np.arange(len(residual)) - 0.5 * (len(residual) - 1)
    slope = float(t @ residual) / float(t @ t)
    mean = float(residual.mean())
    scatter = float(np.std(residual - mean - slope * t)) + np.finfo(float).tiny
    if abs(slope) > _SLOPE_LIMIT * scatter / np.sqrt(float(t @ t)) and abs(slope) * len(t) > scatter:
        return f"drift of {slope:+.3g} a tick, now {residual[-10:].mean():+.4g}"
    if abs(mean) > LIMIT * scatter / np.sqrt(len(residual)):
        return f"bias of {mean:+.4g}"
    return f"noise of {scatter:.3g}"
