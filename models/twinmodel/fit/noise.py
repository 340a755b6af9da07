"""Q and R from data: the noise under which the filter's own forecasts were the likeliest, then made to cover.

The filter of the package runs over the data for many candidates at once, each a model of its own in one bank. What is
maximised is the likelihood of each measurement under the forecast before it (the innovation and its spread), with a
weak prior that keeps what the data cannot tell near what the file says. A last factor on Q and R together, which does
not change a single estimate, lets 90 % of the measurements lie in their 90 % intervals.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.coverage import WIDTH_90, share_within_90
from twinmodel.equations.compile import Compiled, compile_model
from twinmodel.equations.load import Document
from twinmodel.errors import ConflictError, StorageError
from twinmodel.fit.segments import Segment
from twinmodel.fit.simulation import plan_of
from twinmodel.kernel import warmup
from twinmodel.kernel.arena import Plan, Step
from twinmodel.kernel.bank import Bank
from twinmodel.kernel.reference import KERNELS
from twinmodel.kernel.rollout import Tier
from twinmodel.package.tensors import start

F64 = NDArray[np.float64]
Kernel = Callable[[Plan], Step]
COVERED: Final = 0.9
_FACTOR: Final = (0.2, 5.0)
_DECADES: Final = 4.0
_SENSOR_DECADES: Final = 2.0
_PRIOR_DECADES: Final = 2.0
_GRID: Final = (-2.0, -1.5, -1.0, -0.5, 0.0)
_SETTLE: Final = 10
_BLOCKS: Final = 10
_FLOOR: Final = 1e-12


@dataclass(frozen=True, slots=True)
class NoiseFit:
    """Noise that makes intervals true.

    Attributes:
        process: standard deviation of each state per square root of a second, in its unit.
        measurement: standard deviation of each output's sensor.
        likelihood: log-likelihood of the measurements seen, before and after.
        covered_seen, covered_hidden: part of the measurements inside their 90 % interval one tick ahead, NaN for none.
        factor: last factor on all of them.
    """

    process: dict[str, float]
    measurement: dict[str, float]
    likelihood: tuple[float, float]
    covered_seen: float
    covered_hidden: float
    factor: float


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Innovations and their spread, one row a candidate, a tick and an output."""

    innovation: F64
    spread: F64


class _Candidates:
    """The model under other noise: its covariances are sums of squares, so they are put together, not compiled."""

    def __init__(self, document: Document, step: Kernel) -> None:
        self._document = document
        spec = document.spec
        self.states, self.outputs = tuple(spec.states), tuple(spec.outputs)
        self._base = compile_model(_with_noise(document, dict.fromkeys(self.states, 0.0)))
        ones = [
            compile_model(_with_noise(document, {n: float(n == name) for n in self.states})) for name in self.states
        ]
        self._units = [c.tensors["Q"] - self._base.tensors["Q"] for c in ones]
        declared = compile_model(document).tensors
        self.start = declared
        known = [spec.noise.measurement.get(name) for name in self.outputs]
        self._extra = np.array(
            [r - s * s if s is not None else 0.0 for r, s in zip(declared["R"], known, strict=True)]
        ).clip(0.0)
        self.measurement = np.sqrt(np.maximum(declared["R"] - self._extra, _FLOOR))
        self._step = step(self.plan(np.zeros(len(self.states)), self.measurement))

    def plan(self, process: F64, measurement: F64) -> Plan:
        """The model with these standard deviations."""
        Q = self._base.tensors["Q"] + sum(s * s * unit for s, unit in zip(process, self._units, strict=True))  # noqa: N806
        tensors = self._base.tensors | {"Q": np.asarray(Q), "R": measurement * measurement + self._extra}
        compiled = Compiled(**{**_fields(self._base), "tensors": tensors})
        return plan_of(self._document, compiled)

    def forecasts(self, segments: Sequence[Segment], starts: Sequence[F64], noise: F64) -> Forecasts:
        """Runs the filter over all stretches; `noise`: process and measurement sigma, shape (candidates, n + p)."""
        n = len(self.states)
        plans = [self.plan(row[:n], row[n:]) for row in noise]
        parts = [self._filter(plans, segment, x0) for segment, x0 in zip(segments, starts, strict=True)]
        return Forecasts(*(np.concatenate(column, axis=1) for column in zip(*parts, strict=True)))

    def _filter(self, plans: Sequence[Plan], segment: Segment, x0: F64) -> tuple[F64, F64]:
        layout = plans[0].layout
        m, p = layout.m, layout.p
        _, P0, held = start(self.start)  # noqa: N806 - letters of the literature
        first = (np.clip(x0, self.start["low"], self.start["high"]), P0, segment.u[0] if m else held)
        bank = Bank(plans, range(len(plans)), [first] * len(plans), self._step, lanes=1)
        innovation = np.empty((len(plans), segment.ticks, p))
        spread = np.empty_like(innovation)
        rows, results = bank.inputs[:, :, 0], bank.results[:, :, 0]
        # Rows of the results: estimate, sigma, prediction, innovation, score, spread, each p long.
        error, forecast = 3 * p, 5 * p
        for tick in range(segment.ticks):
            rows[:, :m] = segment.u[tick]
            rows[:, m : m + p] = segment.y[tick]
            bank.tick()
            innovation[:, tick] = results[:, error : error + p]
            spread[:, tick] = results[:, forecast : forecast + p]
        return innovation, spread


