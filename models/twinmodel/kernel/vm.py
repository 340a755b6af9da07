"""The compiled op-list machine and its integrators; imported only by `compile` and kernels, because it pulls numba.

Registers are rows of L lanes at the start of the scratch array G. One compilation runs every model; `vm_reference`
does the same operations in the same order and gives the same bits. Nothing here checks a bound: a program must have
passed `oplist.verify` against these very registers and this pool.
"""

# Comparisons are written out: min, max and isnan of numba and NumPy differ in NaN and in the sign of zero.
# ruff: noqa: FURB136

from __future__ import annotations

from typing import Any, Final

import numba

from twinmodel.kernel import ops, vectors
from twinmodel.kernel.arena import F64, HEADER, I32
from twinmodel.kernel.lanes import alone, kernel, primitive
from twinmodel.kernel.transcendental import Primitives, make
from twinmodel.kernel.vm_reference import ROS2_GAMMA

C: Final = ops.COLUMNS


def inlined(function: Any) -> Any:
    """Declares a strict function that melts into its caller, so that loops over lanes stay vectors."""
    strict = numba.njit(nogil=True, fastmath=False, error_model="numpy", boundscheck=False, forceinline=True)
    return strict(function)


@primitive
def _bits(context: Any, value: Any) -> Any:  # noqa: ARG001 - what numba hands in
    """The 64 bits of a double."""

    def cast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return numba.types.uint64(numba.types.float64), cast


