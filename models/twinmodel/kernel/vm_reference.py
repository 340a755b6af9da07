"""The op-list machine in plain NumPy: registers are arrays of lanes, of any one shape.

The oracle of `vm`, and what the interpreted tier runs on. Every sum is taken in the order written; see `ops` for what
each operation does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.kernel import ops
from twinmodel.kernel.arena import F64, HEADER, I32
from twinmodel.kernel.transcendental import NUMPY

# 1 - 1/sqrt(2): the smaller of the two values that make the Rosenbrock method of order 2 L-stable.
ROS2_GAMMA: Final = 0.2928932188134524
# For each column and row below: the lanes in which they changed places.
Swaps = dict[tuple[int, int], NDArray[np.bool_]]
_NO_POOL: Final = np.empty(0)
_BINARY: Final[dict[int, Callable[[F64, F64], F64]]] = {
    ops.ADD: lambda a, b: a + b,
    ops.SUB: lambda a, b: a - b,
    ops.MUL: lambda a, b: a * b,
    ops.DIV: lambda a, b: a / b,
    # NaN wins, whichever side it is on.
    ops.MIN: lambda a, b: np.where((a < b) | (a != a), a, b),  # noqa: PLR0124 - NaN test
    ops.MAX: lambda a, b: np.where((a > b) | (a != a), a, b),  # noqa: PLR0124 - NaN test
    ops.POW: NUMPY.pow,
    ops.LESS: lambda a, b: np.where(a < b, 1.0, 0.0),
}
_UNARY: Final[dict[int, Callable[[F64], F64]]] = {
    ops.NEG: lambda a: -a,
    ops.ABS: np.abs,
    ops.SQRT: np.sqrt,
    ops.EXP: NUMPY.exp,
    ops.LOG: NUMPY.log,
    ops.TANH: NUMPY.tanh,
    ops.SIN: NUMPY.sin,
    ops.COS: NUMPY.cos,
}


@dataclass(frozen=True, slots=True)
class Programs:
    """The three programs of a model, read from I.

    Attributes:
        rates, readings, jacobian: rows of code.
        rate_results, reading_results, jacobian_results: register of each result.
    """

    rates: I32
    rate_results: list[int]
    readings: I32
    reading_results: list[int]
    jacobian: I32
    jacobian_results: list[int]


def programs(I: I32) -> Programs:  # noqa: E741 - letters of `arena`
    """The programs of an I array."""
    n, p = int(I[0]), int(I[2])
    kf, kh, kj = (int(v) for v in I[HEADER - 3 : HEADER])
    c = ops.COLUMNS
    slopes = n * n if int(I[7]) == ops.ROS2 else 0
    ends = np.cumsum([HEADER, c * kf, n, c * kh, p, c * kj, slopes])
    _, f, fr, h, hr, j, jr, _ = np.split(I, ends)
    return Programs(f.reshape(-1, c), fr.tolist(), h.reshape(-1, c), hr.tolist(), j.reshape(-1, c), jr.tolist())


class Writer(ABC):
    """Stands for the pool when registers are values of a program being written, see `generate`."""

    @abstractmethod
    def run(self, code: I32, R: list[Any]) -> None:
        """Writes the operations of an op-list."""


def run(code: I32, R: list[F64], pool: F64 | Writer = _NO_POOL) -> None:
    """Runs an op-list over registers, each an array of lanes.

    Args:
        code: verified rows.
        R: registers; replaced, never written into.
        pool: weights and tables, shape (pool,) or, one column a tile, (pool, T, 1).
    """
    if isinstance(pool, Writer):
        pool.run(code, R)
        return
    for opcode, target, a, b, c, d in code.tolist():
        if opcode in _BINARY:
            R[target] = _BINARY[opcode](R[a], R[b])
        elif opcode in _UNARY:
            R[target] = _UNARY[opcode](R[a])
        elif opcode == ops.SELECT:
            R[target] = np.where(R[a] > 0.0, R[b], R[c])
        elif opcode == ops.DENSE:
            R[target : target + d] = _dense(pool[c : c + d + d * b], R[a : a + b], d)
        elif opcode == ops.LOOKUP1:
            R[target] = _by_tile(_lookup1, pool, c, R[a])
        else:
            R[target] = _by_tile(_lookup2, pool, c, R[a], R[b])


def _dense(pool: F64, rows: list[F64], outputs: int) -> list[F64]:
    """The rows times W plus bias, all outputs at once; every sum in the order of the rows."""
    tiles = pool.shape[1:]
    own = (1,) * (rows[0].ndim - len(tiles)) + tiles
    v = pool[:outputs].reshape(outputs, *own)
    weights = pool[outputs:].reshape(outputs, len(rows), *own)
    for k, row in enumerate(rows):
        v = v + weights[:, k] * row
    return list(v)


def _by_tile(lookup: Callable[..., F64], pool: F64, at: int, *args: F64) -> F64:
    """A lookup lane by lane; tables differ from tile to tile when the pool does."""
    if pool.ndim == 1:
        return lookup(pool, at, *args)
    columns = [lookup(pool[:, t, 0], at, *(a[..., t, :] for a in args)) for t in range(pool.shape[1])]
    return np.stack(columns, axis=-2)


def _segment(xs: F64, x: F64) -> tuple[NDArray[np.int64], F64]:
    """Number of the interval a value lies in, and how far along it, 0..1."""
    k = np.searchsorted(xs[1:-1], x, side="right").astype(np.int64)
    c = np.where(x < xs[0], xs[0], x)
    c = np.where(c > xs[-1], xs[-1], c)
    return k, (c - xs[k]) / (xs[k + 1] - xs[k])


def _lookup1(pool: F64, at: int, x: F64) -> F64:
    n = int(pool[at])
    xs, ys = pool[at + 1 : at + 1 + n], pool[at + 1 + n : at + 1 + 2 * n]
    k, t = _segment(xs, x)
    value: F64 = (1.0 - t) * ys[k] + t * ys[k + 1]
    return value


def _lookup2(pool: F64, at: int, x: F64, y: F64) -> F64:
    n, m = int(pool[at]), int(pool[at + 1])
    xs, ys = pool[at + 2 : at + 2 + n], pool[at + 2 + n : at + 2 + n + m]
    table = pool[at + 2 + n + m : at + 2 + n + m + n * m].reshape(n, m)
    i, t = _segment(xs, x)
    j, s = _segment(ys, y)
    low = (1.0 - t) * table[i, j] + t * table[i + 1, j]
    high = (1.0 - t) * table[i, j + 1] + t * table[i + 1, j + 1]
    value: F64 = (1.0 - s) * low + s * high
    return value


def integrate(p: Programs, kind: int, R: list[F64], pool: F64 | Writer, step: tuple[F64 | float, int]) -> list[F64]:
    """One tick of the states R[:n], inputs held; the new states.

    Args:
        p: programs.
        kind: `ops.RK4`, `ops.MAP` or `ops.ROS2`.
        R: registers; R[:n] hold the start, then the end.
        pool: see `run`.
        step: length in seconds and count of the substeps.
    """
    n = len(p.rate_results)
    if kind == ops.RK4:
        return rk4(p.rates, p.rate_results, R, n, step, pool)
    if kind == ops.MAP:
        run(p.rates, R, pool)
        R[:n] = [R[r] for r in p.rate_results]
        return R[:n]
    h, substeps = step
    for _ in range(substeps):
        R[:n] = _ros2(p, R, pool, n, h)
    return R[:n]


def rk4(
    code: I32, results: list[int], R: list[F64], n: int, step: tuple[F64 | float, int], pool: F64 | Writer = _NO_POOL
) -> list[F64]:
    """Classic Runge-Kutta of order 4 over `step` = (length in s, count); R[:n] hold the start, then the end."""
    h, substeps = step
    half, sixth = h * 0.5, h / 6.0
    x = R[:n]
    for _ in range(substeps):
        total: list[F64] = []
        for stage, length in enumerate((half, half, h, sixth)):
            run(code, R, pool)
            k = [R[r] for r in results]
            if stage == 3:
                x = [x[i] + length * (total[i] + k[i]) for i in range(n)]
                R[:n] = x
                continue
            total = k if stage == 0 else [total[i] + 2.0 * k[i] for i in range(n)]
            R[:n] = [x[i] + length * k[i] for i in range(n)]
    return x


def _ros2(p: Programs, R: list[F64], pool: F64 | Writer, n: int, h: F64 | float) -> list[F64]:
    """(1 - gamma h J) k1 = f(x), (1 - gamma h J) k2 = f(x + h k1) - 2 k1, x + h (3 k1 + k2)/2.

    Verwer, Spee, Blom, Hundsdorfer: A second-order Rosenbrock method applied to photochemical dispersion problems,
    SIAM J. Sci. Comput. 20 (1999). Of order 2 whatever J is.
    """
    x = R[:n]
    run(p.jacobian, R, pool)
    scale = ROS2_GAMMA * h
    A = [[-(scale * R[p.jacobian_results[i * n + j]]) for j in range(n)] for i in range(n)]
    for i in range(n):
        A[i][i] = 1.0 + A[i][i]
    swaps = _factorise(A, n)
    run(p.rates, R, pool)
    k1 = _solve(A, swaps, [R[r] for r in p.rate_results])
    R[:n] = [x[i] + h * k1[i] for i in range(n)]
    run(p.rates, R, pool)
    k2 = _solve(A, swaps, [R[r] - 2.0 * k for r, k in zip(p.rate_results, k1, strict=True)])
    return [x[i] + (h * 0.5) * (3.0 * k1[i] + k2[i]) for i in range(n)]


def _factorise(A: list[list[F64]], n: int) -> Swaps:
    """LU in place, multipliers below the diagonal; a row whose pivot is larger changes places, lane by lane.

    Returns:
        for each column k and row i below, where they changed places.
    """
    swaps: Swaps = {}
    for k in range(n):
        for i in range(k + 1, n):
            swap = np.abs(A[i][k]) > np.abs(A[k][k])
            swaps[k, i] = swap
            for j in range(k, n):
                a, b = A[k][j], A[i][j]
                A[k][j], A[i][j] = np.where(swap, b, a), np.where(swap, a, b)
        for i in range(k + 1, n):
            v = A[i][k] / A[k][k]
            A[i][k] = v
            for j in range(k + 1, n):
                A[i][j] = A[i][j] - v * A[k][j]
    return swaps


def _solve(A: list[list[F64]], swaps: Swaps, b: list[F64]) -> list[F64]:
    n = len(b)
    b = list(b)
    for k in range(n):
        for i in range(k + 1, n):
            b[k], b[i] = np.where(swaps[k, i], b[i], b[k]), np.where(swaps[k, i], b[k], b[i])
        for i in range(k + 1, n):
            b[i] = b[i] - A[i][k] * b[k]
    for k in range(n - 1, -1, -1):
        v = b[k]
        for j in range(k + 1, n):
            v = v - A[k][j] * b[j]
        b[k] = v / A[k][k]
    return b
