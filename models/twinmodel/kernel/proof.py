"""Proof of freshly compiled code: the same bits as the interpreted kernel on a small model that uses everything.

Run in the compiler's process, before the file gets its name: code that crashes or differs never reaches an agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from twinmodel.errors import ConflictError
from twinmodel.kernel.arena import I32, Plan, Step, fresh_state, own_plan, own_reals, plan_linear, plan_ode
from twinmodel.kernel.ops import COLUMNS, INTEGRATORS, ROS2
from twinmodel.kernel.parity import canonical
from twinmodel.kernel.reference import KERNELS
from twinmodel.kernel.rollout import rollout

TICKS: Final = 16
LANES: Final = (1, 8)
_TILES: Final = 2
_SEED: Final = 7
_DRIFT: Final = np.array([0.05, 0.5, 0.03, 0.06, 4.0, 0.5, 0.002, 0.03, 0.05, 1.5, 2.0])
# Two states, one input, one parameter, one constant: registers 0..4; then every operation of the machine once.
_POOL: Final = (
    0.1, -0.2, 0.5, -0.4, 0.3, 0.2,
    3.0, -1.0, 0.0, 2.0, 0.5, -0.5, 1.0,
    2.0, 2.0, -1.0, 1.0, -2.0, 2.0, 0.1, 0.2, -0.3, 0.4,
)  # fmt: skip
_RATES: Final = (
    (5, 5, 0), (0, 6, 5, 4), (6, 7, 6), (1, 8, 2, 0), (3, 9, 8, 7), (7, 10, 9, 4), (4, 11, 4), (8, 12, 10, 11),
    (11, 13, 0), (12, 14, 1), (17, 15, 13, 2, 0, 2), (9, 17, 15), (10, 18, 6), (13, 19, 16), (14, 20, 6, 3),
    (15, 21, 0, 1), (16, 22, 21, 17, 18), (18, 23, 14, 0, 6), (19, 24, 13, 1, 13), (2, 25, 12, 4), (0, 26, 19, 20),
    (0, 27, 22, 23), (1, 28, 26, 27), (7, 29, 28, 4), (8, 30, 29, 11), (1, 31, 30, 0), (0, 32, 24, 25), (1, 33, 32, 1),
)  # fmt: skip
_READINGS: Final = ((2, 5, 0, 4),)
_JACOBIAN: Final = ((11, 5, 1), (4, 6, 4), (12, 7, 0))
_REGISTERS: Final = 34


def prove(family: str, step: Step) -> None:
    """Raises ConflictError PARITY_FAILED when the code gives one bit that the interpreted kernel does not."""
    methods = [_ode(kind) for kind in INTEGRATORS.values()]
    plans = {"linear": [_linear(), own_plan(_linear())], "ode": methods, "rollout": [_linear(), *methods]}[family]
    for plan in plans:
        prove_on(family, plan, step)


def prove_on(family: str, plan: Plan, step: Step) -> None:
    """The same for one plan of the family, or for its free run when the family is `rollout`."""
    run = _roll if family == "rollout" else _run
    for lanes in LANES:
        if run(plan, step, lanes) != run(plan, KERNELS[family], lanes):
            raise ConflictError("PARITY_FAILED", f"the compiled {family} kernel gives other bits with {lanes} lanes")


def _roll(plan: Plan, run: Step, lanes: int) -> list[bytes]:
    """Outputs of free runs, with inputs for all lanes and for each; one lane more than blocks hold evenly."""
    chance = np.random.default_rng(_SEED)
    layout, lanes = plan.layout, 8 * lanes + 1
    x0 = chance.normal(size=(layout.n, lanes))
    params = chance.normal(size=(layout.q, lanes))
    u = chance.normal(size=(TICKS, layout.m, lanes))
    return [canonical(rollout(plan, run, x0, params, given)) for given in (u, np.ascontiguousarray(u[:, :, 0]))]


def _run(plan: Plan, step: Step, lanes: int) -> list[bytes]:
    """State and results of every tick over hostile inputs: holes, muted detectors, widened noise."""
    chance = np.random.default_rng(_SEED)
    layout = plan.layout
    n, m, p = layout.n, layout.m, layout.p
    state = fresh_state(plan, np.full(n, 0.3), np.eye(n), np.ones(m), lanes, _TILES)
    results = np.zeros(layout.output_rows * lanes * _TILES)
    seen, models = [], np.zeros(_TILES, np.int32)
    reals = plan.reals
    if plan.family == "linear" and plan.integers[5]:
        reals = own_reals([plan], models, np.zeros((_TILES, lanes), np.int64))
    for _ in range(TICKS):
        coming = chance.normal(size=(_TILES, layout.input_rows, lanes)) * 2
        coming[:, : m + p][chance.random((_TILES, m + p, lanes)) < 0.2] = np.nan
        coming[:, m + p] = (chance.random((_TILES, lanes)) < 0.1) * 3.0
        coming[:, m + p + 1] = 1.0
        coming[:, m + p + 2] = chance.random((_TILES, lanes)) < 0.05
        scratch = np.full(layout.scratch_rows * lanes, np.nan)
        step(plan.integers, reals, models, state, coming.ravel(), results, scratch, lanes)
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


def _ode(integrator: int) -> Plan:
    own = {"params": np.array([0.7]), "consts": np.array([2.0]), "pool": np.array(_POOL), "inputs_nominal": np.ones(1)}
    slopes = (_JACOBIAN, (6, 5, 7, 6)) if integrator == ROS2 else ((), ())
    programs = [
        _rows(_RATES), np.array([31, 33], np.int32), _rows(_READINGS), np.array([5], np.int32),
        _rows(slopes[0]), np.array(slopes[1], np.int32),
    ]  # fmt: skip
    return plan_ode(_noise(2, 1) | own, programs, _REGISTERS, (10**9, 3, integrator), _DRIFT)


def _rows(rows: Sequence[tuple[int, ...]]) -> I32:
    code = np.zeros((len(rows), COLUMNS), np.int32)
    for at, row in enumerate(rows):
        code[at, : len(row)] = row
    return code


def _noise(n: int, p: int) -> dict[str, np.ndarray]:
    return {
        "low": np.full(n, -30.0), "high": np.full(n, 30.0), "R": np.linspace(0.5, 1.5, p),
        "Q": np.eye(n) * 0.1 + 0.01, "Q_held": np.eye(n) * 0.2 + 0.01,
    }  # fmt: skip