@primitive
def _real(context: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """The double of 64 bits."""

    def cast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return numba.types.float64(numba.types.uint64), cast


@primitive
def _select(context: Any, condition: Any, a: Any, b: Any) -> Any:  # noqa: ARG001 - as above
    """Value a where the condition holds, else b; never a branch."""

    def choose(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - as above
        return builder.select(vectors.cgutils.as_bool_bit(builder, args[0]), args[1], args[2])

    real = numba.types.float64
    return real(numba.types.boolean, real, real), choose


@inlined
def bits(x: float) -> Any:
    """The 64 bits of a double."""
    return _bits(x)


@inlined
def real(b: Any) -> Any:
    """The double of 64 bits."""
    return _real(b)


@inlined
def where(condition: bool, a: float, b: float) -> Any:  # noqa: FBT001 - as NumPy's
    """Value a where the condition holds, else b."""
    return _select(condition, a, b)


FUNCTIONS: Final = make(Primitives(inlined, where, bits, real))
exp, log, tanh, sin, cos, power = FUNCTIONS


@kernel
def _segment(M: F64, xs: int, n: int, x: float) -> int:
    """Number of the interval of xs that x lies in, 0..n-2; a NaN lies in the first."""
    low, high = 0, n - 2
    while low < high:
        middle = (low + high + 1) // 2
        if M[xs + middle] <= x:
            low = middle
        else:
            high = middle - 1
    return low


@kernel
def _along(M: F64, xs: int, n: int, k: int, x: float) -> float:
    """How far x lies along interval k, 0..1; held at the ends."""
    x = M[xs] if x < M[xs] else x
    x = M[xs + n - 1] if x > M[xs + n - 1] else x
    along: float = (x - M[xs + k]) / (M[xs + k + 1] - M[xs + k])
    return along


@kernel
def lookup1(M: F64, at: int, d: F64, a: F64, L: int) -> None:
    """Linear between the points n | xs | ys at M[at:]."""
    alone()
    n = int(M[at])
    xs, ys = at + 1, at + 1 + n
    for w in range(L):
        k = _segment(M, xs, n, a[w])
        t = _along(M, xs, n, k, a[w])
        d[w] = (1.0 - t) * M[ys + k] + t * M[ys + k + 1]


@kernel
def lookup2(M: F64, at: int, d: F64, a: F64, b: F64, L: int) -> None:
    """Bilinear between the points n | m | xs | ys | values at M[at:]."""
    alone()
    n, m = int(M[at]), int(M[at + 1])
    xs, ys = at + 2, at + 2 + n
    values = ys + m
    for w in range(L):
        i, j = _segment(M, xs, n, a[w]), _segment(M, ys, m, b[w])
        t, s = _along(M, xs, n, i, a[w]), _along(M, ys, m, j, b[w])
        q = values + i * m + j
        low = (1.0 - t) * M[q] + t * M[q + m]
        high = (1.0 - t) * M[q + 1] + t * M[q + m + 1]
        d[w] = (1.0 - s) * low + s * high


@kernel
def _function(op: int, d: F64, a: F64, b: F64, L: int) -> None:
    """The operations of one or two arguments that are not a machine instruction."""
    alone()
    if op == ops.EXP:
        for w in range(L):
            d[w] = exp(a[w])
    elif op == ops.LOG:
        for w in range(L):
            d[w] = log(a[w])
    elif op == ops.TANH:
        for w in range(L):
            d[w] = tanh(a[w])
    elif op == ops.SIN:
        for w in range(L):
            d[w] = sin(a[w])
    elif op == ops.COS:
        for w in range(L):
            d[w] = cos(a[w])
    else:
        for w in range(L):
            d[w] = power(a[w], b[w])


@kernel
def run(I: I32, at: int, count: int, M: F64, pool: int, R: F64, L: int) -> None:  # noqa: E741 - one branch an operation; letters of `arena`
    """Runs `count` operations from I[at:] over registers of L lanes each, which start at R[0]; the pool is M[pool:]."""
    alone()
    for pc in range(count):
        row = at + C * pc
        op = I[row]
        d, a, b, c = I[row + 1] * L, I[row + 2] * L, I[row + 3] * L, I[row + 4] * L
        if op == ops.MUL:
            vectors.mul(R, d, a, b, c, L)
        elif op == ops.ADD:
            vectors.add(R, d, a, b, c, L)
        elif op == ops.SUB:
            vectors.sub(R, d, a, b, c, L)
        elif op == ops.DIV:
            vectors.div(R, d, a, b, c, L)
        elif op == ops.NEG:
            vectors.neg(R, d, a, b, c, L)
        elif op == ops.ABS:
            vectors.absolute(R, d, a, b, c, L)
        elif op == ops.SQRT:
            vectors.sqrt(R, d, a, b, c, L)
        elif op == ops.MIN:
            vectors.smaller(R, d, a, b, c, L)
        elif op == ops.MAX:
            vectors.larger(R, d, a, b, c, L)
        elif op == ops.LESS:
            vectors.less(R, d, a, b, c, L)
        elif op == ops.SELECT:
            vectors.select(R, d, a, b, c, L)
        elif op == ops.DENSE:
            count, bias = int(I[row + 3]), pool + I[row + 4]
            for j in range(I[row + 5]):
                weights = bias + I[row + 5] + j * count
                vectors.weigh(R, d + j * L, a, L, M, bias + j, weights, count)
        elif op == ops.LOOKUP1:
            lookup1(M, pool + I[row + 4], R[d : d + L], R[a : a + L], L)
        elif op == ops.LOOKUP2:
            lookup2(M, pool + I[row + 4], R[d : d + L], R[a : a + L], R[b : b + L], L)
        else:
            _function(op, R[d : d + L], R[a : a + L], R[b : b + L], L)


@kernel
def readings_at(I: I32) -> int:  # noqa: E741 - as above
    """Where the code of the readings begins in I, after the rates and their results."""
    return HEADER + C * int(I[HEADER - 3]) + int(I[0])


@kernel
def jacobian_at(I: I32) -> int:  # noqa: E741 - as above
    """Where the code of the Jacobian begins in I."""
    return readings_at(I) + C * int(I[HEADER - 2]) + int(I[2])


@kernel
def integrate(I: I32, M: F64, pool: int, h: float, G: F64, gx: int, L: int) -> None:  # noqa: E741 - as above
    """One tick of the states in registers 0.. by the method in I; G[gx:] holds the new states, then scratch.

    Scratch rows of L lanes: x | sum | next, for ROS2 also the matrix and where its rows changed places.
    """
    alone()
    n, substeps, method = int(I[0]), int(I[3]), int(I[7])
    for w in range(n * L):
        G[gx + w] = G[w]
    if method == ops.MAP:
        count = int(I[HEADER - 3])
        results = HEADER + C * count
        run(I, results - C * count, count, M, pool, G, L)
        for i in range(n):
            r = I[results + i] * L
            for w in range(L):
                G[gx + i * L + w] = G[r + w]
    elif method == ops.ROS2:
        for _ in range(substeps):
            _ros2(I, M, pool, h, G, gx, L)
    else:
        for _ in range(substeps):
            _rk4(I, M, pool, h, G, gx, L)


@kernel
def _rk4(I: I32, M: F64, pool: int, h: float, G: F64, gx: int, L: int) -> None:  # noqa: E741 - as above
    """One step of the classic Runge-Kutta method of order 4."""
    alone()
    n, count = int(I[0]), int(I[HEADER - 3])
    results = HEADER + C * count
    ga, gd = gx + n * L, gx + 2 * n * L
    half, sixth = h * 0.5, h / 6.0
    for stage in range(4):
        run(I, results - C * count, count, M, pool, G, L)
        for i in range(n):
            # A result may be a state register itself: new states are kept aside until the last is read.
            k0, r0, x0, a0 = I[results + i] * L, gd + i * L, gx + i * L, ga + i * L
            k, r, x, a = G[k0 : k0 + L], G[r0 : r0 + L], G[x0 : x0 + L], G[a0 : a0 + L]
            if stage == 0:
                for w in range(L):
                    a[w] = k[w]
                    r[w] = x[w] + half * k[w]
            elif stage == 1:
                for w in range(L):
                    a[w] = a[w] + 2.0 * k[w]
                    r[w] = x[w] + half * k[w]
            elif stage == 2:
                for w in range(L):
                    a[w] = a[w] + 2.0 * k[w]
                    r[w] = x[w] + h * k[w]
            else:
                for w in range(L):
                    v = x[w] + sixth * (a[w] + k[w])
                    x[w] = v
                    r[w] = v
        for w in range(n * L):
            G[w] = G[gd + w]


@kernel
def _ros2(I: I32, M: F64, pool: int, h: float, G: F64, gx: int, L: int) -> None:  # noqa: E741 - as above
    """One step of the Rosenbrock method of order 2, see `vm_reference`."""
    alone()
    n, count, slopes = int(I[0]), int(I[HEADER - 3]), int(I[HEADER - 1])
    results = HEADER + C * count
    code = jacobian_at(I)
    slope = code + C * slopes
    k1, k2, A = gx + n * L, gx + 2 * n * L, gx + 3 * n * L
    run(I, code, slopes, M, pool, G, L)
    scale = ROS2_GAMMA * h
    for i in range(n):
        for j in range(n):
            q, r = A + (i * n + j) * L, I[slope + i * n + j] * L
            one = i == j
            for w in range(L):
                v = -(scale * G[r + w])
                G[q + w] = 1.0 + v if one else v
    _factorise(G, A, n, L)
    run(I, results - C * count, count, M, pool, G, L)
    for i in range(n):
        r = I[results + i] * L
        for w in range(L):
            G[k1 + i * L + w] = G[r + w]
    _solve(G, A, n, k1, L)
    for w in range(n * L):
        G[w] = G[gx + w] + h * G[k1 + w]
    run(I, results - C * count, count, M, pool, G, L)
    for i in range(n):
        r = I[results + i] * L
        for w in range(L):
            G[k2 + i * L + w] = G[r + w] - 2.0 * G[k1 + i * L + w]
    _solve(G, A, n, k2, L)
    for w in range(n * L):
        v = G[gx + w] + (h * 0.5) * (3.0 * G[k1 + w] + G[k2 + w])
        G[gx + w] = v
        G[w] = v


@kernel
def _factorise(G: F64, A: int, n: int, L: int) -> None:
    """LU of n x n rows at G[A:], multipliers below the diagonal, then where rows changed places, lane by lane."""
    alone()
    for k in range(n):
        for i in range(k + 1, n):
            flag = A + (n * n + k * n + i) * L
            for w in range(L):
                G[flag + w] = 1.0 if abs(G[A + (i * n + k) * L + w]) > abs(G[A + (k * n + k) * L + w]) else 0.0
            for j in range(k, n):
                a, b = A + (k * n + j) * L, A + (i * n + j) * L
                for w in range(L):
                    v, other, swap = G[a + w], G[b + w], G[flag + w] > 0.0
                    G[a + w] = other if swap else v
                    G[b + w] = v if swap else other
        for i in range(k + 1, n):
            m, p = A + (i * n + k) * L, A + (k * n + k) * L
            for w in range(L):
                G[m + w] = G[m + w] / G[p + w]
            for j in range(k + 1, n):
                a, b = A + (i * n + j) * L, A + (k * n + j) * L
                for w in range(L):
                    G[a + w] = G[a + w] - G[m + w] * G[b + w]


@kernel
def _solve(G: F64, A: int, n: int, x: int, L: int) -> None:
    """Solves for the right-hand side at G[x:], in place, after `_factorise`."""
    alone()
    for k in range(n):
        a = x + k * L
        for i in range(k + 1, n):
            b, flag = x + i * L, A + (n * n + k * n + i) * L
            for w in range(L):
                v, other, swap = G[a + w], G[b + w], G[flag + w] > 0.0
                G[a + w] = other if swap else v
                G[b + w] = v if swap else other
        for i in range(k + 1, n):
            b, m = x + i * L, A + (i * n + k) * L
            for w in range(L):
                G[b + w] = G[b + w] - G[m + w] * G[a + w]
    for k in range(n - 1, -1, -1):
        a = x + k * L
        for j in range(k + 1, n):
            q, b = A + (k * n + j) * L, x + j * L
            for w in range(L):
                G[a + w] = G[a + w] - G[q + w] * G[b + w]
        q = A + (k * n + k) * L
        for w in range(L):
            G[a + w] = G[a + w] / G[q + w]
