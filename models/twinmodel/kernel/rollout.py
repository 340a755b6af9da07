"""Open-loop simulation of many lanes in one call: where calibration and free runs spend their time.

    run = rollout_of(plan)                          the best tier that can be had
    y = rollout(plan, run, x0, params, u)           y[t] = h(x[t], u[t]); x[t+1] = one tick from x[t], u[t] held

The tick is the one the filters predict by, but nothing is clipped to bounds and there is no noise: a lane that leaves
the domain of its equations gives NaN or infinity from there on. A lane gets the same bits alone and among others, in
every tier. The kernels have the arguments of `arena.Step`:

    K  ticks | 1 where all lanes share the inputs | lanes a block     S  x0 rows | parameter rows, of N lanes
    Z  inputs, [ticks, m] or [ticks, m, N]                            O  outputs [ticks, p, N]        W  N
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np

from twinmodel.errors import ConflictError, StorageError
from twinmodel.kernel import warmup
from twinmodel.kernel.arena import F64, Plan, Step
from twinmodel.kernel.ops import ROS2
from twinmodel.kernel.reference import KERNELS

Tier = Literal["auto", "interpreted", "vm", "jit"]
# Lanes that go through all ticks together: enough to pay for reading the op-list, few enough for the fast cache.
BLOCK: Final = 64


def rollout(plan: Plan, run: Step, x0: F64, params: F64, u: F64) -> F64:
    """Simulates N lanes of a model.

    Args:
        plan: the model, of any family.
        run: its rollout kernel, see `rollout_of`.
        x0: start states, shape (n, N).
        params: parameters of each lane, shape (q, N); ignored by the linear family, which has none.
        u: inputs of every tick, shape (ticks, m) for all lanes alike or (ticks, m, N); no value may be missing.

    Returns:
        Outputs, shape (ticks, p, N).

    Raises:
        ValueError: when shapes contradict the model or each other.
    """
    layout = plan.layout
    n, m, q, lanes = layout.n, layout.m, layout.q, x0.shape[-1]
    if x0.shape != (n, lanes) or u.shape not in {(len(u), m), (len(u), m, lanes)}:
        raise ValueError(f"start states {x0.shape} and inputs {u.shape} do not fit a model of {n} states, {m} inputs")
    if q and params.shape != (q, lanes):
        raise ValueError(f"parameters have shape {params.shape}, not {(q, lanes)}")
    block = min(lanes, BLOCK)
    rows = np.concatenate([x0, params[:q]]) if q else x0
    start = np.ascontiguousarray(rows, np.float64).ravel()
    inputs = np.ascontiguousarray(u, np.float64).ravel()
    outputs = np.empty((len(u), layout.p, lanes))
    scratch = np.empty(scratch_rows(plan) * block)
    about = np.array([len(u), u.ndim == 2, block], np.int32)
    if outputs.size:
        run(plan.integers, plan.reals, about, start, inputs, outputs.reshape(-1), scratch, lanes)
    return outputs


def scratch_rows(plan: Plan) -> int:
    """Rows of the scratch array, in lanes of a block."""
    layout = plan.layout
    matrix = 2 * layout.n * layout.n if layout.integrator == ROS2 else 0
    return layout.registers + 3 * layout.n + matrix + layout.m


def rollout_of(plan: Plan, tier: Tier = "auto", cache_dir: Path | None = None) -> Step:
    """The rollout kernel of a model.

    Args:
        plan: the model.
        tier: `jit` is generated for the signature of the model, in seconds; `vm` serves all models and takes a minute
            once; `auto` takes the fastest that can be had here.
        cache_dir: where compiled kernels are kept, see `warmup.cache_folder`.

    Raises:
        StorageError: STATE_INVALID when a compiled tier was demanded and there is no private folder to keep it in.
        ConflictError: EXTRA_MISSING when it was demanded and numba is not installed; KERNEL_TOO_LARGE when `jit` was
            demanded of a model that `vm` serves better.
    """
    if tier == "interpreted":
        return KERNELS["rollout"]
    wanted: dict[str, tuple[Plan | None, ...]] = {"jit": (plan,), "vm": (None,), "auto": (plan, None)}
    for one in wanted[tier]:
        try:
            return warmup.compile_now("rollout", cache_dir, one)
        except (StorageError, ConflictError):
            if tier != "auto":
                raise
    return KERNELS["rollout"]
