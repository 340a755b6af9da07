"""A model over measured data: filtered as a gateway would, or in open loop; every tick kept, and scored.

dataset ─▶ Estimator.step, tick by tick ─▶ Trace ─▶ score (RMSE, NIS, coverage of the 90 % interval)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twinmodel.coverage import share_within_90
from twinmodel.estimator import Estimator
from twinmodel.importers.dataset import Dataset
from twinmodel.kernel.parity import canonical

F64 = NDArray[np.float64]
BOOL = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Trace:
    """What a model said at each tick; arrays of shape (ticks, p) unless told otherwise, NaN where there is nothing.

    Attributes:
        t_ns: times, shape (ticks,).
        measured: outputs as measured.
        estimate: outputs after the measurements; in open loop as simulated.
        sigma: standard deviation of `estimate`.
        prediction: outputs before the measurements; in open loop as simulated.
        innovation: measured minus prediction.
        spread: standard deviation that a measurement was expected to have about `prediction`.
        drift: score of the detectors.
        drifting, settling, in_regime: shape (ticks,).
        free: whether it is of an open loop.
    """

    t_ns: NDArray[np.int64]
    measured: F64
    estimate: F64
    sigma: F64
    prediction: F64
    innovation: F64
    spread: F64
    drift: F64
    drifting: BOOL
    settling: BOOL
    in_regime: BOOL
    free: bool

    @property
    def sha256(self) -> str:
        """Hex hash over every bit of the estimates."""
        return hashlib.sha256(canonical(self.estimate)).hexdigest()


@dataclass(frozen=True, slots=True)
class Score:
    """How well one output was met, over the ticks at which it was measured and the filter had settled.

    Attributes:
        measured: number of those ticks.
        rmse: root mean square of the innovations, in the unit of the output.
        bias: their mean.
        nis: mean square of innovations over their expected variance, 1 when the noise is right; None in open loop.
        coverage_90: share of measurements within the 90 % interval about the prediction; None in open loop.
    """

    measured: int
    rmse: float | None
    bias: float | None
    nis: float | None
    coverage_90: float | None


def filtered(estimator: Estimator, dataset: Dataset, on_tick: Callable[[int], None] | None = None) -> Trace:
    """Runs the filter over all ticks; a gap is predicted through or starts it afresh, as on a gateway.

    Args:
        estimator: where it stands; it is left after the last tick.
        dataset: of the estimator's model.
        on_tick: called after each tick with its number.

    Raises:
        InputError: VALUE_INVALID when the data begins before the estimator's last tick.
    """
    trace = blank(dataset, free=False)
    for k, t_ns in enumerate(dataset.t_ns.tolist()):
        said = estimator.step(t_ns, dataset.u[k], dataset.y[k])
        trace.estimate[k], trace.sigma[k], trace.prediction[k] = said.estimate, said.sigma, said.prediction
        trace.innovation[k], trace.spread[k], trace.drift[k] = said.innovation, said.spread, said.drift
        trace.drifting[k], trace.settling[k], trace.in_regime[k] = said.drifting, said.settling, said.in_regime
        if on_tick is not None:
            on_tick(k)
    return trace


def blank(dataset: Dataset, *, free: bool) -> Trace:
    """A trace of a dataset that nothing has been said in yet."""
    shape = dataset.y.shape
    ticks = shape[0]

    def nothing() -> F64:
        return np.full(shape, np.nan)

    return Trace(
        t_ns=dataset.t_ns,
        measured=dataset.y,
        estimate=nothing(),
        sigma=nothing(),
        prediction=nothing(),
        innovation=nothing(),
        spread=nothing(),
        drift=nothing(),
        drifting=np.zeros(ticks, bool),
        settling=np.zeros(ticks, bool),
        in_regime=np.ones(ticks, bool),
        free=free,
    )


def compared(dataset: Dataset, simulated: F64) -> Trace:
    """A trace of what another simulator gave for a dataset, shape (ticks, p)."""
    missed = dataset.y - simulated
    return replace(blank(dataset, free=True), estimate=simulated, prediction=simulated, innovation=missed)


def score(trace: Trace) -> list[Score]:
    """One score an output; ticks that settle count only where there are no others."""
    rows = ~trace.settling if not trace.settling.all() else np.ones(len(trace.t_ns), bool)
    return [_score(trace, column, rows) for column in range(trace.measured.shape[1])]


def _score(trace: Trace, column: int, rows: BOOL) -> Score:
    innovation = trace.innovation[:, column]
    known = rows & np.isfinite(innovation)
    count = int(known.sum())
    if not count:
        return Score(0, None, None, None, None)
    missed = innovation[known]
    rmse, bias = float(np.sqrt(np.mean(missed**2))), float(np.mean(missed))
    if trace.free:
        return Score(count, rmse, bias, None, None)
    relative = missed / trace.spread[known, column]
    return Score(count, rmse, bias, float(np.mean(relative**2)), share_within_90(relative))
