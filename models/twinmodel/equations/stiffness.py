"""Whether the steps of Runge-Kutta are short enough: eigenvalues of the Jacobian at the start and in the regime.

A step of length h multiplies a mode of eigenvalue λ by R(hλ) = 1 + z + z²/2 + z³/6 + z⁴/24; a mode that decays must
not grow by it (Hairer and Wanner 1996, IV.2). What is not stable is refused with the substeps that would do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS
from twinmodel.equations.blocks import F64
from twinmodel.equations.load import Document
from twinmodel.equations.schema import SUBSTEPS_MAX

SAMPLES: Final = 64
_GROWTH_MAX: Final = 1.0 + 1e-6
# Where a mode grows, its length alone counts: beyond this, four stages do not follow it.
_LENGTH_MAX: Final = 2.785
# Fractional parts of the powers of the reciprocal of a root of x^(d+1) = x + 1 fill a box evenly (Roberts 2018).
_ROUNDS: Final = 64


def sample(document: Document, nominal: F64) -> tuple[F64, F64]:
    """States and inputs at which a model is judged: its start, then points spread over its regime.

    Args:
        document: the model.
        nominal: inputs at the start, shape (m,).

    Returns:
        States, shape (n, k), and inputs, shape (m, k).
    """
    spec = document.spec
    box = spec.regime.box
    start = np.array([s.start for s in spec.states.values()])
    ends = []
    for name, state in spec.states.items():
        wide = state.sigma or 0.1 * (state.span or max(abs(state.start), 1.0))
        low = state.start - wide if state.low is None else state.low
        high = state.start + wide if state.high is None else state.high
        ends.append(box.get(name, (low, high)))
    for (name, port), value in zip(spec.inputs.items(), nominal.tolist(), strict=True):
        ends.append(box.get(name, (value if port.low is None else port.low, value if port.high is None else port.high)))
    low, high = np.array(ends).T
    points = low[:, None] + (high - low)[:, None] * _spread(len(ends), SAMPLES)
    whole = np.concatenate([np.concatenate([start, nominal])[:, None], points], axis=1)
    return whole[: len(start)], whole[len(start) :]


def _spread(dimensions: int, count: int) -> F64:
    """Points strictly inside the unit box, shape (dimensions, count); the same on every machine."""
    root = 2.0
    for _ in range(_ROUNDS):
        root = math.exp(math.log1p(root) / (dimensions + 1))
    # Rounded, so that no library's last bit moves a point.
    steps = [round(root**-k, 9) % 1.0 for k in range(1, dimensions + 1)]
    return np.array([[(0.5 + step * (i + 1)) % 1.0 for i in range(count)] for step in steps])


def judge(document: Document, jacobians: F64) -> None:
    """Refuses a model whose steps are too long.

    Args:
        document: the model.
        jacobians: derivatives of rates by states, in 1/s, shape (k, n, n); points where one is not finite are left out.

    Raises:
        ConfigError: EQUATION_INVALID at `dt`, with what would do.
    """
    spec = document.spec
    finite = jacobians[np.isfinite(jacobians).all(axis=(1, 2))]
    if not len(finite):
        return
    eigenvalues = np.asarray(np.linalg.eigvals(finite), np.complex128).ravel()
    tick_s = spec.dt / SECOND_NS
    if _stable(eigenvalues * (tick_s / spec.substeps)):
        return
    fastest = float(np.max(np.abs(eigenvalues)))
    needed = _enough(lambda count: _stable(eigenvalues * (tick_s / count)))
    step = tick_s / spec.substeps
    message = (
        f"the model is stiff: its fastest time constant is {1.0 / fastest:.3g} s, too fast for steps of {step:.3g} s"
    )
    if needed is None:
        remedy = f"no {SUBSTEPS_MAX} substeps would do; use `integrator: ros2`"
    else:
        remedy = f"use `substeps: {needed}` or `integrator: ros2`"
    keys = ("substeps",) if "substeps" in document.tree else ("dt",)
    raise document.fail("EQUATION_INVALID", f"{message}; {remedy}", *keys)


def _stable(z: NDArray[np.complex128]) -> bool:
    growth = np.abs(1.0 + z * (1.0 + z / 2.0 * (1.0 + z / 3.0 * (1.0 + z / 4.0))))
    good = np.where(z.real <= 0.0, growth <= _GROWTH_MAX, np.abs(z) <= _LENGTH_MAX)
    return bool(good.all())


def _enough(holds: Callable[[int], bool]) -> int | None:
    """The least number of substeps that will do, to within a tenth."""
    count = 1
    while count <= SUBSTEPS_MAX:
        if holds(count):
            return count
        count += max(1, count // 10)
    return None
