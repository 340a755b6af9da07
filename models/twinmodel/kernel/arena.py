"""Where every number of a kernel lies: flat arrays of tiles `[T, rows, W]`, constant row offsets, W lanes.

One tile holds up to W instances of one model; the models of one call share I, their signature, and differ in M. Row r
of tile t, lane w is element `(t*rows + r)*W + w`. W is handed in at run time: a constant lane count would be unrolled
by the compiler and never vectorised.

    S  state      x | packed upper P | u held | watch rows of each output (see `drift`) | flag | bad
    Z  what comes u | y | q factor | r factor | mute
    O  results    estimate | sigma | prediction | innovation | score | spread | nis
    I  integers   n m p substeps params consts registers, then the programs
    M  reals      models x (drift settings | low | high | R | Q | Q held | family's own)
    K  models     which model of M each tile holds, int32 [T]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LANES: Final = 8
HEADER: Final = 9
DRIFT: Final = 11
WATCH: Final = 7
LARGEST: Final = 1e300
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
# Arguments: I, M, K, S, Z, O, a scratch array G and the number of lanes W.
Step = Callable[[I32, F64, I32, F64, F64, F64, F64, int], None]
# A step with all of its arguments prepared, see `machine.bind`.
Bound = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Layout:
    """Row offsets of one model.

    Attributes:
        n, m, p: numbers of states, inputs and outputs.
        registers: registers of the op-list, 0 for the linear family.
    """

    n: int
    m: int
    p: int
    registers: int = 0

    @property
    def pairs(self) -> int:
        """Rows of a packed upper triangle."""
        return self.n * (self.n + 1) // 2

    @property
    def held(self) -> int:
        """First row of the inputs held from the tick before."""
        return self.n + self.pairs

    @property
    def drift(self) -> int:
        """First row of the drift detectors."""
        return self.held + self.m

    @property
    def flag(self) -> int:
        """Row of the drift flag."""
        return self.drift + WATCH * self.p

    @property
    def bad(self) -> int:
        """Row that is 1 after the filter has diverged."""
        return self.flag + 1

    @property
    def state_rows(self) -> int:
        """Rows of S."""
        return self.bad + 1

    @property
    def input_rows(self) -> int:
        """Rows of Z."""
        return self.m + self.p + 3

    @property
    def output_rows(self) -> int:
        """Rows of O."""
        return 6 * self.p + 1

    @property
    def scratch_rows(self) -> int:
        """Rows of the scratch array, in lanes of the tile; generous for the smaller family."""
        n, p, points = self.n, self.p, 2 * self.n + 1
        linear = n + n * n + 2 * n + 8
        sigma = (self.registers + 3 * n + p) * points
        return linear + sigma + self.pairs + p * (p + 1) // 2 + n * p + 3 * p + 16


@dataclass(frozen=True, slots=True)
class Plan:
    """A model as the kernels read it: nothing but numbers.

    Attributes:
        family: `linear` or `ode`.
        layout: row offsets.
        integers: the I array.
        reals: the M array.
    """

    family: str
    layout: Layout
    integers: I32
    reals: F64


def packed(n: int, i: int, j: int) -> int:
    """Position of element (i, j), i <= j, in a packed upper triangle of order n."""
    return i * n - i * (i - 1) // 2 + j - i


def pack(matrix: F64) -> F64:
    """Upper triangle of a symmetric matrix, row by row."""
    return np.ascontiguousarray(matrix[np.triu_indices(len(matrix))])


def unpack(values: F64, n: int) -> F64:
    """The symmetric matrix of a packed upper triangle."""
    matrix = np.zeros((n, n))
    matrix[np.triu_indices(n)] = values
    return np.where(np.triu(np.ones((n, n), bool)), matrix, matrix.T)


def plan_linear(tensors: Mapping[str, F64], drift: F64) -> Plan:
    """Packs a discrete state-space model x+ = A x + B u + a, y = C x + D u + c."""
    n, m = tensors["B"].shape
    p = len(tensors["C"])
    names = ("A", "B", "a", "C", "D", "c")
    reals = np.concatenate([drift, *_common(tensors), *(tensors[k].ravel() for k in names)])
    integers = np.array([n, m, p, 1, 0, 0, 0, 0, 0], np.int32)
    return Plan("linear", Layout(n, m, p), integers, reals)


def plan_ode(
    tensors: Mapping[str, F64], programs: tuple[I32, I32, I32, I32], registers: int, step: tuple[int, int], drift: F64
) -> Plan:
    """Packs a model of ordinary differential equations.

    Args:
        tensors: params, consts and the noise of the model.
        programs: code and results of the derivatives, code and results of the outputs.
        registers: size of the register file.
        step: dt_ns and substeps.
        drift: settings of the detectors.
    """
    rates, rate_results, outputs, output_results = programs
    n, p = len(rate_results), len(output_results)
    params, consts = tensors["params"], tensors["consts"]
    m = len(tensors["inputs_nominal"])
    dt_ns, substeps = step
    # Symmetric points: kappa = 3 - n keeps the fourth moment of a Gaussian; never negative, so that P stays
    # positive (the cubature filter from n = 3 on).
    kappa = max(3 - n, 0)
    own = np.array([dt_ns / 1e9 / substeps, np.sqrt(n + kappa), kappa / (n + kappa), 0.5 / (n + kappa)])
    header = [n, m, p, substeps, len(params), len(consts), registers, len(rates), len(outputs)]
    parts = [np.array(header), rates.ravel(), rate_results, outputs.ravel(), output_results]
    integers = np.concatenate(parts).astype(np.int32)
    reals = np.concatenate([drift, *_common(tensors), own, params, consts])
    return Plan("ode", Layout(n, m, p, registers), integers, reals)


def _common(tensors: Mapping[str, F64]) -> tuple[F64, ...]:
    return tensors["low"], tensors["high"], tensors["R"], pack(tensors["Q"]), pack(tensors["Q_held"])


def fresh_state(layout: Layout, x0: F64, P0: F64, held: F64, lanes: int = 1, tiles: int = 1) -> F64:
    """A state array whose every lane starts at x0, P0 with quiet detectors."""
    rows = np.zeros(layout.state_rows)
    rows[: layout.n] = x0
    rows[layout.n : layout.held] = pack(P0)
    rows[layout.held : layout.drift] = held
    return np.tile(np.repeat(rows, lanes), tiles)