def estimate_noise(document: Document, segments: Sequence[Segment], starts: Sequence[F64], step: Kernel) -> NoiseFit:
    """Finds the noise of a fitted model.

    Args:
        document: the model with its fitted parameters.
        segments: measured data; what is held out is forecast, but never looked at.
        starts: start state of each stretch.
        step: gives the kernel of a model, see `kernel_of`.
    """
    model = _Candidates(document, step)
    spec = document.spec
    n = len(model.states)
    told = np.concatenate([s.seen for s in segments])
    hidden = np.concatenate([s.hidden for s in segments])
    seen_segments = [s for s in segments if s.held_out > 0]
    seen_starts = [x for s, x in zip(segments, starts, strict=True) if s.held_out > 0]
    cut = [Segment(s.t_ns[: s.held_out], s.u[: s.held_out], s.y[: s.held_out], s.held_out) for s in seen_segments]
    declared = np.array([spec.noise.process.get(name, 0.0) for name in model.states])
    wide = np.sqrt(np.diag(model.start["P0"])) / math.sqrt(spec.dt / 1e9)
    centre = np.log10(np.concatenate([np.where(declared > 0.0, declared, 0.03 * wide), model.measurement]))

    def likelihood(logs: F64) -> F64:
        forecasts = model.forecasts(cut, seen_starts, 10.0**logs)
        prior = 0.5 * (((logs - centre) / _PRIOR_DECADES) ** 2).sum(axis=1)
        return np.asarray(_likelihood(forecasts) - prior)

    best = _search(likelihood, centre, n)
    before, after = likelihood(np.stack([centre, best]))
    noise = 10.0**best
    found = model.forecasts(segments, starts, noise[None])
    ratio = np.abs(found.innovation[0] / found.spread[0])
    mask = np.isfinite(told) & np.isfinite(ratio)
    mask[:_SETTLE] = False
    factor = _factor(ratio, mask)
    measured = np.isfinite(told).any(axis=0)
    return NoiseFit(
        process={name: float(f"{factor * s:.4g}") for name, s in zip(model.states, noise[:n], strict=True)},
        measurement={
            name: float(f"{factor * s if known else s:.4g}")
            for name, s, known in zip(model.outputs, noise[n:], measured, strict=True)
        },
        likelihood=(float(before), float(after)),
        covered_seen=share_within_90(ratio[mask] / factor),
        covered_hidden=share_within_90(ratio[np.isfinite(hidden) & np.isfinite(ratio)] / factor),
        factor=factor,
    )


def coverage(document: Document, segments: Sequence[Segment], starts: Sequence[F64], step: Kernel) -> float:
    """Part of the measurements, held out or not, that lie in their 90 % interval one tick ahead; NaN for none.

    Args:
        document: a model with its noise.
        segments: measured data.
        starts: start state of each stretch.
        step: gives the kernel of a model, see `kernel_of`.
    """
    model = _Candidates(document, step)
    declared = [document.spec.noise.process.get(name, 0.0) for name in model.states]
    found = model.forecasts(segments, starts, np.concatenate([declared, model.measurement])[None])
    ratio = np.abs(found.innovation[0] / found.spread[0])
    mask = np.isfinite(ratio)
    mask[:_SETTLE] = False
    return share_within_90(ratio[mask])


