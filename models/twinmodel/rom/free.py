"""A model in open loop over measured data: it sees the inputs, never the outputs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.estimator import Estimator
from twinmodel.importers.dataset import Dataset
from twinmodel.kernel.bank import Bank
from twinmodel.kernel.reference import KERNELS
from twinmodel.package import tensors
from twinmodel.package.archive import ModelPackage
from twinmodel.rom.run import Trace, blank

F64 = NDArray[np.float64]
_NOISE: Final = ("Q", "Q_held", "P0")


def simulated(package: ModelPackage, dataset: Dataset, *, warm_up: int = 0, tier: str = "auto") -> Trace:
    """Simulates every segment from the model's start.

    Args:
        package: the model.
        dataset: its inputs; a missing one keeps its last value, before the first its nominal one.
        warm_up: ticks at the head of each segment that are filtered instead, so that the state is right when the open
            loop begins; they are marked as settling and have no innovation.
        tier: what the filter of the warm-up runs on.
    """
    trace = blank(dataset, free=True)
    estimator = Estimator(package, tier=tier) if warm_up else None
    for first, end in dataset.segments:
        begin, x0 = first, package.tensors["x0"]
        u = _filled(dataset.u[first:end], package.tensors["inputs_nominal"])
        if estimator is not None:
            begin = min(first + warm_up, end)
            x0 = _warmed(estimator, dataset, trace, first, begin)
        rows = slice(begin, end)
        trace.estimate[rows] = _rollout(package, x0, u[begin - first :], u[max(begin - first - 1, 0)])
        trace.prediction[rows] = trace.estimate[rows]
        trace.innovation[rows] = dataset.y[rows] - trace.estimate[rows]
    return trace


def _warmed(estimator: Estimator, dataset: Dataset, trace: Trace, first: int, begin: int) -> F64:
    """The state after filtering the head of a segment."""
    for k in range(first, begin):
        said = estimator.step(int(dataset.t_ns[k]), dataset.u[k], dataset.y[k])
        trace.estimate[k], trace.sigma[k], trace.prediction[k] = said.estimate, said.sigma, said.prediction
        trace.settling[k] = True
    return estimator.state


def _rollout(package: ModelPackage, x0: F64, u: F64, before: F64) -> F64:
    """Outputs at each tick, shape (ticks, p); `x0` and `before` are state and inputs of the tick before the first."""
    silent = dict(package.tensors) | {name: np.zeros_like(package.tensors[name]) for name in _NOISE}
    plan = tensors.plan(package.manifest, silent)
    bank = Bank([plan], [0], [(x0, silent["P0"], before)], KERNELS[plan.family], lanes=1)
    nothing = np.full((1, plan.layout.p), np.nan)
    found = np.empty((len(u), plan.layout.p))
    for k in range(len(u)):
        bank.set(u[k : k + 1], nothing, mute=1.0)
        bank.tick()
        found[k] = bank.estimate[0]
    return found


def _filled(u: F64, nominal: F64) -> F64:
    """Inputs without holes: the last value, before the first the nominal one."""
    rows = np.where(np.isnan(u), 0, np.arange(1, len(u) + 1)[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    return np.take_along_axis(np.vstack([nominal[None, :], u]), last, axis=0)
