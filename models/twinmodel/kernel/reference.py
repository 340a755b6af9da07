"""The same kernels in plain NumPy: the interpreted tier, and the oracle the compiled ones are tested against.

Only + - * / sqrt and comparisons, each correctly rounded by IEEE 754, in the order the compiled kernels do
them; so both tiers give the same bits. A row is an array of shape (T, W), tiles by lanes; a register of the
op-list holds (points, T, W). Symbols and offsets: see `arena`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from twinmodel.kernel import drift_reference as drift
from twinmodel.kernel.arena import DRIFT, F64, I32, WATCH, Step, packed
from twinmodel.kernel.rollout_reference import rollout_step
from twinmodel.kernel.vm_reference import integrate, programs, run


class Tiles:
    """Row views of one call: x, P, detectors and results as lists of (T, W) arrays."""

    def __init__(self, I: I32, M: F64, K: I32, arrays: tuple[F64, F64, F64], W: int, own: int) -> None:  # noqa: E741 - letters of `arena`
        n, m, p = (int(v) for v in I[:3])
        nP = n * (n + 1) // 2
        # One column of reals a tile, shape (reals, T, 1), so that they meet rows of shape (T, W).
        head, count = DRIFT + 2 * n, p + 2 * nP + own
        if I[5] and not I[6]:
            # A linear model of each lane: coefficients of all tiles follow the settings and bounds of all models.
            first = len(M) - len(K) * count * W
            coefficients = M[first:].reshape(-1, count, W).transpose(1, 0, 2)
            M = M[:first].reshape(-1, head)[K].T[:, :, None]
        else:
            M = M.reshape(-1, head + count)[K].T[:, :, None]
            M, coefficients = M[:head], M[head:]
        self.n, self.m, self.p, self.M = n, m, p, M
        rows = (n + nP + m + WATCH * p + 2 + int(I[4]), m + p + 3, 6 * p + 1)
        S, Z, O = (a.reshape(-1, k, W).transpose(1, 0, 2) for a, k in zip(arrays, rows, strict=True))  # noqa: E741
        self.x, self.P, self.u = S[:n], S[n : n + nP], S[n + nP : n + nP + m]
        flag = n + nP + m + WATCH * p
        self.watch = S[n + nP + m : flag].reshape(p, WATCH, *S.shape[1:])
        self.flag, self.bad, self.params = S[flag], S[flag + 1], S[flag + 2 :]
        self.zu, self.y = Z[:m], Z[m : m + p]
        self.fq, self.fr, self.mute = Z[m + p], Z[m + p + 1], Z[m + p + 2]
        self.estimate, self.sigma, self.prediction = O[:p], O[p : 2 * p], O[2 * p : 3 * p]
        self.innovation, self.score = O[3 * p : 4 * p], O[4 * p : 5 * p]
        self.spread, self.nis = O[5 * p : 6 * p], O[6 * p]
        self.low, self.high = M[DRIFT : DRIFT + n], M[DRIFT + n : DRIFT + 2 * n]
        self.R, self.Q, self.Q_held, self.own = np.split(coefficients, np.cumsum([p, nP, nP]))

    def clip(self) -> None:
        """Keeps x in [low, high]."""
        for i in range(self.n):
            v = np.where(self.x[i] < self.low[i], self.low[i], self.x[i])
            self.x[i] = np.where(v > self.high[i], self.high[i], v)

    def hold(self) -> None:
        """New inputs where there are some, those of the tick before elsewhere."""
        for k in range(self.m):
            self.u[k] = np.where(self.zu[k] == self.zu[k], self.zu[k], self.u[k])


def linear_step(I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741, ARG001 - G: same call
    """One tick of the Kalman filter: predict, then one scalar update an output."""
    with np.errstate(all="ignore"):
        n, m, p = (int(v) for v in I[:3])
        kalman(Tiles(I, M, K, (S, Z, O), W, (n + p) * (n + m + 1)))


def kalman(t: Tiles) -> None:
    """The filter itself, on rows; also run on traced rows, to write the same operations as code."""
    n, m, p = t.n, t.m, t.p
    ends = np.cumsum([n * n, n * m, n, p * n, p * m, p])
    A, B, a, C, D, c = np.split(t.own[: ends[-1]], ends[:-1])
    A, B, C, D = (v.reshape(k, -1, *v.shape[1:]) for v, k in ((A, n), (B, n), (C, p), (D, p)))

    def cov(i: int, j: int) -> F64:
        row: F64 = t.P[packed(n, i, j) if i <= j else packed(n, j, i)]
        return row

    def output(r: int) -> F64:
        y: F64 = np.full_like(t.flag, c[r])
        for k in range(n):
            y = y + C[r, k] * t.x[k]
        for k in range(m):
            y = y + D[r, k] * t.u[k]
        return y

    def quadratic(r: int) -> F64:
        v = np.zeros_like(t.flag)
        for i in range(n):
            for j in range(i, n):
                w = C[r, i] * C[r, j]
                v = v + (w if i == j else 2.0 * w) * cov(i, j)
        return np.where(v > 0.0, v, 0.0)

    x = []
    for i in range(n):
        v = np.full_like(t.flag, a[i])
        for k in range(n):
            v = v + A[i, k] * t.x[k]
        for k in range(m):
            v = v + B[i, k] * t.u[k]
        x.append(v)
    _propagate(t, A)
    for i in range(n):
        t.x[i] = x[i]
    t.clip()
    t.hold()
    for r in range(p):
        t.prediction[r] = output(r)
        t.spread[r] = np.sqrt(quadratic(r) + t.R[r] * t.fr)
    t.nis[:] = 0.0
    for r in range(p):
        variance = t.R[r] * t.fr
        h = []
        for i in range(n):
            v = np.zeros_like(t.flag)
            for k in range(n):
                v = v + cov(k, i) * C[r, k]
            h.append(v)
            variance = variance + C[r, i] * v
        t.estimate[r] = output(r)
        nu, inv = drift.observe(t, r, variance)
        K = [h[i] * inv for i in range(n)]
        for i in range(n):
            t.x[i] = t.x[i] + K[i] * nu
        for i in range(n):
            for j in range(i, n):
                t.P[packed(n, i, j)] = cov(i, j) - K[i] * h[j]
    drift.finish(t)
    for r in range(p):
        t.estimate[r] = output(r)
        t.sigma[r] = np.sqrt(quadratic(r))


def _propagate(t: Tiles, A: F64) -> None:
    """P = A P A' + Q."""
    n = t.n

    def cov(i: int, j: int) -> F64:
        row: F64 = t.P[packed(n, i, j) if i <= j else packed(n, j, i)]
        return row

    AP = [[np.zeros_like(t.flag) for _ in range(n)] for _ in range(n)]
    for i in range(n):
        for j in range(n):
            for k in range(n):
                AP[i][j] = AP[i][j] + A[i, k] * cov(k, j)
    for i in range(n):
        for j in range(i, n):
            q = packed(n, i, j)
            v = t.Q[q] + t.fq * t.Q_held[q]
            for k in range(n):
                v = v + AP[i][k] * A[j, k]
            t.P[q] = v


