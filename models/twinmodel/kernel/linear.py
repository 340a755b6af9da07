"""The compiled Kalman filter of the `linear` family; imported only by `compile`.

Symbols: x state, P covariance, u input, y measurement, A B C D a c matrices of the state space, Q R noise,
K gain, W lanes of a tile, T tiles. Offsets into the arrays: see `arena`.
"""

# Comparisons are written out: min, max and isnan of numba and NumPy differ in NaN and in the sign of zero.
# ruff: noqa: FURB136

from __future__ import annotations

import math

from twinmodel.kernel.arena import DRIFT, F64, I32, WATCH
from twinmodel.kernel.drift import finish, observe
from twinmodel.kernel.lanes import clip, hold, kernel


@kernel
def _offsets(n: int, m: int, p: int) -> tuple[int, int, int, int, int, int, int, int, int]:
    """Where R, Q, Q held, A, B, a, C, D and c begin among the coefficients, which follow settings and bounds."""
    nP = n * (n + 1) // 2
    Q = p
    held = Q + nP
    A = held + nP
    B = A + n * n
    a = B + n * m
    C = a + n
    D = C + p * n
    return 0, Q, held, A, B, a, C, D, D + p * m


@kernel
def _put(M: F64, at: int, own: int, G: F64, g: int, W: int) -> None:
    """Coefficient `at` into G[g:]; each lane has its own of them, or all share one."""
    if own:
        for w in range(W):
            G[g + w] = M[at * W + w]
    else:
        v = M[at]
        for w in range(W):
            G[g + w] = v


@kernel
def _add(M: F64, at: int, own: int, S: F64, s: int, G: F64, g: int, W: int) -> None:
    """G[g:] += coefficient `at` times S[s:]."""
    if own:
        for w in range(W):
            G[g + w] = G[g + w] + M[at * W + w] * S[s + w]
    else:
        v = M[at]
        for w in range(W):
            G[g + w] = G[g + w] + v * S[s + w]


@kernel
def _output(M: F64, own: int, S: F64, s: int, u: int, O: F64, o: int, r: int, n: int, m: int, p: int, W: int) -> None:  # noqa: E741
    """Output r of the state space, C x + D u + c, into O[o:o+W]."""
    _, _, _, _, _, _, oC, oD, oc = _offsets(n, m, p)
    _put(M, oc + r, own, O, o, W)
    for k in range(n):
        _add(M, oC + r * n + k, own, S, s + k * W, O, o, W)
    for k in range(m):
        _add(M, oD + r * m + k, own, S, u + k * W, O, o, W)


