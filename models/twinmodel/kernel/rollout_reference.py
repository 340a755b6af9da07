"""Open-loop simulation in plain NumPy: the interpreted tier and the oracle of `rollout_lanes`; arguments: `rollout`."""

from __future__ import annotations

import numpy as np

from twinmodel.kernel.arena import DRIFT, F64, I32
from twinmodel.kernel.vm_reference import integrate, programs, run


def rollout_step(I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741, ARG001 - letters of `arena`; G: same call
    """Simulates W lanes; see `rollout_lanes.rollout_step`."""
    ticks, shared = int(K[0]), int(K[1])
    m, p = int(I[1]), int(I[2])
    u = Z.reshape(ticks, m, 1) if shared else Z.reshape(ticks, m, W)
    rows, y = S.reshape(-1, W), O.reshape(ticks, p, W)
    with np.errstate(all="ignore"):
        if I[6]:
            _ode(I, M, rows, u, y)
        else:
            _linear(I, M, rows, u, y)


def _ode(I: I32, M: F64, rows: F64, u: F64, y: F64) -> None:  # noqa: E741 - as above
    n, m, p, substeps, q, consts, registers, kind = (int(v) for v in I[:8])
    own = M[DRIFT + 2 * n + p + n * (n + 1) :]
    pool, code, W = own[4 + consts :], programs(I), y.shape[2]
    fixed = [*rows[n : n + q], *(np.full(W, v) for v in own[4 : 4 + consts])]
    R: list[F64] = [*rows[:n], *u[0], *fixed, *[np.zeros(W)] * (registers - n - m - len(fixed))]
    for t in range(len(y)):
        R[n : n + m] = [np.broadcast_to(v, W) for v in u[t]]
        run(code.readings, R, pool)
        for r, register in enumerate(code.reading_results):
            y[t, r] = R[register]
        R[:n] = integrate(code, kind, R, pool, (float(own[0]), substeps))


def _linear(I: I32, M: F64, rows: F64, u: F64, y: F64) -> None:  # noqa: E741 - as above
    n, m, p = (int(v) for v in I[:3])
    own = M[DRIFT + 2 * n + p + n * (n + 1) :]
    ends = np.cumsum([n * n, n * m, n, p * n, p * m, p])
    A, B, a, C, D, c = np.split(own[: ends[-1]], ends[:-1])
    x = list(rows[:n])
    for t in range(len(y)):
        for r in range(p):
            y[t, r] = _row(c[r], C[r * n : (r + 1) * n], x, D[r * m : (r + 1) * m], u[t])
        x = [_row(a[i], A[i * n : (i + 1) * n], x, B[i * m : (i + 1) * m], u[t]) for i in range(n)]


def _row(offset: float, states: F64, x: list[F64], inputs: F64, u: F64) -> F64:
    """Offset + states x + inputs u, summed in this order."""
    v = np.full(x[0].shape, offset)
    for k, row in enumerate(x):
        v = v + states[k] * row
    for k, row in enumerate(u):
        v = v + inputs[k] * row
    return v
