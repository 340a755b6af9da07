"""An estimator over rows of a simulated plant, a tick a second."""

from __future__ import annotations

NS = 10**9
START = 1_700_000_000 * NS
PLANTS = ("two-tanks", "exchanger", "pump")


def follow(estimator, rows, first=0):
    return [estimator.step(START + (first + i) * NS, u, y) for i, (u, y, _) in enumerate(rows)]
