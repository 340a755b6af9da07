"""A linear system as matrices: whether it is stable, what it answers, and where it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import ConflictError

F64 = NDArray[np.float64]
_UNSTABLE = 1e-9


@dataclass(frozen=True, slots=True)
class System:
    """x+ = A x + B u + a (or x' = ...), y = C x + D u + c.

    Attributes:
        A, B, C, D: matrices, shapes (n, n), (n, m), (p, n), (p, m).
        dt_s: length of a tick, 0 for a continuous system.
        a, c: constants, shapes (n,) and (p,); zeros by default.
    """

    A: F64
    B: F64
    C: F64
    D: F64
    dt_s: float
    a: F64 = field(default_factory=lambda: np.zeros(0))
    c: F64 = field(default_factory=lambda: np.zeros(0))

    @property
    def order(self) -> int:
        """Number of states."""
        return len(self.A)

    @property
    def drift(self) -> tuple[F64, F64]:
        """The constants, of full length."""
        return (self.a if len(self.a) else np.zeros(len(self.A))), (self.c if len(self.c) else np.zeros(len(self.C)))

    def require_stable(self) -> None:
        """Raises ConflictError MODEL_UNSTABLE, with the mode, when the system is not asymptotically stable."""
        modes = np.linalg.eigvals(self.A)
        if not self.order:
            return
        if self.dt_s > 0.0:
            worst = complex(modes[np.argmax(np.abs(modes))])
            bad, limit = abs(worst) >= 1.0 - _UNSTABLE, "the unit circle"
        else:
            worst = complex(modes[np.argmax(modes.real)])
            bad, limit = worst.real >= -_UNSTABLE, "the left half plane"
        if bad:
            text = f"{worst.real:.4g}{worst.imag:+.4g}j" if worst.imag else f"{worst.real:.4g}"
            raise ConflictError("MODEL_UNSTABLE", f"the model has a mode at {text}, not inside {limit}")

    def respond(self, u: F64, x0: F64) -> F64:
        """Outputs of a discrete system, shape (ticks, p)."""
        a, c = self.drift
        x = x0
        forced = u @ self.B.T + a
        states = np.empty((len(u), self.order))
        for tick, push in enumerate(forced):
            states[tick] = x
            x = self.A @ x + push
        return np.asarray(states @ self.C.T + u @ self.D.T + c)

    def free(self, ticks: int) -> F64:
        """What each start state alone does to the outputs, shape (ticks, p, n)."""
        found = np.empty((ticks, len(self.C), self.order))
        block = self.C
        for tick in range(ticks):
            found[tick] = block
            block = block @ self.A
        return found

    def start(self, u: F64, y: F64) -> F64:
        """The start state that fits measurements best, NaN where there is none; shape (n,)."""
        free = self.free(len(u))
        told = np.isfinite(y)
        rest = (y - self.respond(u, np.zeros(self.order)))[told]
        if not len(rest):
            return np.zeros(self.order)
        # A weak pull to zero: modes that no output shows stay where they are.
        pull = 1e-9 * max(float(np.abs(free).max()), 1e-300) * np.eye(self.order)
        found = np.linalg.lstsq(np.concatenate([free[told], pull]), np.append(rest, np.zeros(self.order)))[0]
        return np.asarray(found)
