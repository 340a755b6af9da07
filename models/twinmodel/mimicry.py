"""Whether a change of the model could pass for a lie of one sensor: tried out on the model itself.

The signatures of model changes are computed, not tabled: each parameter (of a linear model, the drive of each state) is
changed a little in a copy of the model, which then plays the plant for the filter that ignores the sensor. A change
that moves the sensor as far as was seen, yet leaves the other outputs as predicted, could be the cause just as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from twinmodel.kernel.arena import DRIFT, F64, Plan, Step
from twinmodel.kernel.reference import KERNELS
from twinmodel.residuals import LIMIT

WINDOW: Final = 60
WINDOWS: Final = 10
_CHANGE: Final = 0.05
_SILENT: Final = 1e-6


def hidden_from_others(
    plan: Plan,
    step: Step,
    changing: Sequence[str],
    state: F64,
    coming: F64,
    sensor: int,
    outputs: Sequence[int],
    loudness: float,
) -> str | None:
    """The first change of the model that the other outputs would not show, "" when there is none.

    Args:
        plan: the model.
        step: a compiled kernel; None is returned for an interpreted one, which is too slow for some 600 ticks.
        changing: names of what may change: parameters, states for a linear model.
        state: rows of the filter without the sensor.
        coming: inputs to go on with.
        sensor: the output under suspicion.
        outputs: those that are measured.
        loudness: how far the sensor is off, in sigma of its mean over a window.
    """
    if step is KERNELS[plan.family]:
        return None
    names, plants, reals = _changes(plan, changing, state)
    if not names:
        return ""
    count = len(names) + 1
    layout = plan.layout
    m, p = layout.m, layout.p
    models = np.arange(count, dtype=np.int32) if len(reals) > len(plan.reals) else np.zeros(count, np.int32)
    watchers, same = np.tile(state, count), np.zeros(count, np.int32)
    told = np.tile(np.where(np.arange(len(coming)) < m, coming, 0.0), (count, 1))
    told[:, m + p + 1 :] = 1.0
    played, watched = np.zeros(layout.output_rows * count), np.zeros(layout.output_rows * count)
    scratch = np.zeros(layout.scratch_rows)
    others = [j for j in outputs if j != sensor]
    quietest = np.full(count, np.inf)
    for _ in range(WINDOWS):
        total = np.zeros((count, p))
        for _ in range(WINDOW):
            told[:, m : m + p] = np.nan
            step(plan.integers, reals, models, plants, told.ravel(), played, scratch, 1)
            seen = played.reshape(count, -1)[:, 2 * p : 3 * p]
            told[:, [m + j for j in others]] = seen[:, others]
            step(plan.integers, plan.reals, same, watchers, told.ravel(), watched, scratch, 1)
            rows = watched.reshape(count, -1)
            total += (seen - rows[:, 2 * p : 3 * p]) / rows[:, 5 * p : 6 * p]
        shift = np.abs(total - total[0]) / np.sqrt(WINDOW)
        moved = shift[:, sensor]
        # Scaled to what was seen of the sensor; a change that does not move it explains nothing.
        shown = np.where(moved > _SILENT, shift[:, others].max(axis=1) * loudness / np.maximum(moved, _SILENT), np.inf)
        quietest = np.minimum(quietest, shown)
    hidden = np.flatnonzero(~(quietest[1:] >= LIMIT))
    return names[int(hidden[0])] if len(hidden) else ""


def _changes(plan: Plan, changing: Sequence[str], state: F64) -> tuple[list[str], F64, F64]:
    """Names of the changes; states of all plants, the unchanged one first; and their models."""
    layout = plan.layout
    if plan.family == "linear":
        n, m = layout.n, layout.m
        at = DRIFT + 2 * n + layout.p + 2 * layout.pairs + n * n + n * m
        reals = np.tile(plan.reals, (n + 1, 1))
        sizes = np.sqrt([state[n + i * n - i * (i - 1) // 2] for i in range(n)])
        reals[1:, at : at + n] += np.diag(np.maximum(sizes, _SILENT) * _CHANGE)
        return [f"a disturbance of {name}" for name in changing], np.tile(state, n + 1), reals.ravel()
    first = layout.params
    able = [k for k in range(first, layout.state_rows) if state[k] != 0.0]
    plants = np.tile(state, (len(able) + 1, 1))
    for k, at in enumerate(able, 1):
        plants[k, at] *= 1.0 + _CHANGE
    return [f"a change of {changing[at - first]}" for at in able], plants.ravel(), plan.reals
