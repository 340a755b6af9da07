"""The compiled Kalman filter of the `linear` family; imported only by `warmup`.

Symbols: x state, P covariance, u input, y measurement, A B C D a c matrices of the state space, Q R noise,
K gain, W lanes of a tile, T tiles. Offsets into the arrays: see `arena`.
"""

# Comparisons are written out: min, max and isnan of numba and NumPy differ in NaN and in the sign of zero.
# ruff: noqa: FURB136, PLR0124

from __future__ import annotations

import math

import numpy as np

from twinmodel.kernel.arena import F64, I32
from twinmodel.kernel.lanes import detect, finish, kernel


@kernel
def _output(M: F64, S: F64, s: int, u: int, O: F64, o: int, oC: int, oD: int, c: float, n: int, m: int, W: int) -> None:  # noqa: E741
    """One output of the state space into O[o:o+W]."""
    for w in range(W):
        O[o + w] = c
    for k in range(n):
        v = M[oC + k]
        for w in range(W):
            O[o + w] = O[o + w] + v * S[s + k * W + w]
    for k in range(m):
        v = M[oD + k]
        for w in range(W):
            O[o + w] = O[o + w] + v * S[u + k * W + w]


@kernel
def linear_step(I: I32, M: F64, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741
    """One tick of a Kalman filter for all tiles: predict, then one scalar update an output."""
    n, m, p = int(I[0]), int(I[1]), int(I[2])
    nP = n * (n + 1) // 2
    KS, KZ, KO = n + nP + m + 3 * p + 2, m + p + 3, 5 * p + 1
    oR = 6 + 2 * n
    oQ = oR + p
    oQh = oQ + nP
    oA = oQh + nP
    oB = oA + n * n
    oa = oB + n * m
    oC = oa + n
    oD = oC + p * n
    oc = oD + p * m
    gx, gt = 0, n * W
    gh = gt + n * n * W
    gk = gh + n * W
    gi = gk + n * W
    gn, ge = gi + W, gi + 2 * W
    for t in range(S.shape[0] // (KS * W)):
        s, z, o = t * KS * W, t * KZ * W, t * KO * W
        P, u, ewma = s + n * W, s + (n + nP) * W, s + (n + nP + m) * W
        zy = z + m * W
        fq, fr = zy + p * W, zy + (p + 1) * W
        mute = Z[fr + W : fr + 2 * W]
        # x = A x + B u + a
        for i in range(n):
            v = M[oa + i]
            for w in range(W):
                G[gx + i * W + w] = v
            for k in range(n):
                v = M[oA + i * n + k]
                for w in range(W):
                    G[gx + i * W + w] = G[gx + i * W + w] + v * S[s + k * W + w]
            for k in range(m):
                v = M[oB + i * m + k]
                for w in range(W):
                    G[gx + i * W + w] = G[gx + i * W + w] + v * S[u + k * W + w]
        # A P
        for i in range(n):
            for j in range(n):
                g = gt + (i * n + j) * W
                for w in range(W):
                    G[g + w] = 0.0
                for k in range(n):
                    v = M[oA + i * n + k]
                    q = P + (k * n - k * (k - 1) // 2 + j - k if k <= j else j * n - j * (j - 1) // 2 + k - j) * W
                    for w in range(W):
                        G[g + w] = G[g + w] + v * S[q + w]
        # P = A P A' + Q
        for i in range(n):
            for j in range(i, n):
                c = i * n - i * (i - 1) // 2 + j - i
                q = P + c * W
                v, v2 = M[oQ + c], M[oQh + c]
                for w in range(W):
                    S[q + w] = v + Z[fq + w] * v2
                for k in range(n):
                    v = M[oA + j * n + k]
                    g = gt + (i * n + k) * W
                    for w in range(W):
                        S[q + w] = S[q + w] + G[g + w] * v
        for i in range(n):
            lo, hi = M[6 + i], M[6 + n + i]
            for w in range(W):
                v = G[gx + i * W + w]
                v = lo if v < lo else v
                S[s + i * W + w] = hi if v > hi else v
        for k in range(m):
            for w in range(W):
                v = Z[z + k * W + w]
                S[u + k * W + w] = v if v == v else S[u + k * W + w]
        for r in range(p):
            _output(M, S, s, u, O, o + (2 * p + r) * W, oC + r * n, oD + r * m, M[oc + r], n, m, W)
        for w in range(W):
            O[o + 5 * p * W + w] = 0.0
        for r in range(p):
            # h = P C', variance = C h + R
            for w in range(W):
                G[gi + w] = M[oR + r] * Z[fr + w]
            for i in range(n):
                g = gh + i * W
                for w in range(W):
                    G[g + w] = 0.0
                for k in range(n):
                    v = M[oC + r * n + k]
                    q = P + (k * n - k * (k - 1) // 2 + i - k if k <= i else i * n - i * (i - 1) // 2 + k - i) * W
                    for w in range(W):
                        G[g + w] = G[g + w] + S[q + w] * v
                v = M[oC + r * n + i]
                for w in range(W):
                    G[gi + w] = G[gi + w] + v * G[g + w]
            _output(M, S, s, u, O, o + r * W, oC + r * n, oD + r * m, M[oc + r], n, m, W)
            for w in range(W):
                y = Z[zy + r * W + w]
                ok = y == y
                O[o + (3 * p + r) * W + w] = y - O[o + (2 * p + r) * W + w] if ok else np.nan
                inv = 1.0 / G[gi + w] if ok else 0.0
                nu = y - O[o + r * W + w] if ok else 0.0
                e = nu * math.sqrt(inv)
                G[gi + w] = inv
                G[gn + w] = nu
                G[ge + w] = e if ok else np.nan
                O[o + 5 * p * W + w] = O[o + 5 * p * W + w] + e * e
            for i in range(n):
                for w in range(W):
                    v = G[gh + i * W + w] * G[gi + w]
                    G[gk + i * W + w] = v
                    S[s + i * W + w] = S[s + i * W + w] + v * G[gn + w]
            for i in range(n):
                for j in range(i, n):
                    q = P + (i * n - i * (i - 1) // 2 + j - i) * W
                    for w in range(W):
                        S[q + w] = S[q + w] - G[gk + i * W + w] * G[gh + j * W + w]
            detect(M, S, ewma + r * W, p, O, o + (4 * p + r) * W, G, ge, mute, W)
        finish(M, S, s, O, o, n, m, p, W)
        # estimate = C x + D u + c, variance = C P C'
        for r in range(p):
            _output(M, S, s, u, O, o + r * W, oC + r * n, oD + r * m, M[oc + r], n, m, W)
            for w in range(W):
                G[gi + w] = 0.0
            for i in range(n):
                for j in range(i, n):
                    q = P + (i * n - i * (i - 1) // 2 + j - i) * W
                    v = M[oC + r * n + i] * M[oC + r * n + j]
                    v = v if i == j else 2.0 * v
                    for w in range(W):
                        G[gi + w] = G[gi + w] + v * S[q + w]
            for w in range(W):
                v = G[gi + w]
                O[o + (p + r) * W + w] = math.sqrt(v if v > 0.0 else 0.0)
