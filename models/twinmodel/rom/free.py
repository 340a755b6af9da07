"""A model in open loop over measured data: it sees the inputs, never the outputs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.estimator import Estimator
from twinmodel.importers.dataset import Dataset
from twinmodel.kernel.rollout import rollout, rollout_of
from twinmodel.package import tensors
from twinmodel.package.archive import ModelPackage
from twinmodel.rom.run import Trace, blank

F64 = NDArray[np.float64]
# Shorter data is simulated before a compiler could have started; the bits are the same.
_SHORT: Final = 20_000


def simulated(package: ModelPackage, dataset: Dataset, *, warm_up: int = 0, tier: str = "auto") -> Trace:
    """Simulates every segment from the model's start: the first tick shows the start itself.

    Args:
        package: the model.
        dataset: its inputs; a missing one keeps its last value, before the first its nominal one.
        warm_up: ticks at the head of each segment that are filtered instead, so that the state is right when the open
            loop begins; they are marked as settling and have no innovation.
        tier: what the filter of the warm-up runs on.
    """
    trace = blank(dataset, free=True)
    estimator = Estimator(package, tier=tier) if warm_up else None
    plan = tensors.plan(package.manifest, package.tensors)
    run = rollout_of(plan, "interpreted" if tier == "interpreted" or len(dataset.t_ns) < _SHORT else "auto")
    params = package.tensors.get("params", np.empty(0))[:, None]
    for first, end in dataset.segments:
        u = _filled(dataset.u[first:end], package.tensors["inputs_nominal"])
        begin, x0 = first, package.tensors["x0"]
        if estimator is not None:
            # The state at the last filtered tick; the open loop begins a tick later.
            begin = min(first + warm_up, end)
            x0 = _warmed(estimator, dataset, trace, first, begin)
        skipped = begin - first
        known = rollout(plan, run, x0[:, None], params, u[max(skipped - 1, 0) :])[:, :, 0]
        rows = slice(begin, end)
        trace.estimate[rows] = known[min(skipped, 1) :]
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


def _filled(u: F64, nominal: F64) -> F64:
    """Inputs without holes: the last value, before the first the nominal one."""
    rows = np.where(np.isnan(u), 0, np.arange(1, len(u) + 1)[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    return np.take_along_axis(np.vstack([nominal[None, :], u]), last, axis=0)
