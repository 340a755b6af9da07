"""Parity: a fixed run of a model whose every bit is hashed, to prove that a machine computes what the builder did."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from twinmodel.kernel.arena import F64, Plan, Step, fresh_state

TICKS: Final = 16
TICKS_MAX: Final = 64
_MULTIPLIER: Final = 6364136223846793005
_INCREMENT: Final = 1442695040888963407


def canonical(values: F64) -> bytes:
    """Bytes of an array, little endian, with one bit pattern for every NaN."""
    return np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()


def run_hash(plan: Plan, step: Step, start: tuple[F64, F64, F64], u: F64, y: F64) -> str:
    """Hex SHA-256 over state and results of every tick.

    Args:
        plan: the model.
        step: the kernel of one tier.
        start: x0, P0 and the inputs held before the first tick.
        u: inputs, shape (ticks, m).
        y: measurements, NaN where missing, shape (ticks, p).
    """
    digest = hashlib.sha256()
    for state, results in _run(plan, step, start, u, y):
        digest.update(canonical(state))
        digest.update(canonical(results))
    return digest.hexdigest()


def vector(plan: Plan, step: Step, start: tuple[F64, F64, F64], widths: F64, sigmas: F64) -> tuple[F64, F64]:
    """Inputs and measurements of a parity run: inputs wander about their start, outputs follow with noise.

    Args:
        plan: the model.
        step: kernel that predicts what the outputs would be.
        start: x0, P0 and nominal inputs.
        widths: how far each input wanders.
        sigmas: noise of each output.
    """
    layout = plan.layout
    count = TICKS * (layout.m + layout.p)
    noise = np.array(_uniform(count)).reshape(TICKS, -1)
    u = start[2] + widths * noise[:, : layout.m]
    missing = np.full((TICKS, layout.p), np.nan)
    free = [results[2 * layout.p : 3 * layout.p].copy() for _, results in _run(plan, step, start, u, missing)]
    y = np.array(free) + 2.0 * sigmas * noise[:, layout.m :]
    y[5::7, 0] = np.nan
    u[3::5, :1] = np.nan
    return u, y


def _run(plan: Plan, step: Step, start: tuple[F64, F64, F64], u: F64, y: F64) -> list[tuple[F64, F64]]:
    layout = plan.layout
    state = fresh_state(plan, *start)
    results, scratch = np.zeros(layout.output_rows), np.zeros(layout.scratch_rows)
    trace, models = [], np.zeros(1, np.int32)
    for tick in range(len(u)):
        coming = np.concatenate([u[tick], y[tick], [float(tick % 4 == 3), 1.0, 0.0]])
        step(plan.integers, plan.reals, models, state, coming, results, scratch, 1)
        trace.append((state.copy(), results.copy()))
    return trace


def _uniform(count: int) -> list[float]:
    """Numbers in [-1, 1) of a fixed linear congruential sequence; no library may change them."""
    state, values = 1, []
    for _ in range(count):
        state = (state * _MULTIPLIER + _INCREMENT) % 2**64
        values.append((state >> 11) / 2.0**52 - 1.0)
    return values
