"""A large linear model made small: balanced truncation by pyMOR, with the bound of what it costs.

The outputs of the small model differ from those of the large one by at most twice the sum of the Hankel singular
values cut off, relative to the energy of the input (Enns 1984, Glover 1984).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.terms import STATES_MAX
from twinmodel.errors import InputError
from twinmodel.fit.system import System

F64 = NDArray[np.float64]
ORDER_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class Reduced:
    """A small model.

    Attributes:
        system: the small model.
        singular: Hankel singular values of the large one, falling.
        bound: greatest gain of the difference of both, over all inputs.
        gain: greatest Hankel singular value, to compare the bound with.
        order_before: states of the large model.
    """

    system: System
    singular: F64
    bound: float
    gain: float
    order_before: int


def reduce_system(system: System, *, order: int | None = None, error: float | None = None) -> Reduced:
    """Cuts a stable linear system.

    Args:
        system: the large model, continuous or discrete.
        order: states to keep; with neither order nor error, as few as keep the bound below 1 % of the gain.
        error: bound to keep, relative to the largest Hankel singular value.

    Raises:
        ConflictError: MODEL_UNSTABLE.
        InputError: VALUE_INVALID for an order or error that cannot be, LIMIT_EXCEEDED for a model that is too large.
    """
    n = system.order
    if n > ORDER_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{n} states, at most {ORDER_MAX}")
    if order is not None and not 1 <= order <= min(n, STATES_MAX):
        raise InputError("VALUE_INVALID", f"order {order} is not within 1 to {min(n, STATES_MAX)}")
    if error is not None and not 0.0 < error < 1.0:
        raise InputError("VALUE_INVALID", f"error {error:g} is not between 0 and 1")
    system.require_stable()
    a, c = system.drift
    if a.any():
        raise InputError("VALUE_INVALID", "a constant part of the states cannot be reduced; put it into the outputs")
    importlib.import_module("pymor.core.logger").set_log_levels({"pymor": "ERROR"})
    iosys = importlib.import_module("pymor.models.iosys")
    large = iosys.LTIModel.from_matrices(system.A, system.B, system.C, system.D, sampling_time=system.dt_s)
    singular = np.asarray(large.hsv(), np.float64)
    if not len(singular) or singular[0] <= 0.0:
        raise InputError("VALUE_INVALID", "no output depends on an input: there is nothing to keep")
    bounds = 2.0 * np.append(np.cumsum(singular[::-1])[::-1][1:], 0.0)
    if order is None:
        limit = (0.01 if error is None else error) * singular[0]
        enough = np.flatnonzero(bounds <= limit)
        order = int(enough[0]) + 1
        if order > STATES_MAX:
            message = f"{order} states are needed for this error, at most {STATES_MAX} can be run"
            raise InputError("VALUE_INVALID", message, hint="allow a larger --error, or give --order")
    order = min(order, int((singular > 1e-14 * singular[0]).sum()))
    reductor = importlib.import_module("pymor.reductors.bt").BTReductor(large)
    # Balanced projections: bases are bi-orthogonal, so that the small E is the unit matrix.
    small = reductor.reduce(order, projection="sr")
    A, B, C, D, E = small.to_matrices()[:5]  # noqa: N806 - letters of the literature
    if E is not None:
        A, B = np.linalg.solve(E, A), np.linalg.solve(E, B)  # noqa: N806
    D = np.zeros((len(C), B.shape[1])) if D is None else D  # noqa: N806
    found = System(np.asarray(A), np.asarray(B), np.asarray(C), np.asarray(D), system.dt_s, c=c)
    found.require_stable()
    return Reduced(found, singular, float(bounds[order - 1]), float(singular[0]), n)
