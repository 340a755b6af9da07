"""Parameters of a model file from measured data: many starts, one descent each, the best one judged.

    segments ─▶ starts ─▶ descend ─▶ sigma of residuals ─▶ descend ─▶ identifiable? ─▶ held-out part ─▶ Calibration

The model is simulated in open loop from start states that are sought along with the parameters (output error), by the
same kernels that gateways run. The part held out is simulated on from the part seen, and never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.load import Document
from twinmodel.errors import ConflictError
from twinmodel.fit.identifiability import Identification, identify, refuse_vague
from twinmodel.fit.levenberg import Descent, descend
from twinmodel.fit.objective import Huber, Objective
from twinmodel.fit.quasirandom import points
from twinmodel.fit.segments import Segment, check, moves
from twinmodel.fit.simulation import START_SAMPLES, Simulation, simulation
from twinmodel.fit.unknowns import Unknowns, gather
from twinmodel.kernel.rollout import Tier

F64 = NDArray[np.float64]
HUBER_SIGMA: Final = 2.0
_CANDIDATES: Final = 32
_PASSES: Final = 3
_SETTLED: Final = 0.01
_TINY: Final = 1e-6
# Sigma of a Gaussian whose absolute values have the median 1.
_MEDIAN_SIGMA: Final = 1.482602218505602


@dataclass(frozen=True, slots=True)
class Settings:
    """How to fit.

    Attributes:
        starts: descents, the first from the values of the file, the others from the best of many points.
        rounds: most simulations a descent may ask for.
        tolerance: relative gain at which a descent ends.
        robust: count residuals beyond two sigma straight, not squared.
        only: parameters to fit instead of those marked `calibrate`.
        tier: of the kernel: `auto`, `interpreted`, `vm` or `jit`.
        cache_dir: where compiled kernels are kept, see `warmup.cache_folder`.
    """

    starts: int = 8
    rounds: int = 60
    tolerance: float = 1e-6
    robust: bool = False
    only: tuple[str, ...] = ()
    tier: Tier = "auto"
    cache_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """One parameter before and after."""

    name: str
    unit: str
    before: float
    after: float
    sigma: float
    low: float
    high: float
    at_bound: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One stretch simulated before and after.

    Attributes:
        segment: what was measured.
        start: start state after the fit, shape (n,).
        before: outputs by the file's parameters, from their best start state, shape (ticks, p).
        after: outputs by the fitted ones.
    """

    segment: Segment
    start: F64
    before: F64
    after: F64

    @property
    def seen(self) -> F64:
        """Measurements the fit saw, NaN elsewhere."""
        return self.segment.seen

    @property
    def hidden(self) -> F64:
        """Measurements that neither the fit nor the start state saw, NaN elsewhere."""
        y = self.segment.hidden
        if self.segment.held_out == 0:
            y[:START_SAMPLES] = np.nan
        return y


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a fit has found.

    Attributes:
        params: each fitted parameter.
        identification: what is known of them.
        runs: simulations of all stretches.
        descents: of all starts, in their order.
        sigma: standard deviation of each output's residual, shape (p,).
        rmse_seen, rmse_hidden, rmse_before: root mean squares per output, NaN where nothing was measured.
        samples_seen, samples_hidden: measured values of each kind.
        warnings: what is weak.
    """

    params: tuple[Fitted, ...]
    identification: Identification
    runs: tuple[Run, ...]
    descents: tuple[Descent, ...]
    sigma: F64
    rmse_seen: F64
    rmse_hidden: F64
    rmse_before: F64
    samples_seen: int
    samples_hidden: int
    warnings: tuple[str, ...]

    @property
    def values(self) -> dict[str, float]:
        """Name and new value of each fitted parameter."""
        return {p.name: p.after for p in self.params}


def calibrate(document: Document, segments: Sequence[Segment], random: Random, settings: Settings) -> Calibration:
    """Fits the parameters of a model file.

    Args:
        document: the model.
        segments: measured data, see `segments.cut`.
        random: where the starts come from.
        settings: how to fit.

    Raises:
        InputError: FIT_DATA_UNFIT or VALUE_INVALID when data or file do not allow a fit.
        ConflictError: FIT_NOT_IDENTIFIABLE when the data cannot tell the parameters, FIT_FAILED when no start works.
    """
    spec = document.spec
    model = simulation(document, settings.tier, settings.cache_dir)
    used = [s for s in segments if s.held_out > 0]
    unknowns = gather(spec, model.start_sigma.tolist(), len(used), settings.only)
    warnings = check(used, len(unknowns.all), (list(spec.inputs), list(spec.outputs)))
    loss = Huber(HUBER_SIGMA if settings.robust else np.inf)
    sigma = _first_sigma(used, model.sigma)
    objective = Objective(model.simulate, used, unknowns, sigma, Huber(loss.limit * 4.0))
    descents = descend(
        objective,
        _starts(objective, unknowns, random, settings.starts),
        unknowns.bounds(),
        rounds=settings.rounds,
        tolerance=max(settings.tolerance, 1e-4),
    )
    best = min(descents, key=lambda d: d.cost)
    if not np.isfinite(best.cost):
        message = f"{spec.model} has no finite simulation of the data from any of {len(descents)} starts"
        raise ConflictError("FIT_FAILED", message)
    for _ in range(_PASSES):
        # The best weight of an output is the scatter of its own residuals.
        before, sigma = sigma, _residual_sigma(objective, best.z, sigma, robust=settings.robust)
        objective = Objective(model.simulate, used, unknowns, sigma, loss)
        best = descend(
            objective, best.z[None], unknowns.bounds(), rounds=settings.rounds, tolerance=settings.tolerance
        )[0]
        if np.all(np.abs(sigma / before - 1.0) < _SETTLED):
            break
    found = _judge(objective, unknowns, best.z)
    at_bound = _at_bound(unknowns, best.z)
    inputs = np.concatenate([s.u[: s.held_out] for s in used])
    refuse_vague(found, [n for n, c in zip(spec.inputs, inputs.T, strict=True) if not moves(c)], at_bound)
    if not best.converged:
        warnings.append(f"the descent has not ended after {settings.rounds} rounds")
    warnings += [f"{name} rests at its bound" for name in at_bound]
    warnings += [f"the data adds nothing to the prior of {name}" for name in found.by_prior]
    return _report(document, model, (segments, unknowns, best), found, (tuple(descents), sigma, warnings))


def _starts(objective: Objective, unknowns: Unknowns, random: Random, count: int) -> F64:
    """The file's own values, then the best of points that fill the bounds; shape (count, k)."""
    k = len(unknowns.all)
    first = np.zeros((1, k))
    if count <= 1:
        return first
    low, high = unknowns.reaches()
    box = low + (high - low) * points(_CANDIDATES * count, k, random)
    cost = objective.cost(box)
    chosen = np.argsort(cost, kind="stable")[: count - 1]
    return np.concatenate([first, box[chosen]])


