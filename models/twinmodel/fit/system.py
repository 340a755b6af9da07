"""A linear system as matrices, and the model file that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from twinmodel.equations.load import read
from twinmodel.errors import ConflictError
from twinmodel.fit.rewrite import dump

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

    def start(self, u: F64, y: F64) -> F64:
        """The start state that fits measurements best, NaN where there is none; shape (n,)."""
        free = np.empty((len(u), len(self.C), self.order))
        block = self.C
        for tick in range(len(u)):
            free[tick] = block
            block = block @ self.A
        told = np.isfinite(y)
        rest = (y - self.respond(u, np.zeros(self.order)))[told]
        if not len(rest):
            return np.zeros(self.order)
        # A weak pull to zero: modes that no output shows stay where they are.
        pull = 1e-9 * max(float(np.abs(free).max()), 1e-300) * np.eye(self.order)
        found = np.linalg.lstsq(np.concatenate([free[told], pull]), np.append(rest, np.zeros(self.order)))[0]
        return np.asarray(found)


def model_text(
    system: System,
    head: Mapping[str, Any],
    ports: tuple[Mapping[str, Mapping[str, Any]], Mapping[str, Mapping[str, Any]]],
    *,
    states: Mapping[str, Mapping[str, Any]] | None = None,
    tail: Mapping[str, Any] | None = None,
) -> str:
    """YAML text of a linear model.

    Args:
        system: the matrices.
        head: `model`, `version`, `description`, `dt` ...
        ports: inputs and outputs with their keys.
        states: names and keys of the states; x1, x2 ... by default.
        tail: `noise`, `regime`, `provenance` ...

    Raises:
        ConfigError: when the file is not valid, such as for too many states.
    """
    inputs, outputs = ports
    tree = CommentedMap({"family": "linear", **head})
    for key in ("version", "model"):
        tree.move_to_end(key, last=False)
    tree["states"] = _flow(
        {f"x{i + 1}": {"start": 0.0, "sigma": 1.0} for i in range(system.order)} | dict(states or {})
    )
    tree["inputs"] = _flow(inputs)
    matrices = CommentedMap({"kind": "discrete" if system.dt_s > 0.0 else "continuous"})
    for name in ("A", "B", "C", "D"):
        matrices[name] = _rows(getattr(system, name))
    for name, values in zip(("a", "c"), system.drift, strict=True):
        if values.any():
            matrices[name] = _row(values)
    tree["matrices"] = matrices
    tree["outputs"] = _flow(outputs)
    for key, value in (tail or {}).items():
        tree[key] = value
    text = dump(tree)
    read(text)
    return text


def _flow(entries: Mapping[str, Mapping[str, Any]]) -> CommentedMap:
    tree = CommentedMap()
    for name, keys in entries.items():
        tree[name] = CommentedMap({k: v for k, v in keys.items() if v is not None})
        tree[name].fa.set_flow_style()
    return tree


def _rows(matrix: F64) -> CommentedSeq:
    return CommentedSeq([_row(row) for row in matrix])


def _row(values: F64) -> CommentedSeq:
    row = CommentedSeq([float(v) for v in values])
    row.fa.set_flow_style()
    return row
