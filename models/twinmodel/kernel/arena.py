"""Where every number of a kernel lies: flat arrays of tiles `[T, rows, W]`, constant row offsets, W lanes.

One tile holds up to W instances of one model; the models of one call share I, their signature, and differ in M. Row r
of tile t, lane w is element `(t*rows + r)*W + w`. W is handed in at run time: a constant lane count would be unrolled
by the compiler and never vectorised.

    S  state      x | packed upper P | u held | watch rows of each output (see `drift`) | flag | bad | params
    Z  what comes u | y | q factor | r factor | mute
    O  results    estimate | sigma | prediction | innovation | score | spread | nis
    I  integers   n m p substeps params consts registers integrator pool, rows of rates, readings and Jacobian, then
                  these programs: code and results of each
    M  reals      models x (drift settings | low | high | R | Q | Q held | family's own), or, for a linear model of each
                  lane (I[5] = 1), models x (drift settings | low | high) | tiles of the others
    K  models     which model of M each tile holds, int32 [T]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.kernel.ops import RK4, ROS2

LANES: Final = 8
HEADER: Final = 12
DRIFT: Final = 11
WATCH: Final = 7
# The row of `drift` that counts rejections.
RUN: Final = 6
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
        q: number of parameter rows, 0 for the linear family.
        integrator: number of the method in `ops`.
    """

    n: int
    m: int
    p: int
    registers: int = 0
    q: int = 0
    integrator: int = RK4

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
    def params(self) -> int:
        """First row of the parameters, each instance its own; no kernel writes them."""
        return self.bad + 1

    @property
    def state_rows(self) -> int:
        """Rows of S."""
        return self.params + self.q

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
        matrix = 2 * n * n if self.integrator == ROS2 else 0
        sigma = (self.registers + 3 * n + matrix + p) * points
        return linear + sigma + self.pairs + p * (p + 1) // 2 + n * p + 3 * p + 16


@dataclass(frozen=True, slots=True)
class Plan:
    """A model as the kernels read it: nothing but numbers.

    Attributes:
        family: `linear` or `ode`.
        layout: row offsets.
        integers: the I array.
        reals: the M array.
        params: values of the parameters, the last rows of S; empty for the linear family.
    """

    family: str
    layout: Layout
    integers: I32
    reals: F64
    params: F64


def layout_of(family: str, integers: I32) -> Layout:
    """The layout the integers of a plan tell of."""
    n, m, p = (int(v) for v in integers[:3])
    if family == "linear":
        return Layout(n, m, p)
    return Layout(n, m, p, int(integers[6]), int(integers[4]), int(integers[7]))


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
    integers = np.array([n, m, p, 1, *[0] * (HEADER - 4)], np.int32)
    return Plan("linear", Layout(n, m, p), integers, reals, np.empty(0))


def plan_ode(
    tensors: Mapping[str, F64], programs: Sequence[I32], registers: int, step: tuple[int, int, int], drift: F64
) -> Plan:
    """Packs a model of an op-list.

    Args:
        tensors: params, consts, pool and the noise of the model.
        programs: code and results of the rates, of the readings and, for ros2, of the Jacobian.
        registers: size of the register file.
        step: dt_ns, substeps and the number of the integrator in `ops`.
        drift: settings of the detectors.
    """
    codes, results = programs[0::2], programs[1::2]
    n, p = len(results[0]), len(results[1])
    params, consts, pool = tensors["params"], tensors["consts"], tensors["pool"]
    m = len(tensors["inputs_nominal"])
    dt_ns, substeps, integrator = step
    # Symmetric points: kappa = 3 - n keeps the fourth moment of a Gaussian; never negative, so that P stays
    # positive (the cubature filter from n = 3 on).
    kappa = max(3 - n, 0)
    own = np.array([dt_ns / 1e9 / substeps, np.sqrt(n + kappa), kappa / (n + kappa), 0.5 / (n + kappa)])
    counts = [*(len(code) for code in codes), 0][:3]
    header = [n, m, p, substeps, len(params), len(consts), registers, integrator, len(pool), *counts]
    parts = [np.array(header), *(a.ravel() for pair in zip(codes, results, strict=True) for a in pair)]
    integers = np.concatenate(parts).astype(np.int32)
    reals = np.concatenate([drift, *_common(tensors), own, consts, pool])
    layout = Layout(n, m, p, registers, len(params), integrator)
    return Plan("ode", layout, integers, reals, np.array(params, np.float64))


def own_plan(plan: Plan) -> Plan:
    """A linear plan whose kernel reads the coefficients (noise and matrices) of each lane, see `own_reals`."""
    integers = plan.integers.copy()
    integers[5] = 1
    return replace(plan, integers=integers)


def own_reals(plans: Sequence[Plan], models: I32, lanes: NDArray[np.int64]) -> F64:
    """M of a linear kernel with coefficients of each lane: settings and bounds of all plans | tiles of coefficients.

    Args:
        plans: of one signature.
        models: position in `plans` of the settings of each tile, shape (T,).
        lanes: position in `plans` of the model of each lane, shape (T, W).
    """
    head = DRIFT + 2 * plans[0].layout.n
    reals = np.array([plan.reals for plan in plans])
    tiles = reals[lanes, head:].transpose(0, 2, 1)
    if len(tiles) != len(models):
        raise ValueError(f"{len(models)} tiles and lanes for {len(tiles)}")
    return np.concatenate([reals[:, :head].ravel(), tiles.ravel()])


def _common(tensors: Mapping[str, F64]) -> tuple[F64, ...]:
    return tensors["low"], tensors["high"], tensors["R"], pack(tensors["Q"]), pack(tensors["Q_held"])


def fresh_state(plan: Plan, x0: F64, P0: F64, held: F64, lanes: int = 1, tiles: int = 1) -> F64:
    """A state array whose every lane starts at x0, P0 with the parameters of the model and quiet detectors."""
    layout = plan.layout
    rows = np.zeros(layout.state_rows)
    rows[: layout.n] = x0
    rows[layout.n : layout.held] = pack(P0)
    rows[layout.held : layout.drift] = held
    rows[layout.params :] = plan.params
    return np.tile(np.repeat(rows, lanes), tiles)
