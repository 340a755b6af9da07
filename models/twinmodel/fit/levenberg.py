"""Levenberg's and Marquardt's descent from many starts at once, within bounds.

Each round asks once for cost, gradient and curvature at the trial points of all starts: the caller simulates them, and
what it needs for slopes, as lanes of one call. A trial that is refused costs the same as one that is taken, so slopes
come with every trial. Bounds: an unknown at its bound that wants out rests, the others go on (projected steps).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
# Points, shape (starts, k) -> cost (starts,), gradient (starts, k), curvature (starts, k, k); cost inf: no value there.
Quadratic = Callable[[F64], tuple[F64, F64, F64]]
_DAMPING: Final = 1e-3
_DAMPING_MIN: Final = 1e-12
_DAMPING_MAX: Final = 1e12
_FLOOR: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Descent:
    """Where one start has led.

    Attributes:
        z: the point.
        cost: half the sum of weighted squares there.
        rounds: trial points it took.
        converged: whether steps or gains had become small; False when rounds were over.
    """

    z: F64
    cost: float
    rounds: int
    converged: bool


class _Walker:
    """One start on its way."""

    def __init__(self, z: F64, low: F64, high: F64) -> None:
        self.z = z
        self.trial = z
        self.cost = np.inf
        self.damping = _DAMPING
        self.growth = 2.0
        self.rounds = 0
        self.done = False
        self.converged = False
        self._low, self._high = low, high
        self._g = np.zeros_like(z)
        self._H = np.zeros((len(z), len(z)))
        self._expected = 0.0

    def judge(self, cost: float, g: F64, H: F64, tolerance: float) -> None:  # noqa: N803 - letters of the literature
        """Takes or refuses the trial, then makes the next."""
        self.rounds += 1
        if cost < self.cost:
            gain = self.cost - cost
            ratio = gain / self._expected if self._expected > 0.0 else 1.0
            small = gain <= tolerance * max(cost, _FLOOR)
            # Nielsen's rule: damping falls smoothly with the agreement of forecast and outcome.
            self.damping = max(self.damping * max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3), _DAMPING_MIN)
            self.growth = 2.0
            self.z, self.cost, self._g, self._H = self.trial, cost, g, H
            if small and ratio > 0.25:
                self.done = self.converged = True
                return
        elif not np.isfinite(self.cost):
            self.done = True
            return
        else:
            self.damping *= self.growth
            self.growth *= 2.0
            if self.damping > _DAMPING_MAX:
                self.done = self.converged = True
                return
        self._step(tolerance)

    def _step(self, tolerance: float) -> None:
        leaving = ((self.z <= self._low) & (self._g > 0.0)) | ((self.z >= self._high) & (self._g < 0.0))
        free = np.flatnonzero(~leaving)
        if not len(free):
            self.done = self.converged = True
            return
        H, g = self._H[np.ix_(free, free)], self._g[free]  # noqa: N806 - letters of the literature
        diagonal = np.diag(H)
        damped = H + np.diag(self.damping * np.maximum(diagonal, _FLOOR * max(float(diagonal.max()), _FLOOR)))
        try:
            step = np.linalg.solve(damped, -g)
        except np.linalg.LinAlgError:
            step = -g / np.maximum(np.diag(damped), _FLOOR)
        trial = self.z.copy()
        trial[free] = np.clip(self.z[free] + step, self._low[free], self._high[free])
        moved = trial[free] - self.z[free]
        self._expected = float(-(g @ moved) - 0.5 * moved @ H @ moved)
        self.trial = trial
        if float(np.abs(moved).max()) <= tolerance or 0.0 <= self._expected <= 0.01 * tolerance * self.cost:
            self.done = self.converged = True


def descend(
    quadratic: Quadratic, starts: F64, bounds: tuple[F64, F64], *, rounds: int, tolerance: float
) -> list[Descent]:
    """Descends from each start.

    Args:
        quadratic: cost and its local model at points.
        starts: shape (starts, k).
        bounds: low and high, shape (k,).
        rounds: most trial points a start may take.
        tolerance: relative gain, or step, below which a start is done.

    Returns:
        One descent a start, in their order.
    """
    walkers = [_Walker(np.clip(z, *bounds), *bounds) for z in starts]
    for _ in range(rounds):
        going = [w for w in walkers if not w.done]
        if not going:
            break
        cost, g, H = quadratic(np.stack([w.trial for w in going]))  # noqa: N806 - letters of the literature
        for at, walker in enumerate(going):
            walker.judge(float(cost[at]), g[at], H[at], tolerance)
    return [Descent(w.z, float(w.cost), w.rounds, w.converged) for w in walkers]