@kernel
def _predict(M: F64, own: int, S: F64, s: int, Z: F64, fq: int, G: F64, n: int, m: int, p: int, W: int) -> None:
    """The time update x = A x + B u + a, P = A P A' + Q."""
    _, oQ, oQh, oA, oB, oa, _, _, _ = _offsets(n, m, p)
    P, u = s + n * W, s + (n + n * (n + 1) // 2) * W
    gt = n * W
    for i in range(n):
        _put(M, oa + i, own, G, i * W, W)
        for k in range(n):
            _add(M, oA + i * n + k, own, S, s + k * W, G, i * W, W)
        for k in range(m):
            _add(M, oB + i * m + k, own, S, u + k * W, G, i * W, W)
    # A P
    for i in range(n):
        for j in range(n):
            g = gt + (i * n + j) * W
            for w in range(W):
                G[g + w] = 0.0
            for k in range(n):
                q = P + (k * n - k * (k - 1) // 2 + j - k if k <= j else j * n - j * (j - 1) // 2 + k - j) * W
                _add(M, oA + i * n + k, own, S, q, G, g, W)
    for i in range(n):
        for j in range(i, n):
            c = i * n - i * (i - 1) // 2 + j - i
            q = P + c * W
            _put(M, oQ + c, own, S, q, W)
            _add(M, oQh + c, own, Z, fq, S, q, W)
            for k in range(n):
                _add(M, oA + j * n + k, own, G, gt + (i * n + k) * W, S, q, W)
    for w in range(n * W):
        S[s + w] = G[w]


@kernel
def _noise(M: F64, r: int, own: int, Z: F64, fr: int, G: F64, g: int, W: int) -> None:
    """Variance of the measurement of output r, R times its factor, into G[g:]."""
    _put(M, r, own, G, g, W)
    for w in range(W):
        G[g + w] = G[g + w] * Z[fr + w]


@kernel
def _variance(
    M: F64, own: int, S: F64, P: int, Z: F64, fr: int, G: F64, gi: int, r: int, n: int, m: int, p: int, W: int
) -> None:
    """H = P C' into G[:n*W] and the innovation's variance C h + R into G[gi:]."""
    _, _, _, _, _, _, oC, _, _ = _offsets(n, m, p)
    _noise(M, r, own, Z, fr, G, gi, W)
    for i in range(n):
        g = i * W
        for w in range(W):
            G[g + w] = 0.0
        for k in range(n):
            q = P + (k * n - k * (k - 1) // 2 + i - k if k <= i else i * n - i * (i - 1) // 2 + k - i) * W
            _add(M, oC + r * n + k, own, S, q, G, g, W)
        _add(M, oC + r * n + i, own, G, g, G, gi, W)


@kernel
def _gain(S: F64, s: int, G: F64, gi: int, n: int, W: int) -> None:
    """The scalar update x += K nu, P -= K h' with K = h / variance."""
    gk = n * W
    for i in range(n):
        for w in range(W):
            v = G[i * W + w] * G[gi + w]
            G[gk + i * W + w] = v
            S[s + i * W + w] = S[s + i * W + w] + v * G[gi + W + w]
    for i in range(n):
        for j in range(i, n):
            q = s + (n + i * n - i * (i - 1) // 2 + j - i) * W
            for w in range(W):
                S[q + w] = S[q + w] - G[gk + i * W + w] * G[j * W + w]


@kernel
def _quadratic(M: F64, own: int, S: F64, P: int, oC: int, G: F64, gi: int, n: int, W: int) -> None:
    """Variance of one output, C P C', into G[gi:gi+W]."""
    for w in range(W):
        G[gi + w] = 0.0
    for i in range(n):
        for j in range(i, n):
            q = P + (i * n - i * (i - 1) // 2 + j - i) * W
            if own:
                a, b = (oC + i) * W, (oC + j) * W
                for w in range(W):
                    v = M[a + w] * M[b + w]
                    v = v if i == j else 2.0 * v
                    G[gi + w] = G[gi + w] + v * S[q + w]
            else:
                v = M[oC + i] * M[oC + j]
                v = v if i == j else 2.0 * v
                for w in range(W):
                    G[gi + w] = G[gi + w] + v * S[q + w]
    for w in range(W):
        v = G[gi + w]
        G[gi + w] = v if v > 0.0 else 0.0


@kernel
def _spread(
    M: F64,
    own: int,
    S: F64,
    P: int,
    Z: F64,
    fr: int,
    O: F64,  # noqa: E741
    o: int,
    r: int,
    oC: int,
    G: F64,
    gi: int,
    n: int,
    W: int,
) -> None:
    """Standard deviation of a measurement to come, sqrt(C P C' + R), into O[o:o+W]."""
    _quadratic(M, own, S, P, oC + r * n, G, gi, n, W)
    _noise(M, r, own, Z, fr, G, gi + W, W)
    for w in range(W):
        O[o + w] = math.sqrt(G[gi + w] + G[gi + W + w])


@kernel
def linear_step(I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741
    """One tick of a Kalman filter for all tiles: predict, then one scalar update an output."""
    n, m, p, own = int(I[0]), int(I[1]), int(I[2]), int(I[5])
    nP = n * (n + 1) // 2
    KS, KZ, KO = n + nP + m + WATCH * p + 2, m + p + 3, 6 * p + 1
    oC = _offsets(n, m, p)[6]
    gi = (n + n * n + n) * W
    count, head = _offsets(n, m, p)[8] + p, DRIFT + 2 * n
    tiles = S.shape[0] // (KS * W)
    # Own coefficients of all tiles follow the settings and bounds of all models.
    first = M.shape[0] - tiles * count * W
    size = head if own else head + count
    for t in range(tiles):
        H = M[K[t] * size : K[t] * size + head]
        C = M[first + t * count * W : first + (t + 1) * count * W] if own else M[K[t] * size + head : (K[t] + 1) * size]
        s, z, o = t * KS * W, t * KZ * W, t * KO * W
        P, u, watch = s + n * W, s + (n + nP) * W, s + (n + nP + m) * W
        zy = z + m * W
        fq, fr, mute = zy + p * W, zy + (p + 1) * W, zy + (p + 2) * W
        _predict(C, own, S, s, Z, fq, G, n, m, p, W)
        clip(H, S, s, n, W)
        hold(S, u, Z, z, m, W)
        for r in range(p):
            _output(C, own, S, s, u, O, o + (2 * p + r) * W, r, n, m, p, W)
            _spread(C, own, S, P, Z, fr, O, o + (5 * p + r) * W, r, oC, G, gi, n, W)
        for w in range(W):
            O[o + 6 * p * W + w] = 0.0
        for r in range(p):
            _variance(C, own, S, P, Z, fr, G, gi, r, n, m, p, W)
            _output(C, own, S, s, u, O, o + r * W, r, n, m, p, W)
            observe(H, S, watch, Z, zy + r * W, mute, O, o, p, r, G, gi, W)
            _gain(S, s, G, gi, n, W)
        finish(H, S, s, O, o, n, m, p, W)
        for r in range(p):
            _output(C, own, S, s, u, O, o + r * W, r, n, m, p, W)
            _quadratic(C, own, S, P, oC + r * n, G, gi, n, W)
            for w in range(W):
                O[o + (p + r) * W + w] = math.sqrt(G[gi + w])
