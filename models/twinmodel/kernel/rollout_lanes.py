"""The compiled open-loop simulation; imported only by `compile`. Arguments: see `rollout`."""

from __future__ import annotations

from twinmodel.kernel import ops
from twinmodel.kernel.arena import DRIFT, F64, HEADER, I32
from twinmodel.kernel.lanes import kernel
from twinmodel.kernel.vm import integrate, readings_at, run


@kernel
def rollout_step(I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741 - letters of `arena`
    """Simulates W lanes, a block after the other through all ticks, so that a block stays in the fast cache."""
    block = int(K[2])
    for base in range(0, W, block):
        L = min(block, W - base)
        if I[6] > 0:
            _ode(I, M, K, S, Z, O, G, base, L, W)
        else:
            _linear(I, M, K, S, Z, O, G, base, L, W)


@kernel
def _inputs(K: I32, Z: F64, G: F64, g: int, t: int, m: int, base: int, L: int, W: int) -> None:
    """Inputs of tick t into rows of L lanes at G[g:]."""
    for k in range(m):
        row = g + k * L
        if K[1]:
            v = Z[t * m + k]
            for w in range(L):
                G[row + w] = v
        else:
            z = (t * m + k) * W + base
            for w in range(L):
                G[row + w] = Z[z + w]


@kernel
def _ode(I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, base: int, L: int, W: int) -> None:  # noqa: E741 - as above
    n, m, p, q, consts = int(I[0]), int(I[1]), int(I[2]), int(I[4]), int(I[5])
    own = DRIFT + 2 * n + p + n * (n + 1)
    pool, h = own + 4 + consts, M[own]
    count, code = int(I[HEADER - 2]), readings_at(I)
    results = code + ops.COLUMNS * count
    gx = int(I[6]) * L
    for k in range(n + q):
        row = (k if k < n else k + m) * L
        s = k * W + base
        for w in range(L):
            G[row + w] = S[s + w]
    for k in range(consts):
        v = M[own + 4 + k]
        row = (n + m + q + k) * L
        for w in range(L):
            G[row + w] = v
    for t in range(int(K[0])):
        _inputs(K, Z, G, n * L, t, m, base, L, W)
        run(I, code, count, M, pool, G, L)
        for r in range(p):
            g, o = I[results + r] * L, (t * p + r) * W + base
            for w in range(L):
                O[o + w] = G[g + w]
        integrate(I, M, pool, h, G, gx, L)
        for w in range(n * L):
            G[w] = G[gx + w]


@kernel
def _row(M: F64, offset: int, states: int, inputs: int, n: int, m: int, G: F64, x: int, u: int, g: int, L: int) -> None:
    """Offset + states x + inputs u, summed in this order, into G[g:]."""
    v = M[offset]
    for w in range(L):
        G[g + w] = v
    for k in range(n):
        v = M[states + k]
        for w in range(L):
            G[g + w] = G[g + w] + v * G[x + k * L + w]
    for k in range(m):
        v = M[inputs + k]
        for w in range(L):
            G[g + w] = G[g + w] + v * G[u + k * L + w]


@kernel
def _linear(I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, base: int, L: int, W: int) -> None:  # noqa: E741 - as above
    n, m, p = int(I[0]), int(I[1]), int(I[2])
    A = DRIFT + 2 * n + p + n * (n + 1)
    B = A + n * n
    a = B + n * m
    C = a + n
    D = C + p * n
    c = D + p * m
    # Scratch: x | next x | an output | u
    y, u = 2 * n * L, (2 * n + 1) * L
    for k in range(n):
        for w in range(L):
            G[k * L + w] = S[k * W + base + w]
    for t in range(int(K[0])):
        _inputs(K, Z, G, u, t, m, base, L, W)
        for r in range(p):
            _row(M, c + r, C + r * n, D + r * m, n, m, G, 0, u, y, L)
            o = (t * p + r) * W + base
            for w in range(L):
                O[o + w] = G[y + w]
        for i in range(n):
            _row(M, a + i, A + i * n, B + i * m, n, m, G, 0, u, (n + i) * L, L)
        for w in range(n * L):
            G[w] = G[n * L + w]