def _factor(ratio: F64, mask: NDArray[np.bool_]) -> float:
    """Smallest factor on all sigma with which 90 % are covered, and would be in other data like this.

    How many are covered differs from one stretch of time to the next, for no model is equally good everywhere; one
    standard error of that difference is kept in hand.
    """
    blocks = [(r[m], m) for r, m in zip(np.array_split(ratio, _BLOCKS), np.array_split(mask, _BLOCKS), strict=True)]
    values = [r for r, m in blocks if m.any()]
    if not values:
        return 1.0
    for width in np.sort(ratio[mask])[int(COVERED * mask.sum()) - 1 :]:
        covered = np.array([(r <= width).mean() for r in values])
        counts = np.array([len(r) for r in values], np.float64)
        mean = float(covered @ counts / counts.sum())
        error = math.sqrt(float((counts / counts.sum()) ** 2 @ (covered - mean) ** 2))
        if mean - error >= COVERED:
            return min(max(float(width) / WIDTH_90, _FACTOR[0]), _FACTOR[1])
    return min(max(float(ratio[mask].max()) / WIDTH_90, _FACTOR[0]), _FACTOR[1])


def _search(likelihood: Any, centre: F64, n: int) -> F64:
    """A grid over the common sizes of process and measurement noise, then a bounded descent in all of them."""
    pairs = [(a, b) for a in (*_GRID, 0.5, 1.0) for b in (*_GRID, 0.5)]
    grid = np.array([np.concatenate([centre[:n] + a, centre[n:] + b]) for a, b in pairs])
    values = likelihood(grid)
    best = grid[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))]
    optimize = importlib.import_module("scipy.optimize")
    step = 1e-4 * np.eye(len(centre))

    def cost(logs: F64) -> tuple[float, F64]:
        found = likelihood(np.concatenate([logs[None], logs + step]))
        slope = (found[1:] - found[0]) / 1e-4
        if not (np.isfinite(found[0]) and np.isfinite(slope).all()):
            return 1e300, np.zeros_like(logs)
        return -float(found[0]), -slope

    # Data with bursts would call the sensor perfect; a hundredth of what the file says is as far as it may go.
    below = np.where(np.arange(len(centre)) < n, _DECADES, _SENSOR_DECADES)
    bounds = list(zip(centre - below, centre + _DECADES, strict=True))
    found = optimize.minimize(cost, best, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 40})
    return np.asarray(found.x, np.float64)


def _likelihood(forecasts: Forecasts) -> F64:
    """Sum of log densities of all innovations, one a candidate; -inf where a filter has no number."""
    told = np.isfinite(forecasts.innovation)
    with np.errstate(all="ignore"):
        z = forecasts.innovation / forecasts.spread
        each = -0.5 * z * z - np.log(forecasts.spread)
    value = np.where(told, each, 0.0).sum(axis=(1, 2))
    return np.where(np.isfinite(value), value, -np.inf)


def _with_noise(document: Document, process: dict[str, float]) -> Document:
    noise = document.spec.noise.model_copy(update={"process": process})
    spec = document.spec.model_copy(update={"noise": noise})
    return Document(spec, document.path, document.tree)


def _fields(compiled: Compiled) -> dict[str, Any]:
    return {name: getattr(compiled, name) for name in Compiled.__slots__}


def kernel_of(tier: Tier = "auto", cache_dir: Path | None = None) -> Kernel:
    """Where the filter's kernel comes from: machine code where it can be had, else the interpreted one."""

    def find(plan: Plan) -> Step:
        wanted: dict[str, tuple[Plan | None, ...]] = {"jit": (plan,), "vm": (None,), "auto": (plan, None)}
        for one in wanted.get(tier, ()):
            try:
                return warmup.compile_now(plan.family, cache_dir, one)
            except (StorageError, ConflictError):
                continue
        return KERNELS[plan.family]

    return find
