"""Cost, gradient and curvature of an output-error fit: every start, stretch and slope is a lane of one simulation.

    lanes   start x stretch x (the point, one step in each parameter, one step in each start state)

Residuals are weighted by the sigma of their output, priors are residuals of their own. Curvature is that of
Gauss and Newton; stretches share parameters and own their start states, so it is summed stretch by stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from twinmodel.fit.segments import Segment
from twinmodel.fit.unknowns import Unknowns

F64 = NDArray[np.float64]
_STEP: Final = 1e-6
_LANE_BYTES_MAX: Final = 128 << 20


class Simulate(Protocol):
    """Open-loop simulation of many lanes."""

    def __call__(self, x0: F64, params: F64, u: F64) -> F64:
        """Outputs, shape (ticks, p, N).

        Args:
            x0: start states, shape (n, N).
            params: all parameters of the model, shape (q, N).
            u: inputs, shape (ticks, m) for all lanes or (ticks, m, N).
        """
        ...


@dataclass(frozen=True, slots=True)
class Huber:
    """A loss that counts squares up to `limit` sigma and straight beyond; limit infinite: squares."""

    limit: float = np.inf

    def weigh(self, r: F64) -> tuple[F64, F64]:
        """Cost of each residual, and the weight its square has in gradient and curvature."""
        size = np.abs(r)
        if not np.isfinite(self.limit):
            return 0.5 * r * r, np.ones_like(r)
        inside = size <= self.limit
        cost = np.where(inside, 0.5 * r * r, self.limit * (size - 0.5 * self.limit))
        return cost, np.where(inside, 1.0, self.limit / np.maximum(size, self.limit))


class Objective:
    """The cost of a fit as a function of `z`, see `unknowns`.

    Args:
        simulate: the model.
        segments: stretches; only what they let be seen counts.
        unknowns: what is sought.
        sigma: standard deviation of each output's residual, shape (p,).
        loss: how residuals are counted.
    """

    def __init__(
        self, simulate: Simulate, segments: Sequence[Segment], unknowns: Unknowns, sigma: F64, loss: Huber
    ) -> None:
        self._simulate = simulate
        self._unknowns = unknowns
        self._loss = loss
        # A start state beyond what is seen cannot be told: ticks after the last seen one are not simulated.
        self._ends = [s.held_out for s in segments]
        ticks = max(self._ends)
        self._u = np.stack([_padded(s.u[: s.held_out], ticks) for s in segments], axis=2)
        y = np.stack([_filled(s.y[: s.held_out], ticks) for s in segments])
        self._told = np.isfinite(y)
        self._y = np.where(self._told, y, 0.0)
        self._sigma = sigma
        self.simulations = 0

    @property
    def told(self) -> NDArray[np.bool_]:
        """Which measured values count, shape (segments, ticks, p)."""
        return self._told

    def __call__(self, Z: F64) -> tuple[F64, F64, F64]:  # noqa: N803 - letters of the literature
        """Cost (starts,), gradient (starts, k) and curvature (starts, k, k) at the points `Z`, shape (starts, k)."""
        # A start that needs more memory than others leave goes alone.
        each = self._u.shape[2] * (1 + len(self._unknowns.shared) + len(self._unknowns.each))
        at_once = max(1, _LANE_BYTES_MAX // (16 * each * self._told[0].size))
        parts = [self._quadratic(Z[i : i + at_once]) for i in range(0, len(Z), at_once)]
        if len(parts) == 1:
            return parts[0]
        cost, g, H = (np.concatenate(column) for column in zip(*parts, strict=True))  # noqa: N806
        return cost, g, H

    def _quadratic(self, Z: F64) -> tuple[F64, F64, F64]:  # noqa: N803 - letters of the literature
        r, D = self.residuals(Z)  # noqa: N806
        starts, segments = D.shape[:2]
        shared, own = len(self._unknowns.shared), len(self._unknowns.each)
        with np.errstate(all="ignore"):
            part, weight = self._loss.weigh(r)
            cost = part.sum(axis=(1, 2))
            weighted = D * weight[..., None] if np.isfinite(self._loss.limit) else D
            gram = np.matmul(weighted.transpose(0, 1, 3, 2), D)
            slope = np.matmul(weighted.transpose(0, 1, 3, 2), r[..., None])[..., 0]
            k = len(self._unknowns.all)
            g, H = np.zeros((starts, k)), np.zeros((starts, k, k))  # noqa: N806
            g[:, :shared] = slope[:, :, :shared].sum(axis=1)
            H[:, :shared, :shared] = gram[:, :, :shared, :shared].sum(axis=1)
            for s in range(segments if own else 0):
                mine = slice(shared + s * own, shared + (s + 1) * own)
                g[:, mine] = slope[:, s, shared:]
                H[:, mine, mine] = gram[:, s, shared:, shared:]
                H[:, :shared, mine] = gram[:, s, :shared, shared:]
                H[:, mine, :shared] = gram[:, s, shared:, :shared]
            for at, (residual, steep) in enumerate(zip(*self.prior(Z), strict=True)):
                cost[at] += 0.5 * float(residual @ residual)
                g[at] += residual * steep
                H[at] += np.diag(steep * steep)
            cost[~np.isfinite(cost) | ~np.isfinite(g).all(axis=1) | ~np.isfinite(H).all(axis=(1, 2))] = np.inf
        return cost, g, H

    def cost(self, Z: F64) -> F64:  # noqa: N803 - letters of the literature
        """Cost alone, shape (starts,): a lane for each start and stretch."""
        each = max(1, _LANE_BYTES_MAX // (16 * self._told.size))
        found = []
        for first in range(0, len(Z), each):
            some = Z[first : first + each]
            y = self._lanes(some[:, None, :])[:, :, :, 0]
            with np.errstate(all="ignore"):
                r = self._weighted(y)
                part, _ = self._loss.weigh(r)
                prior, _ = self.prior(some)
                found.append(part.sum(axis=(1, 2)) + 0.5 * (prior * prior).sum(axis=1))
        cost = np.concatenate(found)
        return np.where(np.isfinite(cost), cost, np.inf)

    def residuals(self, Z: F64) -> tuple[F64, F64]:  # noqa: N803 - letters of the literature
        """Weighted residuals, shape (starts, segments, rows), and their slopes, shape (..., shared + each)."""
        shared, own = len(self._unknowns.shared), len(self._unknowns.each)
        high = self._unknowns.bounds()[1]
        columns = 1 + shared + own
        points = np.repeat(Z[:, None, :], columns, axis=1)
        for c in range(shared):
            points[:, 1 + c, c] += np.where(Z[:, c] + _STEP > high[c], -_STEP, _STEP)
        for c in range(own):
            for at in range(shared + c, Z.shape[1], own):
                points[:, 1 + shared + c, at] += np.where(Z[:, at] + _STEP > high[at], -_STEP, _STEP)
        y = self._lanes(points)
        with np.errstate(all="ignore"):
            r = self._weighted(y[:, :, :, 0])
            D = -(y[:, :, :, 1:] - y[:, :, :, :1])  # noqa: N806
            # What was really stepped, after rounding and hard bounds, per start and segment.
            D *= np.where(self._told, 1.0 / self._sigma, 0.0).reshape(1, len(self._ends), -1, 1)  # noqa: N806
            D /= self._steps(points, Z)[:, :, None, :]  # noqa: N806
        return r, D

    def prior(self, Z: F64) -> tuple[F64, F64]:  # noqa: N803 - letters of the literature
        """Residual of each unknown's prior and its slope, shape (starts, k); 0 where there is none."""
        every = self._unknowns.all
        wide = np.array([np.inf if u.sigma is None else u.sigma for u in every])
        mean = np.array([u.value for u in every])
        return (self._unknowns.outward(Z) - mean) / wide, self._unknowns.slope(Z) / wide

    def _weighted(self, y: F64) -> F64:
        rows = (self._y.reshape(1, len(self._ends), -1) - y) / np.broadcast_to(
            self._sigma, self._told.shape[1:]
        ).reshape(-1)
        return np.where(self._told.reshape(1, len(self._ends), -1), rows, 0.0)

    def _steps(self, points: F64, Z: F64) -> F64:  # noqa: N803 - letters of the literature
        """Step of each column in z, shape (starts, segments, columns - 1)."""
        shared, own = len(self._unknowns.shared), len(self._unknowns.each)
        segments = len(self._ends)
        moved = points[:, 1:] - Z[:, None, :]
        steps = np.empty((len(Z), segments, shared + own))
        for c in range(shared):
            steps[:, :, c] = moved[:, c, c][:, None]
        for c in range(own):
            steps[:, :, shared + c] = moved[:, shared + c, shared + c :: own][:, :segments]
        return steps

    def _lanes(self, points: F64) -> F64:
        """Outputs at points of shape (starts, columns, k); shape (starts, segments, rows, columns)."""
        starts, columns, _ = points.shape
        segments = len(self._ends)
        shared, own = len(self._unknowns.shared), len(self._unknowns.each)
        values = self._unknowns.outward(points)
        params = np.repeat(self._unknowns.fixed[:, None], starts * columns, axis=1)
        params[list(self._unknowns.positions)] = values[:, :, :shared].reshape(starts * columns, shared).T
        # Order of lanes: start, column, segment.
        lanes = np.ascontiguousarray(np.repeat(params, segments, axis=1))
        x0 = np.ascontiguousarray(values[:, :, shared:].reshape(starts * columns * segments, own).T)
        u = self._u[:, :, 0] if segments == 1 else np.tile(self._u, (1, 1, starts * columns))
        self.simulations += x0.shape[1]
        y = self._simulate(x0, lanes, np.ascontiguousarray(u))
        ticks, p = y.shape[:2]
        shaped = y.reshape(ticks, p, starts, columns, segments)
        return np.ascontiguousarray(shaped.transpose(2, 4, 0, 1, 3)).reshape(starts, segments, ticks * p, columns)


def _padded(u: F64, ticks: int) -> F64:
    """Inputs held to the length of the longest stretch."""
    last = u[-1:] if len(u) else np.zeros((1, u.shape[1]))
    return np.concatenate([u, np.repeat(last, ticks - len(u), axis=0)])


def _filled(y: F64, ticks: int) -> F64:
    """Measurements, NaN up to the length of the longest stretch."""
    return np.concatenate([y, np.full((ticks - len(y), y.shape[1]), np.nan)])
