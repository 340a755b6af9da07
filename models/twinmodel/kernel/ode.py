"""The compiled unscented Kalman filter of the `ode` family; imported only by `compile`.

An unscented filter rather than an extended one: its 2n + 1 points are lanes of the op-list machine, so it costs
no more than finite differences would, needs no Jacobian, and is right to second order where sqrt bends near an
empty tank. Symbols: x state, P covariance, u input, y measurement, Q R noise, K gain, W lanes of a tile.
"""

# Comparisons are written out: min, max and isnan of numba and NumPy differ in NaN and in the sign of zero.
# ruff: noqa: FURB136

from __future__ import annotations

import math

from twinmodel.kernel import ops
from twinmodel.kernel.arena import DRIFT, F64, HEADER, I32, WATCH
from twinmodel.kernel.drift import finish, observe
from twinmodel.kernel.lanes import clip, hold, kernel
from twinmodel.kernel.vm import integrate, readings_at, run


@kernel
def _sigma_points(S: F64, s: int, n: int, G: F64, gl: int, gr: int, spread: float, bad: int, W: int) -> None:
    """Cholesky factor of P into G[gl:], then the 2n + 1 points into the state registers at G[gr:]."""
    P = s + n * W
    L = (2 * n + 1) * W
    for j in range(n):
        d = P + (j * n - j * (j - 1) // 2) * W
        dl = gl + (j * (j + 1) // 2 + j) * W
        for w in range(W):
            v = S[d + w]
            for k in range(j):
                c = G[gl + (j * (j + 1) // 2 + k) * W + w]
                v = v - c * c
            S[bad + w] = S[bad + w] if v >= -1e-9 * abs(S[d + w]) else 1.0
            G[dl + w] = math.sqrt(v) if v > 0.0 else 0.0
        for i in range(j + 1, n):
            q = P + (j * n - j * (j - 1) // 2 + i - j) * W
            il = gl + (i * (i + 1) // 2) * W
            for w in range(W):
                v = S[q + w]
                for k in range(j):
                    v = v - G[il + k * W + w] * G[gl + (j * (j + 1) // 2 + k) * W + w]
                c = G[dl + w]
                G[il + j * W + w] = v / c if c > 0.0 else 0.0
    for i in range(n):
        x = gr + i * L
        for w in range(W):
            G[x + w] = S[s + i * W + w]
        for j in range(n):
            for w in range(W):
                v = spread * G[gl + (i * (i + 1) // 2 + j) * W + w] if j <= i else 0.0
                G[x + (1 + j) * W + w] = S[s + i * W + w] + v
                G[x + (1 + n + j) * W + w] = S[s + i * W + w] - v


@kernel
def _mean(G: F64, row: int, points: int, w0: float, w1: float, out: F64, o: int, W: int) -> None:
    """Weighted mean of one row of points into out[o:o+W]; the row then holds the deviations from it."""
    for w in range(W):
        v = G[row + W + w]
        for k in range(2, points):
            v = v + G[row + k * W + w]
        out[o + w] = w0 * G[row + w] + w1 * v
    for k in range(points):
        for w in range(W):
            G[row + k * W + w] = G[row + k * W + w] - out[o + w]


@kernel
def _spread(G: F64, a: int, b: int, points: int, w0: float, w1: float, out: F64, o: int, W: int) -> None:
    """Weighted covariance of two rows of deviations into out[o:o+W]."""
    for w in range(W):
        v = G[a + W + w] * G[b + W + w]
        for k in range(2, points):
            v = v + G[a + k * W + w] * G[b + k * W + w]
        out[o + w] = w0 * (G[a + w] * G[b + w]) + w1 * v


@kernel
def _fill(S: F64, row: int, count: int, points: int, G: F64, register: int, W: int) -> None:
    """Rows of S (inputs or parameters) into registers from `register` on, the same at every point."""
    for k in range(count):
        for i in range(points):
            r0 = ((register + k) * points + i) * W
            for w in range(W):
                G[r0 + w] = S[row + k * W + w]


@kernel
def _gather(M: F64, oQ: int, S: F64, s: int, Z: F64, fq: int, n: int, G: F64, gx: int, own: int, W: int) -> None:
    """Mean and covariance of the integrated points, process noise added, into x and P."""
    nP, points = n * (n + 1) // 2, 2 * n + 1
    L = points * W
    w0, w1 = M[own + 2], M[own + 3]
    for i in range(n):
        _mean(G, gx + i * L, points, w0, w1, S, s + i * W, W)
    for i in range(n):
        for j in range(i, n):
            c = i * n - i * (i - 1) // 2 + j - i
            q = s + (n + c) * W
            _spread(G, gx + i * L, gx + j * L, points, w0, w1, S, q, W)
            v, v2 = M[oQ + c], M[oQ + nP + c]
            for w in range(W):
                S[q + w] = S[q + w] + (v + Z[fq + w] * v2)


@kernel
def _read(I: I32, M: F64, own: int, S: F64, s: int, O: F64, o: int, G: F64, gx: int, gy: int, gyy: int, W: int) -> None:  # noqa: E741
    """Outputs at every point: their means into O, their covariances among themselves and with x into G[gyy:]."""
    n, p, kh = int(I[0]), int(I[2]), int(I[HEADER - 2])
    points = 2 * n + 1
    L = points * W
    w0, w1 = M[own + 2], M[own + 3]
    at = readings_at(I)
    for w in range(n * L):
        G[gx + w] = G[w]
    run(I, at, kh, M, own + 4 + int(I[5]), G, L)
    for r in range(p):
        r0 = I[at + ops.COLUMNS * kh + r] * L
        for w in range(L):
            G[gy + r * L + w] = G[r0 + w]
    for r in range(p):
        _mean(G, gy + r * L, points, w0, w1, O, o + (2 * p + r) * W, W)
        for w in range(W):
            O[o + r * W + w] = O[o + (2 * p + r) * W + w]
    gxy = gyy + p * (p + 1) // 2 * W
    for i in range(n):
        for k in range(points):
            for w in range(W):
                G[gx + i * L + k * W + w] = G[gx + i * L + k * W + w] - S[s + i * W + w]
        for r in range(p):
            _spread(G, gx + i * L, gy + r * L, points, w0, w1, G, gxy + (i * p + r) * W, W)
    for r in range(p):
        for q in range(r, p):
            c = r * p - r * (r - 1) // 2 + q - r
            _spread(G, gy + r * L, gy + q * L, points, w0, w1, G, gyy + c * W, W)


@kernel
def _condition(S: F64, s: int, O: F64, o: int, n: int, p: int, r: int, G: F64, gyy: int, gc: int, W: int) -> None:  # noqa: E741
    """Conditions the joint Gaussian of x and the outputs on output r; G[gc:] holds its covariances, then K, 1/v, nu."""
    gxy = gyy + p * (p + 1) // 2 * W
    gk = gc + p * W
    gi = gk + n * W
    gn = gi + W
    for i in range(n):
        for w in range(W):
            v = G[gxy + (i * p + r) * W + w] * G[gi + w]
            G[gk + i * W + w] = v
            S[s + i * W + w] = S[s + i * W + w] + v * G[gn + w]
    for i in range(n):
        for j in range(i, n):
            q = s + (n + i * n - i * (i - 1) // 2 + j - i) * W
            for w in range(W):
                S[q + w] = S[q + w] - G[gk + i * W + w] * G[gxy + (j * p + r) * W + w]
    for i in range(n):
        for q in range(p):
            c0 = gxy + (i * p + q) * W
            for w in range(W):
                G[c0 + w] = G[c0 + w] - G[gk + i * W + w] * G[gc + q * W + w]
    for q in range(p):
        for w in range(W):
            v = G[gc + q * W + w] * G[gi + w]
            O[o + q * W + w] = O[o + q * W + w] + v * G[gn + w]
        for c in range(q, p):
            c0 = gyy + (q * p - q * (q - 1) // 2 + c - q) * W
            for w in range(W):
                G[c0 + w] = G[c0 + w] - (G[gc + q * W + w] * G[gi + w]) * G[gc + c * W + w]


@kernel
def ode_step(I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741
    """One tick of an unscented Kalman filter over the op-list; sigma points are lanes of the machine."""
    n, m, p, q, fixed, nreg = int(I[0]), int(I[1]), int(I[2]), int(I[4]), int(I[5]), int(I[6])
    nP = n * (n + 1) // 2
    L = (2 * n + 1) * W
    KS, KZ, KO = n + nP + m + WATCH * p + 2 + q, m + p + 3, 6 * p + 1
    oR = DRIFT + 2 * n
    oQ = oR + p
    own = oQ + 2 * nP
    # Scratch: registers | of the integrator | outputs | factor of P | yy | xy | c | K | 1/v, nu, e
    gx = nreg * L
    gy = gx + (3 * n + (2 * n * n if I[7] == ops.ROS2 else 0)) * L
    gl = gy + p * L
    gyy = gl + nP * W
    gc = gyy + (p * (p + 1) // 2 + n * p) * W
    gi = gc + (p + n) * W
    pool = own + 4 + fixed
    size = pool + int(I[8])
    models, model = M, -1
    for t in range(S.shape[0] // (KS * W)):
        M = models[K[t] * size : (K[t] + 1) * size]
        h, spread = M[own], M[own + 1]
        if K[t] != model:
            model = K[t]
            for i in range(fixed):
                v = M[own + 4 + i]
                for w in range(L):
                    G[(n + m + q + i) * L + w] = v
        s, z, o = t * KS * W, t * KZ * W, t * KO * W
        u, watch, bad = s + (n + nP) * W, s + (n + nP + m) * W, s + (KS - q - 1) * W
        zy = z + m * W
        fq, fr, mute = zy + p * W, zy + (p + 1) * W, zy + (p + 2) * W
        for w in range(W):
            S[bad + w] = 0.0
            O[o + 6 * p * W + w] = 0.0
        _sigma_points(S, s, n, G, gl, 0, spread, bad, W)
        _fill(S, u, m, 2 * n + 1, G, n, W)
        _fill(S, bad + W, q, 2 * n + 1, G, n + m, W)
        integrate(I, M, pool, h, G, gx, L)
        _gather(M, oQ, S, s, Z, fq, n, G, gx, own, W)
        clip(M, S, s, n, W)
        hold(S, u, Z, z, m, W)
        _fill(S, u, m, 2 * n + 1, G, n, W)
        _sigma_points(S, s, n, G, gl, 0, spread, bad, W)
        _read(I, M, own, S, s, O, o, G, gx, gy, gyy, W)
        for r in range(p):
            c = gyy + (r * p - r * (r - 1) // 2) * W
            for w in range(W):
                v = G[c + w]
                O[o + (5 * p + r) * W + w] = math.sqrt((v if v > 0.0 else 0.0) + M[oR + r] * Z[fr + w])
        for r in range(p):
            for k in range(p):
                c = gyy + (r * p - r * (r - 1) // 2 + k - r if r <= k else k * p - k * (k - 1) // 2 + r - k) * W
                for w in range(W):
                    G[gc + k * W + w] = G[c + w]
            for w in range(W):
                G[gi + w] = G[gc + r * W + w] + M[oR + r] * Z[fr + w]
            observe(M, S, watch, Z, zy + r * W, mute, O, o, p, r, G, gi, W)
            _condition(S, s, O, o, n, p, r, G, gyy, gc, W)
        for w in range(W):
            G[gi + w] = S[bad + w]
        finish(M, S, s, O, o, n, m, p, W)
        for r in range(p):
            c = gyy + (r * p - r * (r - 1) // 2) * W
            for w in range(W):
                v = G[c + w]
                O[o + (p + r) * W + w] = math.sqrt(v if v > 0.0 else 0.0)
        for w in range(W):
            S[bad + w] = 1.0 if G[gi + w] > 0.0 else S[bad + w]
