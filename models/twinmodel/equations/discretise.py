"""Zero-order-hold discretisation with an own matrix exponential: the same bits on every machine, no BLAS, no scipy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
_ORDER = 18


def multiply(a: F64, b: F64) -> F64:
    """The product a @ b with sums in a fixed order; `@` would ask a BLAS whose rounding depends on the processor."""
    total = np.zeros((a.shape[0], b.shape[1]))
    for k in range(a.shape[1]):
        total = total + a[:, k, None] * b[None, k, :]
    return total


def exponential(matrix: F64) -> F64:
    """e^matrix by scaling, a Taylor series of order 18 and squaring."""
    norm = float(np.max(np.sum(np.abs(matrix), axis=1), initial=0.0))
    # Scaled below 1/2 the first term left out is below 2^-19 / 19!, beyond double precision.
    squarings = max(0, math.frexp(norm)[1] + 1)
    scaled = matrix / 2.0**squarings
    result = np.eye(len(matrix))
    for order in range(_ORDER, 0, -1):
        result = np.eye(len(matrix)) + multiply(scaled, result) / order
    for _ in range(squarings):
        result = multiply(result, result)
    return result


def hold(A: F64, B: F64, dt_s: float) -> tuple[F64, F64]:  # noqa: N803 - letters of the literature
    """Discrete A and B of x' = A x + B u for u constant over dt_s seconds."""
    n, m = B.shape
    block = np.zeros((n + m, n + m))
    block[:n, :n], block[:n, n:] = A * dt_s, B * dt_s
    exponent = exponential(block)
    return exponent[:n, :n].copy(), exponent[:n, n:].copy()


def noise(A: F64, Q: F64, dt_s: float) -> F64:  # noqa: N803 - letters of the literature
    """Covariance that white noise of density Q (unit² per second) leaves after dt_s seconds.

    Van Loan's integral (1978) multiplies e^-A by e^A: where A is fast beside the tick, nothing but rounding is left. So
    it is taken over a part of the tick in which A is slow, and doubled: the covariance of two parts is that of the
    first, carried through the second, plus that of the second.
    """
    n = len(A)
    norm = float(np.max(np.sum(np.abs(A), axis=1), initial=0.0)) * dt_s
    doublings = max(0, math.frexp(norm)[1])
    part_s = dt_s / 2.0**doublings
    block = np.zeros((2 * n, 2 * n))
    block[:n, :n], block[:n, n:], block[n:, n:] = -A * part_s, Q * part_s, A.T * part_s
    exponent = exponential(block)
    carry = exponent[n:, n:].T.copy()
    covariance = multiply(carry, exponent[:n, n:])
    for _ in range(doublings):
        covariance = covariance + multiply(multiply(carry, covariance), carry.T)
        carry = multiply(carry, carry)
    return (covariance + covariance.T) * 0.5