def ode_step(I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741, ARG001 - G: same call
    """One tick of the unscented Kalman filter; see `ode.ode_step`."""
    with np.errstate(all="ignore"):
        _ode(I, Tiles(I, M, K, (S, Z, O), W, 4 + int(I[5]) + int(I[8])))


def _ode(I: I32, t: Tiles) -> None:  # noqa: E741
    n, m, p = t.n, t.m, t.p
    substeps, q, consts, registers, kind = (int(v) for v in I[3:8])
    pool = t.own[4 + consts :]
    code = programs(I)
    h, spread, w0, w1 = t.own[:4]
    shape = (2 * n + 1, *t.flag.shape)
    R: list[F64] = [np.zeros(shape)] * registers
    fixed = [*t.params, *t.own[4 : 4 + consts]]
    R[n + m : n + m + q + consts] = [np.broadcast_to(v, shape) for v in fixed]

    def points() -> None:
        lower = cholesky(t)
        for i in range(n):
            x = np.empty(shape)
            x[0] = t.x[i]
            for j in range(n):
                v = spread * lower[i][j] if j <= i else np.zeros_like(t.flag)
                x[1 + j] = t.x[i] + v
                x[1 + n + j] = t.x[i] - v
            R[i] = x
        for k in range(m):
            R[n + k] = np.broadcast_to(t.u[k], shape)

    def mean(row: F64) -> F64:
        v = row[1]
        for k in range(2, len(row)):
            v = v + row[k]
        return np.asarray(w0 * row[0] + w1 * v)

    def cov(a: F64, b: F64) -> F64:
        products = a * b
        v = products[1]
        for k in range(2, len(products)):
            v = v + products[k]
        return np.asarray(w0 * products[0] + w1 * v)

    t.bad[:] = 0.0
    points()
    x = integrate(code, kind, R, pool, (h, substeps))
    for i in range(n):
        t.x[i] = mean(x[i])
        x[i] = x[i] - t.x[i]
    for i in range(n):
        for j in range(i, n):
            q = packed(n, i, j)
            t.P[q] = cov(x[i], x[j]) + (t.Q[q] + t.fq * t.Q_held[q])
    t.clip()
    t.hold()
    points()
    x = R[:n]
    run(code.readings, R, pool)
    y = [R[r] for r in code.reading_results]
    for r in range(p):
        t.prediction[r] = mean(y[r])
        y[r] = y[r] - t.prediction[r]
        t.estimate[r] = t.prediction[r]
    x = [x[i] - t.x[i] for i in range(n)]
    xy = [[cov(x[i], y[r]) for r in range(p)] for i in range(n)]
    yy = {(r, q): cov(y[r], y[q]) for r in range(p) for q in range(r, p)}
    t.nis[:] = 0.0
    for r in range(p):
        t.spread[r] = np.sqrt(np.where(yy[r, r] > 0.0, yy[r, r], 0.0) + t.R[r] * t.fr)
    for r in range(p):
        condition(t, r, xy, yy)
    diverged = t.bad.copy()
    drift.finish(t)
    for r in range(p):
        t.sigma[r] = np.sqrt(np.where(yy[r, r] > 0.0, yy[r, r], 0.0))
    t.bad[:] = np.where(diverged > 0.0, 1.0, t.bad)


def cholesky(t: Tiles) -> list[list[F64]]:
    """Lower factor of P; a pivot of 0 gives a column of 0, a negative one marks the lane bad."""
    n = t.n
    lower = [[np.zeros_like(t.flag) for _ in range(n)] for _ in range(n)]
    for j in range(n):
        pivot = t.P[packed(n, j, j)]
        v = pivot
        for k in range(j):
            v = v - lower[j][k] * lower[j][k]
        t.bad[:] = np.where(v >= -1e-9 * np.abs(pivot), t.bad, 1.0)
        root = np.sqrt(np.where(v > 0.0, v, 0.0))
        lower[j][j] = root
        for i in range(j + 1, n):
            v = t.P[packed(n, j, i)]
            for k in range(j):
                v = v - lower[i][k] * lower[j][k]
            lower[i][j] = np.where(root > 0.0, v / root, 0.0)
    return lower


def condition(t: Tiles, r: int, xy: list[list[F64]], yy: dict[tuple[int, int], F64]) -> None:
    """Conditions the joint Gaussian of x and the outputs on the measurement of output r."""
    n, p = t.n, t.p
    c = [yy[(r, q) if r <= q else (q, r)] for q in range(p)]
    nu, inv = drift.observe(t, r, c[r] + t.R[r] * t.fr)
    K = [xy[i][r] * inv for i in range(n)]
    for i in range(n):
        t.x[i] = t.x[i] + K[i] * nu
    for i in range(n):
        for j in range(i, n):
            q = packed(n, i, j)
            t.P[q] = t.P[q] - K[i] * xy[j][r]
    for i in range(n):
        xy[i] = [xy[i][q] - K[i] * c[q] for q in range(p)]
    for q in range(p):
        t.estimate[q] = t.estimate[q] + (c[q] * inv) * nu
        for s in range(q, p):
            yy[q, s] = yy[q, s] - (c[q] * inv) * c[s]


KERNELS: Final[dict[str, Step]] = {"linear": linear_step, "ode": ode_step, "rollout": rollout_step}
