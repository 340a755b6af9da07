"""Many instances of models of one signature, advanced together: one kernel call a tick.

    bank = Bank(plans, members, starts, step)      member i runs plans[members[i]]
    bank.set(u, y); bank.tick(); bank.estimate     rows are members, in their order

Plans of one signature share their integers: family, sizes and programs. A tile holds lanes of one model only, so
members are sorted into tiles by model and the last tile of a model is padded. Every member gets the very bits it would
get alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinmodel.kernel.arena import F64, I32, LANES, Layout, Plan, Step, fresh_state, own_plan, own_reals, unpack
from twinmodel.kernel.machine import bind, signature
from twinmodel.kernel.parity import canonical

Start = tuple[F64, F64, F64]


class Bank:
    """N filters in one arena.

    Args:
        plans: models of one signature.
        members: position in `plans` of each member's model, length N.
        starts: x0, P0 and held inputs of each plan.
        step: the kernel of any tier.
        lanes: instances a tile.
        own: linear plans only: each lane reads the coefficients of its own model, so that tiles are full however many
            plans there are; drift settings and bounds are those of the first member of a tile. The kernel must be of
            `arena.own_plan`.

    Raises:
        ValueError: when signatures differ, there is no member, a member names no plan, or `own` is asked of another
            family.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        members: Sequence[int],
        starts: Sequence[Start],
        step: Step,
        *,
        lanes: int = LANES,
        own: bool = False,
    ) -> None:
        if len({signature(plan) for plan in plans}) != 1 or len(plans) != len(starts):
            raise ValueError("a bank needs plans of one signature, and one start for each")
        if not members or not 0 <= min(members) <= max(members) < len(plans):
            raise ValueError("a bank needs members, each the position of a plan")
        if own and plans[0].family != "linear":
            raise ValueError("only linear models have coefficients of each lane; others have parameters of each")
        self.layout: Layout = plans[0].layout
        self.lanes = lanes
        self._slots, models = _places(np.asarray(members, np.int64), lanes, own=own)
        tiles = len(models)
        # The plan of every lane; padded ones follow their tile.
        slots = np.repeat(models.astype(np.int64), lanes)
        slots[self._slots] = members
        owners = slots.reshape(-1, lanes)
        fresh = [fresh_state(plan, x0, P0, held) for plan, (x0, P0, held) in zip(plans, starts, strict=True)]
        self._integers: I32 = own_plan(plans[0]).integers if own else plans[0].integers
        self._reals: F64 = own_reals(plans, models, owners) if own else np.concatenate([p.reals for p in plans])
        self._models: I32 = models
        self._S: F64 = np.array(fresh)[owners].transpose(0, 2, 1).ravel()
        self._Z: F64 = np.zeros(tiles * self.layout.input_rows * lanes)
        self._O: F64 = np.zeros(tiles * self.layout.output_rows * lanes)
        self._G: F64 = np.zeros(self.layout.scratch_rows * lanes)
        self.inputs[:, :-3] = np.nan
        self.inputs[:, -2] = 1.0
        self.use(step)

    def __len__(self) -> int:
        return len(self._slots)

    def use(self, step: Step) -> None:
        """Changes the tier; between two ticks."""
        arrays = (self._integers, self._reals, self._models, self._S, self._Z, self._O, self._G)
        self.step = step
        self.tick = bind(step, *arrays, self.lanes)

    @property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tile and lane of each member."""
        return self._slots // self.lanes, self._slots % self.lanes

    @property
    def states(self) -> F64:
        """The arena of states, a view of shape (tiles, rows, lanes)."""
        return self._S.reshape(-1, self.layout.state_rows, self.lanes)

    @property
    def inputs(self) -> F64:
        """The arena of what comes: u, y, q factor, r factor, mute; a view of shape (tiles, rows, lanes)."""
        return self._Z.reshape(-1, self.layout.input_rows, self.lanes)

    @property
    def results(self) -> F64:
        """The arena of results, a view of shape (tiles, rows, lanes)."""
        return self._O.reshape(-1, self.layout.output_rows, self.lanes)

    def set(
        self, u: F64, y: F64, *, process: float | F64 = 0.0, measurement: float | F64 = 1.0, mute: float | F64 = 0.0
    ) -> None:
        """What the next tick sees.

        Args:
            u: inputs, shape (N, m); NaN holds the last value.
            y: measurements, shape (N, p); NaN where there is none.
            process: how much of Q held is added, a number or shape (N,).
            measurement: factor of R, a number or shape (N,).
            mute: above 0 holds the detectors still, a number or shape (N,).
        """
        m, p = self.layout.m, self.layout.p
        self._scatter(slice(0, m), u)
        self._scatter(slice(m, m + p), y)
        for row, values in enumerate((process, measurement, mute), m + p):
            self._scatter(slice(row, row + 1), np.broadcast_to(np.asarray(values, np.float64), len(self))[:, None])

    @property
    def x(self) -> F64:
        """States, shape (N, n)."""
        return self._gather(self.states, 0, self.layout.n)

    @property
    def P(self) -> F64:  # noqa: N802 - letters of the literature
        """Covariances, shape (N, n, n)."""
        rows = self._gather(self.states, self.layout.n, self.layout.held)
        return np.array([unpack(row, self.layout.n) for row in rows])

    @property
    def estimate(self) -> F64:
        """Outputs after the measurements, shape (N, p)."""
        return self._gather(self.results, 0, self.layout.p)

    @property
    def sigma(self) -> F64:
        """Standard deviations of `estimate`, shape (N, p)."""
        return self._gather(self.results, self.layout.p, 2 * self.layout.p)

    @property
    def prediction(self) -> F64:
        """Outputs before the measurements, shape (N, p)."""
        return self._gather(self.results, 2 * self.layout.p, 3 * self.layout.p)

    @property
    def innovation(self) -> F64:
        """Measurement minus prediction, NaN where there was none, shape (N, p)."""
        return self._gather(self.results, 3 * self.layout.p, 4 * self.layout.p)

    @property
    def score(self) -> F64:
        """Drift score of each output, 1 and more is an alarm, shape (N, p)."""
        return self._gather(self.results, 4 * self.layout.p, 5 * self.layout.p)

    @property
    def spread(self) -> F64:
        """Standard deviations of measurements to come, shape (N, p)."""
        return self._gather(self.results, 5 * self.layout.p, 6 * self.layout.p)

    @property
    def nis(self) -> F64:
        """Normalised innovation squared, shape (N,)."""
        return self._gather(self.results, self.layout.output_rows - 1, self.layout.output_rows)[:, 0]

    @property
    def drifting(self) -> NDArray[np.bool_]:
        """Whether a drift alarm stands, shape (N,)."""
        return self._gather(self.states, self.layout.flag, self.layout.flag + 1)[:, 0] > 0.0

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether a filter has diverged, shape (N,)."""
        return self._gather(self.states, self.layout.bad, self.layout.bad + 1)[:, 0] > 0.0

    def row(self, member: int) -> F64:
        """All rows of one member's state: what a single estimator's state array holds."""
        mine: F64 = self._gather(self.states, 0, self.layout.state_rows)[member]
        return mine

    def state_hash(self) -> bytes:
        """SHA-256 over every bit that decides the next tick, in the order of the members."""
        return hashlib.sha256(canonical(self._gather(self.states, 0, self.layout.state_rows))).digest()

    def _gather(self, arena: F64, first: int, last: int) -> F64:
        tile, lane = divmod(self._slots, self.lanes)
        rows: F64 = arena[tile, first:last, lane]
        return rows

    def _scatter(self, rows: slice, values: F64) -> None:
        tile, lane = divmod(self._slots, self.lanes)
        self.inputs[tile, rows, lane] = values


def _places(members: NDArray[np.int64], lanes: int, *, own: bool) -> tuple[NDArray[np.int64], I32]:
    """Slot (tile * lanes + lane) of each member, and the model of each tile."""
    if own:
        return np.arange(len(members)), members[::lanes].astype(np.int32)
    slots = np.empty(len(members), np.int64)
    models: list[int] = []
    for model in np.unique(members).tolist():
        mine = np.flatnonzero(members == model)
        slots[mine] = len(models) * lanes + np.arange(len(mine))
        models += [model] * -(-len(mine) // lanes)
    return slots, np.array(models, np.int32)
