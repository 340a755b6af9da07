"""Who is to blame for an alarm, a sensor or the model: a bank of filters that each leave one output out.

    alarm ─▶ one filter without each output, one whose states may jump ─▶ warm up ─▶ evidence ─▶ verdict

If one sensor lies, the filter without it agrees with all the others, and any other filter does not. If the model is
wrong, every filter disagrees. Where a change of the model could look like the lie of that sensor, which is tried on
the model itself, or where one output alone is measured, the answer is `not_isolable`. The bank runs only while an
alarm stands, on the kernel of the model, its filters as lanes of one tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from twinmodel.kernel.arena import DRIFT, F64, Plan, Step, pack
from twinmodel.mimicry import hidden_from_others
from twinmodel.residuals import LIMIT, Residuals, fault_of

PENDING: Final = "pending"
MODEL: Final = "model"
NOT_ISOLABLE: Final = "not_isolable"
WARM_TICKS: Final = 30
EVIDENCE_TICKS: Final = 60
_JUMPS: Final = 100.0
_JUMP_OF_START: Final = 0.01


@dataclass(frozen=True, slots=True)
class Isolation:
    """What is known about the cause of an alarm.

    Attributes:
        verdict: `pending`, `sensor:OUTPUT`, `model` or `not_isolable`.
        evidence: why, in words with numbers.
        candidates: the causes that explain what was measured.
    """

    verdict: str
    evidence: str
    candidates: tuple[str, ...] = ()


class Isolator:
    """The bank of one estimator.

    Args:
        plan: the model.
        start: x0, P0 and held inputs of its start.
        outputs: their names.
        changing: names of what may change: parameters, states for a linear model.
    """

    def __init__(
        self, plan: Plan, start: tuple[F64, F64, F64], outputs: Sequence[str], changing: Sequence[str]
    ) -> None:
        self._plan = plan
        self._spread = pack(start[1])
        self._names = tuple(outputs)
        self._changing = tuple(changing)
        self._bank: _Bank | None = None
        self._found: Isolation | None = None

    def stop(self) -> None:
        """The alarm is over, or the filter began anew."""
        self._bank = self._found = None

    def advance(self, step: Step, state: F64, coming: F64) -> Isolation:
        """One tick of an alarm.

        Args:
            step: the kernel of the present tier.
            state: rows of the estimator after the tick.
            coming: what it was told at the tick.
        """
        if self._found is not None:
            return self._found
        if self._bank is None:
            if len(self._names) == 1:
                self._found = Isolation(NOT_ISOLABLE, "the model has one output; sensor and model cannot be told apart")
                return self._found
            self._bank = _Bank(self._plan, state, self._spread)
        else:
            self._bank.tick(step, coming)
        ticks = self._bank.residuals.ticks
        if ticks < EVIDENCE_TICKS:
            return Isolation(PENDING, f"the bank of filters has seen {max(ticks, 0)} of {EVIDENCE_TICKS} ticks")
        self._found = self._judge(self._bank, step, coming)
        self._bank = None
        return self._found

    def _judge(self, bank: _Bank, step: Step, coming: F64) -> Isolation:
        names, found = self._names, bank.residuals
        seen = found.measured()
        if len(seen) < 2:
            return Isolation(NOT_ISOLABLE, "fewer than two outputs are measured")
        misfit = {r: found.misfit(r, [j for j in seen if j != r]) for r in seen}
        jumps = found.misfit(len(names), seen)
        explained = [r for r in seen if misfit[r] < 1.0]
        told = ", ".join(f"without {names[r]} {LIMIT * misfit[r]:.1f}" for r in seen)
        told = f"misfit in sigma (limit {LIMIT:.0f}): {told}, with free states {LIMIT * jumps:.1f}"
        causes = tuple(f"sensor:{names[r]}" for r in explained)
        if not explained:
            return Isolation(MODEL, f"no single sensor explains it; {told}", (MODEL,))
        if len(explained) > 1:
            return Isolation(NOT_ISOLABLE, f"{len(explained)} sensors explain it; {told}", causes)
        sensor = explained[0]
        fault = fault_of(*found.own(sensor))
        if jumps < 1.0:
            state = bank.rows(sensor)
            loudness = found.loudness(sensor)
            hidden = hidden_from_others(self._plan, step, self._changing, state, coming, sensor, seen, loudness)
            if hidden is None or hidden:
                why = "no compiled kernel to try it" if hidden is None else f"{hidden} would look the same"
                return Isolation(NOT_ISOLABLE, f"{fault} of {names[sensor]}, or the model: {why}", (*causes, MODEL))
        return Isolation(causes[0], f"{fault}; {told}", causes)


class _Bank:
    """Lanes 0..p-1 leave out one output each; a second call runs the filter whose states may jump."""

    def __init__(self, plan: Plan, state: F64, spread: F64) -> None:
        layout = plan.layout
        n, p, pairs = layout.n, layout.p, layout.pairs
        rows = state.copy()
        # The state has taken in what caused the alarm: the filters believe it no more than a start.
        rows[n : layout.held] += spread
        at = DRIFT + 2 * n + p
        reals = plan.reals.copy()
        reals[at : at + pairs] += _JUMPS * reals[at : at + pairs] + _JUMP_OF_START * spread
        self._plans = (plan, replace(plan, reals=reals))
        self._lanes = (p, 1)
        self._states = tuple(np.repeat(rows, lanes) for lanes in self._lanes)
        self._results = tuple(np.zeros(layout.output_rows * lanes) for lanes in self._lanes)
        self._scratch = np.zeros(layout.scratch_rows * p)
        self._models = np.zeros(1, np.int32)
        self.residuals = Residuals(p, WARM_TICKS, EVIDENCE_TICKS)

    def rows(self, lane: int) -> F64:
        """State of the filter without one output."""
        return self._states[0].reshape(-1, self._lanes[0])[:, lane].copy()

    def tick(self, step: Step, coming: F64) -> None:
        layout = self._plans[0].layout
        m, p = layout.m, layout.p
        told = coming.copy()
        told[-1] = 1.0
        wide = np.repeat(told[:, None], p, axis=1)
        wide[m : m + p][np.eye(p, dtype=bool)] = np.nan
        for plan, lanes, state, results, z in zip(
            self._plans, self._lanes, self._states, self._results, (wide.ravel(), told), strict=True
        ):
            step(plan.integers, plan.reals, self._models, state, z, results, self._scratch, lanes)
        predicted = [r.reshape(-1, lanes) for r, lanes in zip(self._results, self._lanes, strict=True)]
        prediction = np.hstack([rows[2 * p : 3 * p] for rows in predicted])
        spread = np.hstack([rows[5 * p : 6 * p] for rows in predicted])
        self.residuals.add(coming[m : m + p], prediction.T, spread.T)
