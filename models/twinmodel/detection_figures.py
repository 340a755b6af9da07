"""What the detectors of a model promise: false alarms in a year, and how soon they tell a shift; computed, not guessed.

    drift_figures(manifest.drift, manifest.dt_ns) ─▶ one DetectorFigures for each detector of one output

The whitened innovations of a healthy filter are independent and Gaussian of variance 1; a fault shifts their mean by
some sigma. Each detector is then a Markov chain: its range is cut into cells (Brook and Evans 1972), the mean number
of ticks until it leaves them solves a linear system. Page-Hinkley's slow mean makes it a chain of two variables; the
mean is taken as steady within one excursion, which tells a quarter too many of its false alarms, and is followed tick
by tick after a shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.schema import Drift

F64 = NDArray[np.float64]
SHIFTS: Final = (1.0, 2.0, 3.0)
YEAR_S: Final = 365.25 * 86_400
_CELLS: Final = 200
_TICKS_MAX: Final = 4000
_ENDED: Final = 1e-4
# Phi on a grid so fine that straight lines between its points are right to 1e-8.
_GRID: Final = np.linspace(-9.0, 9.0, 36_001)
_PHI: Final = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in _GRID.tolist()])
# Nodes and weights for the mean of a function of a standard normal variable.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)


@dataclass(frozen=True, slots=True)
class Detection:
    """How soon a detector tells a lasting shift.

    Attributes:
        shift: of the mean of the whitened innovation, in its sigma.
        ticks: mean number of ticks from the shift to the alarm, over the shifts that are found.
        seconds: the same, in seconds.
        found: share of shifts that raise an alarm at all; below 1 where the detector gets used to them.
    """

    shift: float
    ticks: float
    seconds: float
    found: float


@dataclass(frozen=True, slots=True)
class DetectorFigures:
    """One detector on one output.

    Attributes:
        detector: `chi_square`, `cusum` or `page_hinkley`.
        false_alarms_per_year: of a healthy model that runs all year long.
        detections: for each shift.
    """

    detector: str
    false_alarms_per_year: float
    detections: tuple[Detection, ...]


def drift_figures(drift: Drift, dt_ns: int, shifts: tuple[float, ...] = SHIFTS) -> tuple[DetectorFigures, ...]:
    """Figures of every detector, for one output measured at every tick; a twin has the sum over its outputs.

    Args:
        drift: settings of the detectors.
        dt_ns: distance of ticks.
        shifts: in sigma of the innovation.
    """
    dt_s = dt_ns / 1e9
    a_year = YEAR_S / dt_s

    def figures(name: str, rate: float, delays: list[tuple[float, float]]) -> DetectorFigures:
        found = [Detection(s, t, t * dt_s, share) for s, (t, share) in zip(shifts, delays, strict=True)]
        return DetectorFigures(name, rate * a_year, tuple(found))

    average = 1.0 / _average_run(drift, 0.0)
    cusum = 2.0 / _sum_run(drift.slack, drift.limit, drift.clip, 0.0)
    return (
        figures("chi_square", average, [(_average_run(drift, s), 1.0) for s in shifts]),
        figures("cusum", cusum, [(_sum_run(drift.slack, drift.limit, drift.clip, s), 1.0) for s in shifts]),
        figures("page_hinkley", _change_rate(drift), [_change_delay(drift, s) for s in shifts]),
    )


def _phi(x: F64) -> F64:
    return np.asarray(np.interp(x, _GRID, _PHI))


def _steps(slack: float, width: float, clip: float, shift: float) -> F64:
    """Probability that a sum moves by -N..N cells; the outermost hold all that is beyond."""
    edges: F64 = (np.arange(-_CELLS, _CELLS, dtype=np.float64) + 0.5) * width + slack
    below = np.where(edges < -clip, 0.0, np.where(edges >= clip, 1.0, _phi(edges - shift)))
    return np.diff(below, prepend=0.0, append=1.0)


def _sum_run(slack: float, limit: float, clip: float, shift: float) -> float:
    """Mean ticks until one sum of clipped innovations, less the slack, goes from 0 to its limit."""
    width = 2.0 * limit / (2 * _CELLS - 1)
    steps = _steps(slack, width, clip, shift)
    i, j = np.arange(_CELLS)[:, None], np.arange(_CELLS)[None, :]
    moves = steps[j - i + _CELLS]
    # At or below 0 a sum begins anew.
    moves[:, 0] = np.cumsum(steps)[_CELLS - i[:, 0]]
    return _mean_run(moves, 0)


def _average_run(drift: Drift, shift: float) -> float:
    """Mean ticks until the averaged square goes from 0 to its limit."""
    weight, limit, clip = drift.ewma, drift.ewma_limit, drift.clip
    edges: F64 = np.linspace(-1.0, limit, _CELLS + 1, dtype=np.float64)
    middle = 0.5 * (edges[1:] + edges[:-1])
    square = (edges[None, :] - (1.0 - weight) * middle[:, None]) / weight + 1.0
    root = np.sqrt(np.maximum(square, 0.0))
    below = np.where(root >= clip, 1.0, _phi(root - shift) - _phi(-root - shift))
    below[:, 0] = 0.0
    return _mean_run(np.diff(below, axis=1), int(np.argmin(np.abs(middle))))


def _mean_run(moves: F64, start: int) -> float:
    """Mean number of steps of a chain until it leaves its cells; infinite where it cannot."""
    leaving = np.maximum(1.0 - moves.sum(axis=1), 0.0)
    if not leaving.any():
        return math.inf
    # Diagonals from what is left over: 1 - sum loses nothing to rounding where runs are long.
    system = -moves
    off = moves.sum(axis=1) - np.diag(moves)
    np.fill_diagonal(system, off + leaving)
    runs = float(np.linalg.solve(system, np.ones(len(moves)))[start])
    # Beyond, double precision tells nothing.
    return runs if 0.0 < runs < 1e15 else math.inf


def _change_rate(drift: Drift) -> float:
    """False alarms of both Page-Hinkley sums in one tick; their mean wanders slowly about 0."""
    wander = math.sqrt(drift.memory / (2.0 - drift.memory))
    runs = [_sum_run(drift.change_slack, drift.change_limit, drift.clip, x * wander) for x in _NODES.tolist()]
    return float(2.0 * np.sum(_WEIGHTS / np.array(runs)) / np.sum(_WEIGHTS))


def _change_delay(drift: Drift, shift: float) -> tuple[float, float]:
    """Mean ticks from a shift to its alarm, and the share of shifts that raise one before the mean has followed."""
    width = 2.0 * drift.change_limit / (2 * _CELLS - 1)
    alive = np.zeros(_CELLS)
    alive[0] = 1.0
    mean, found, ticks = 0.0, 0.0, 0.0
    moved = float(np.clip(shift, -drift.clip, drift.clip))
    for tick in range(1, _TICKS_MAX + 1):
        steps = _steps(drift.change_slack + mean, width, drift.clip, shift)
        spread = np.convolve(alive, steps)
        left = float(spread[2 * _CELLS :].sum())
        found, ticks = found + left, ticks + left * tick
        alive = spread[_CELLS : 2 * _CELLS].copy()
        alive[0] += spread[:_CELLS].sum()
        mean += drift.memory * (moved - mean)
        if 1.0 - found < _ENDED or (shift - mean < drift.change_slack and left < _ENDED * drift.memory):
            break
    return (ticks / found if found > 0.0 else math.inf), found