def _first_sigma(segments: Sequence[Segment], declared: F64) -> F64:
    """Weights before residuals are known: a tenth of each output's own scatter, at least what the sensor scatters."""
    seen = np.concatenate([s.seen for s in segments])
    told = np.isfinite(seen)
    middle = np.where(told, seen, 0.0).sum(axis=0) / np.maximum(told.sum(axis=0), 1)
    scatter = np.sqrt(_mean_square(seen - middle))
    return np.where(np.isfinite(scatter), np.maximum(declared, 0.1 * scatter), declared)


def _residual_sigma(objective: Objective, z: F64, sigma: F64, *, robust: bool) -> F64:
    """Scatter of each output's residuals at a point, by their median where outliers are expected.

    An output that fits exactly keeps a part of its weight.
    """
    r, _ = objective.residuals(z[None])
    rows = r[0].reshape(-1, len(sigma))
    told = np.where(objective.told.reshape(-1, len(sigma)), rows, np.nan)
    found = sigma * (_median_size(told) if robust else np.sqrt(_mean_square(told)))
    return np.where(np.isfinite(found), np.maximum(found, _TINY * sigma), sigma)


def _median_size(rows: F64) -> F64:
    """Standard deviation of Gaussian columns with the same median of absolute values; NaN for a column without any."""
    columns = [np.abs(c[np.isfinite(c)]) for c in rows.T]
    return np.array([_MEDIAN_SIGMA * float(np.median(c)) if len(c) else np.nan for c in columns])


def _mean_square(rows: F64) -> F64:
    """Of each column's finite values; NaN for a column without any."""
    told = np.isfinite(rows)
    count = told.sum(axis=0)
    total = np.where(told, rows * rows, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _judge(objective: Objective, unknowns: Unknowns, z: F64) -> Identification:
    r, slopes = objective.residuals(z[None])
    _, prior = objective.prior(z[None])
    return identify(unknowns, z, r[0], slopes[0], prior[0])


def _at_bound(unknowns: Unknowns, z: F64) -> list[str]:
    low, high = unknowns.bounds()
    at = zip(unknowns.shared, z, low, high, strict=False)
    return [q.name for q, value, a, b in at if value <= a + 1e-9 * (b - a) or value >= b - 1e-9 * (b - a)]


def _report(
    document: Document,
    model: Simulation,
    data: tuple[Sequence[Segment], Unknowns, Descent],
    found: Identification,
    rest: tuple[tuple[Descent, ...], F64, list[str]],
) -> Calibration:
    segments, unknowns, best = data
    descents, sigma, warnings = rest
    values = unknowns.outward(best.z)
    shared, own = len(unknowns.shared), len(unknowns.each)
    params = unknowns.fixed.copy()
    params[list(unknowns.positions)] = values[:shared]
    at_bound = _at_bound(unknowns, best.z)
    fitted = tuple(
        Fitted(
            q.name,
            document.spec.params[q.name].unit,
            q.value,
            float(value),
            float(s),
            q.low,
            q.high,
            q.name in at_bound,
        )
        for q, value, s in zip(unknowns.shared, values, found.sigma, strict=False)
    )
    starts = values[shared:].reshape(-1, own)
    runs = []
    for at, segment in enumerate(segments):
        start = starts[at] if at < len(starts) else model.start_state(params, segment)
        before = model.start_state(unknowns.fixed, segment, samples=max(segment.held_out, START_SAMPLES))
        after = model.run(params, start, segment.u)
        runs.append(Run(segment, start, model.run(unknowns.fixed, before, segment.u), after))
    seen, hidden = ([getattr(r, kind) for r in runs] for kind in ("seen", "hidden"))
    return Calibration(
        params=fitted,
        identification=found,
        runs=tuple(runs),
        descents=descents,
        sigma=sigma,
        rmse_seen=_rmse(seen, [r.after for r in runs]),
        rmse_hidden=_rmse(hidden, [r.after for r in runs]),
        rmse_before=_rmse(seen, [r.before for r in runs]),
        samples_seen=sum(int(np.isfinite(y).sum()) for y in seen),
        samples_hidden=sum(int(np.isfinite(y).sum()) for y in hidden),
        warnings=tuple(warnings),
    )


def _rmse(measured: Sequence[F64], simulated: Sequence[F64]) -> F64:
    rows = np.concatenate([y - said for y, said in zip(measured, simulated, strict=True)])
    return np.sqrt(_mean_square(rows))
