"""What the compiled kernels share: how they are compiled, the op-list machine, bounds and held inputs.

Imported only by `compile`, because it pulls numba. Every function reads what is special to a model from arrays,
so one compilation serves all models. Strict floating point: no fastmath, no BLAS, sums in the order written;
`reference` does the same operations in the same order and gives the same bits. Symbols and offsets: see `arena`.
"""

# Comparisons are written out: min, max and isnan of numba and NumPy differ in NaN and in the sign of zero.
# ruff: noqa: PLR0124

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from twinmodel.kernel.arena import DRIFT, F64, I32

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
def clip(M: F64, S: F64, s: int, n: int, W: int) -> None:
    """Keeps x between its bounds."""
    for i in range(n):
        lo, hi = M[DRIFT + i], M[DRIFT + n + i]
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
