"""What the compiled kernels share: how they are compiled, the op-list machine, detectors, the end of a tick.

Imported only by `compile`, because it pulls numba. Every function reads what is special to a model from arrays,
so one compilation serves all models. Strict floating point: no fastmath, no BLAS, sums in the order written;
`reference` does the same operations in the same order and gives the same bits. Symbols and offsets: see `arena`.
"""

# Comparisons are written out: min, max and isnan of numba and NumPy differ in NaN and in the sign of zero.
# ruff: noqa: FURB136, PLR0124

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from twinmodel.kernel.arena import F64, I32

_F = TypeVar("_F", bound=Callable[..., Any])


def kernel(function: _F) -> _F:
    """Declares a function that numba compiles strictly."""
    strict = numba.njit(nogil=True, fastmath=False, error_model="numpy", boundscheck=False)
    return cast("_F", strict(function))


@kernel
def run(I: I32, at: int, count: int, R: F64, r0: int, L: int) -> None:  # noqa: E741 - letters of `arena`
    """Runs `count` operations from I[at:] over registers of L lanes each, which start at R[r0]."""
    for pc in range(count):
        row = at + 4 * pc
        op = I[row]
        d0, a0, b0 = r0 + I[row + 1] * L, r0 + I[row + 2] * L, r0 + I[row + 3] * L
        d, a, b = R[d0 : d0 + L], R[a0 : a0 + L], R[b0 : b0 + L]
        if op == 2:
            for w in range(L):
                d[w] = a[w] * b[w]
        elif op == 0:
            for w in range(L):
                d[w] = a[w] + b[w]
        elif op == 1:
            for w in range(L):
                d[w] = a[w] - b[w]
        elif op == 3:
            for w in range(L):
                d[w] = a[w] / b[w]
        elif op == 4:
            for w in range(L):
                d[w] = -a[w]
        elif op == 5:
            for w in range(L):
                d[w] = abs(a[w])
        elif op == 6:
            for w in range(L):
                d[w] = math.sqrt(a[w])
        elif op == 7:
            for w in range(L):
                d[w] = a[w] if a[w] < b[w] else b[w]
        else:
            for w in range(L):
                d[w] = a[w] if a[w] > b[w] else b[w]


@kernel
def detect(M: F64, S: F64, ewma: int, p: int, O: F64, score: int, G: F64, e0: int, mute: F64, W: int) -> None:  # noqa: E741
    """EWMA of the squared and two-sided CUSUM of the whitened innovation of one output; NaN leaves them be."""
    lam, ewma_limit, slack, limit, clip = M[0], M[1], M[2], M[3], M[4]
    up, down = ewma + p * W, ewma + 2 * p * W
    for w in range(W):
        e = G[e0 + w]
        ok = e == e
        e = -clip if e < -clip else e
        e = clip if e > clip else e
        z = S[ewma + w]
        v = z + lam * ((e * e - 1.0) - z)
        hi = (S[up + w] + e) - slack
        lo = (S[down + w] - e) - slack
        hi = 0.0 if hi < 0.0 else hi
        lo = 0.0 if lo < 0.0 else lo
        # Bounded, so that the score comes back soon after the cause is gone.
        hi = 2.0 * limit if hi > 2.0 * limit else hi
        lo = 2.0 * limit if lo > 2.0 * limit else lo
        v = v if ok else z
        hi = hi if ok else S[up + w]
        lo = lo if ok else S[down + w]
        quiet = mute[w] > 0.0
        v = 0.0 if quiet else v
        hi = 0.0 if quiet else hi
        lo = 0.0 if quiet else lo
        S[ewma + w] = v
        S[up + w] = hi
        S[down + w] = lo
        a = v / ewma_limit
        b = (hi if hi > lo else lo) / limit
        a = 0.0 if a < 0.0 else a
        O[score + w] = a if a > b else b


@kernel
def clip(M: F64, S: F64, s: int, n: int, W: int) -> None:
    """Keeps x between its bounds."""
    for i in range(n):
        lo, hi = M[6 + i], M[6 + n + i]
        for w in range(W):
            v = S[s + i * W + w]
            v = lo if v < lo else v
            S[s + i * W + w] = hi if v > hi else v


@kernel
def hold(S: F64, u: int, Z: F64, z: int, m: int, W: int) -> None:
    """New inputs where there are some, those of the tick before elsewhere."""
    for k in range(m * W):
        v = Z[z + k]
        S[u + k] = v if v == v else S[u + k]


@kernel
def measure(Z: F64, y0: int, O: F64, o: int, p: int, r: int, G: F64, gi: int, W: int) -> None:  # noqa: E741
    """Innovation of output r: G[gi:] holds its variance, then 1/variance, innovation and whitened innovation."""
    gn, ge = gi + W, gi + 2 * W
    for w in range(W):
        y = Z[y0 + w]
        ok = y == y
        O[o + (3 * p + r) * W + w] = y - O[o + (2 * p + r) * W + w] if ok else np.nan
        inv = 1.0 / G[gi + w] if ok else 0.0
        nu = y - O[o + r * W + w] if ok else 0.0
        e = nu * math.sqrt(inv)
        G[gi + w] = inv
        G[gn + w] = nu
        G[ge + w] = e if ok else np.nan
        O[o + 5 * p * W + w] = O[o + 5 * p * W + w] + e * e


@kernel
def finish(M: F64, S: F64, s: int, O: F64, o: int, n: int, m: int, p: int, W: int) -> None:  # noqa: E741
    """Clips the state to its bounds, raises the drift flag with hysteresis and tells a diverged filter."""
    nP = n * (n + 1) // 2
    flag = s + (n + nP + m + 3 * p) * W
    bad = flag + W
    clear = M[5]
    for w in range(W):
        S[bad + w] = 0.0
    clip(M, S, s, n, W)
    for i in range(n):
        d = s + (n + i * n - i * (i - 1) // 2) * W
        for w in range(W):
            v = S[s + i * W + w]
            S[bad + w] = S[bad + w] if (abs(v) < 1e300 and S[d + w] >= 0.0) else 1.0
    for w in range(W):
        top = 0.0
        for r in range(p):
            v = O[o + (4 * p + r) * W + w]
            top = v if v > top else top
        S[flag + w] = 1.0 if top >= 1.0 else (0.0 if top < clear else S[flag + w])
