"""What the compiled kernels share: how they are compiled, bounds and held inputs.

Imported only by `compile`, because it pulls numba. Every function reads what is special to a model from arrays,
so one compilation serves all models. Strict floating point: no fastmath, no BLAS, sums in the order written;
`reference` does the same operations in the same order and gives the same bits. Symbols and offsets: see `arena`.
"""

# Comparisons are written out: min, max and isnan of numba and NumPy differ in NaN and in the sign of zero.
# ruff: noqa: FURB136, PLR0124

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba import extending

from twinmodel.kernel.arena import DRIFT, F64

_F = TypeVar("_F", bound=Callable[..., Any])


def kernel(function: _F) -> _F:
    """Declares a function that numba compiles strictly."""
    strict = numba.njit(nogil=True, fastmath=False, error_model="numpy", boundscheck=False)
    return cast("_F", strict(function))


def primitive(function: Callable[..., Any]) -> Any:
    """Declares an operation spelled out in LLVM: the function is handed types, and gives a signature and code."""
    return extending.intrinsic(function)


@primitive
def alone(context: Any) -> Any:  # noqa: ARG001 - what numba hands in
    """Keeps the function it is called in from being copied into its callers, which would multiply large code."""

    def mark(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - as above
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return numba.types.none(), mark


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
