"""Proof of freshly compiled code: the same bits as the interpreted kernel on a small model that uses everything.

Run in the compiler's process, before the file gets its name: code that crashes or differs never reaches an agent.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from twinmodel.errors import ConflictError
from twinmodel.kernel.arena import I32, Plan, Step, fresh_state, plan_linear, plan_ode
from twinmodel.kernel.parity import canonical
from twinmodel.kernel.reference import KERNELS

TICKS: Final = 40
LANES: Final = (1, 8)
_TILES: Final = 2
_SEED: Final = 7
_DRIFT: Final = np.array([0.05, 0.5, 0.03, 0.06, 4.0, 0.5, 0.002, 0.03, 0.05, 1.5, 2.0])
# Registers: 0 x, 1 u, 2 the constant, then one per operation; every operation of the machine once, see `lanes.run`.
_RATES: Final = ((5, 3, 0, 0), (0, 4, 3, 2), (6, 5, 4, 4), (1, 6, 1, 0), (3, 7, 6, 5), (7, 8, 7, 2), (4, 9, 2, 2),
                 (8, 10, 8, 9), (2, 11, 10, 2))  # fmt: skip


def prove(family: str, step: Step) -> None:
    """Raises ConflictError PARITY_FAILED when the code gives one bit that the interpreted kernel does not."""
    plan = _linear() if family == "linear" else _ode()
    for lanes in LANES:
        if _run(plan, step, lanes) != _run(plan, KERNELS[family], lanes):
            raise ConflictError("PARITY_FAILED", f"the compiled {family} kernel gives other bits with {lanes} lanes")


def _run(plan: Plan, step: Step, lanes: int) -> list[bytes]:
    """State and results of every tick over hostile inputs: holes, muted detectors, widened noise."""
    chance = np.random.default_rng(_SEED)
    layout = plan.layout
    n, m, p = layout.n, layout.m, layout.p
    state = fresh_state(layout, np.full(n, 0.3), np.eye(n), np.ones(m), lanes, _TILES)
    results = np.zeros(layout.output_rows * lanes * _TILES)
    seen, models = [], np.zeros(_TILES, np.int32)
    for _ in range(TICKS):
        coming = chance.normal(size=(_TILES, layout.input_rows, lanes)) * 2
        coming[:, : m + p][chance.random((_TILES, m + p, lanes)) < 0.2] = np.nan
        coming[:, m + p] = (chance.random((_TILES, lanes)) < 0.1) * 3.0
        coming[:, m + p + 1] = 1.0
        coming[:, m + p + 2] = chance.random((_TILES, lanes)) < 0.05
        scratch = np.full(layout.scratch_rows * lanes, np.nan)
        step(plan.integers, plan.reals, models, state, coming.ravel(), results, scratch, lanes)
        seen += [canonical(state), canonical(results)]
    return seen


def _linear() -> Plan:
    chance = np.random.default_rng(_SEED)
    n, m, p = 3, 2, 2
    tensors = _noise(n, p) | {
        "A": chance.normal(size=(n, n)) * 0.4, "B": chance.normal(size=(n, m)), "a": chance.normal(size=n),
        "C": chance.normal(size=(p, n)), "D": chance.normal(size=(p, m)), "c": chance.normal(size=p),
    }  # fmt: skip
    return plan_linear(tensors, _DRIFT)


def _ode() -> Plan:
    tensors = _noise(1, 1) | {"params": np.empty(0), "consts": np.array([2.0]), "inputs_nominal": np.ones(1)}
    programs: tuple[I32, I32, I32, I32] = (
        np.array(_RATES, np.int32),
        np.array([11], np.int32),
        np.array([(2, 3, 0, 2)], np.int32),
        np.array([3], np.int32),
    )
    return plan_ode(tensors, programs, 12, (10**9, 3), _DRIFT)


def _noise(n: int, p: int) -> dict[str, np.ndarray]:
    return {
        "low": np.full(n, -30.0), "high": np.full(n, 30.0), "R": np.linspace(0.5, 1.5, p),
        "Q": np.eye(n) * 0.1 + 0.01, "Q_held": np.eye(n) * 0.2 + 0.01,
    }  # fmt: skip
