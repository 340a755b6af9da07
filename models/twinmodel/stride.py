"""Many ticks of one estimator in one go, with the bits of tick by tick: what replays and back-tests run on.

    frames ─▶ what the kernel is told of every tick, as arrays ─▶ kernel, kernel, kernel ... ─▶ results, as arrays

Between two kernel calls there is nothing but a copy of a row: a microsecond and the kernel's own time. A tick that
needs judgement (a filter that diverges, a regime that changes the kernel's input, a leap in time) is done by
`Estimator.step`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinmodel.estimator import AGE_MAX, Estimate, Estimator
from twinmodel.kernel.arena import RUN, WATCH
from twinmodel.kernel.machine import bind

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Strides:
    """What a model says at many ticks; arrays of shape (ticks, p) unless told otherwise, as in `Estimate`.

    Attributes:
        drifting, settling: shape (ticks,).
        in_regime: shape (ticks,).
    """

    t_ns: I64
    estimate: F64
    sigma: F64
    prediction: F64
    innovation: F64
    drift: F64
    spread: F64
    drifting: NDArray[np.bool_]
    settling: NDArray[np.bool_]
    in_regime: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.t_ns)


class StridingEstimator(Estimator):
    """An estimator that can also take many ticks in one go."""

    def stride(self, t_ns: I64, u: F64, y: F64) -> Strides:
        """Advances through ticks; the state after it and all results have the bits that `step` would give.

        Args:
            t_ns: times, each a whole number of ticks after the one before, shape (ticks,).
            u: inputs, shape (ticks, m), NaN where missing.
            y: measurements, shape (ticks, p), NaN where missing.

        Raises:
            InputError: VALUE_INVALID when times do not advance by whole ticks.
        """
        ticks, p = len(t_ns), self._layout.p
        found = _blank(t_ns, p)
        done = 0
        while done < ticks:
            many = 0 if self._needs_judgement else _contiguous(t_ns, done, self._last_ns, self.dt_ns)
            if many:
                done += self._rush(t_ns, u, y, slice(done, done + many), found)
            if done < ticks:
                _note(found, done, self.step(int(t_ns[done]), u[done], y[done]))
                done += 1
        return found

    @property
    def _needs_judgement(self) -> bool:
        """Whether what the kernel is told depends on the state it has reached."""
        return self._regime.action != "flag" and not self._regime.is_open

    def _rush(self, t_ns: I64, u: F64, y: F64, part: slice, found: Strides) -> int:
        """Ticks one after the other while nothing goes wrong; how many."""
        if self._ladder.waiting:
            self._ladder.climb()
        u, y = (np.where(np.isfinite(x[part]), x[part], np.nan) for x in (u, y))
        count = len(u)
        age, ages = _ages(np.isnan(u), self._age)
        settle = np.maximum(self._settle - np.arange(count + 1), 0)
        muted = settle[:-1] > 0
        coming = np.column_stack([u, y, age, np.ones(count), muted.astype(np.float64)])
        states = np.empty((count, len(self._state)))
        results = np.empty((count, len(self._results)))
        row = np.empty(coming.shape[1])
        plan, step = self.kernel
        call = bind(step, plan.integers, plan.reals, self._models, self._state, row, self._results, self._scratch, 1)
        state, said, bad = self._state, self._results, self._layout.bad
        done, first, before = 0, self._place(), state.copy()
        began = self._runs_of(state[None])[0].copy()
        for k in range(count):
            row[:] = coming[k]
            before[:] = state
            call()
            if state[bad] > 0.0:
                state[:] = before
                break
            states[k], results[k] = state, said
            done += 1
        if done:
            self._coming = coming[done - 1].copy()
            self._age, self._settle = ages[done - 1], int(settle[done])
            self._muted = bool(muted[done - 1])
            self._last_ns = int(t_ns[part][done - 1])
            self._tell(found, slice(part.start, part.start + done), (u[:done], muted[:done]), (states, results, first))
            runs = np.concatenate([began[None], self._runs_of(states[:done])])
            self.rejections += int(np.count_nonzero(runs[1:] > runs[:-1]))
        return done

    def _runs_of(self, states: F64) -> F64:
        """How many measurements in a row were kept out of the state, by output, shape (ticks, p)."""
        watched = states[:, self._layout.drift : self._layout.flag]
        return watched.reshape(len(states), self._layout.p, WATCH)[:, :, RUN]

    def _tell(self, found: Strides, at: slice, said: tuple[F64, NDArray[np.bool_]], rows: tuple[F64, F64, F64]) -> None:
        (u, muted), (states, results, first) = said, rows
        p, count = self._layout.p, len(u)
        results = results[:count]
        results = np.where(np.isfinite(results), results, np.nan)
        columns = (found.estimate, found.sigma, found.prediction, found.innovation, found.drift, found.spread)
        for k, column in enumerate(columns):
            column[at] = results[:, k * p : (k + 1) * p]
        found.drifting[at] = states[:count, self._layout.flag] > 0.0
        found.settling[at] = muted
        # As `_estimate` has it: what was left at the tick, with its inputs, against the tick before.
        n, held, end = self._layout.n, self._layout.held, self._layout.drift
        place = np.concatenate([states[:count, :n], states[:count, held:end]], axis=1)
        before = np.concatenate([first[None], place[:-1]])
        place[:, n:] = np.where(np.isnan(u), place[:, n:], u)
        found.in_regime[at] = self._regime.inside(place, before, self.dt_ns / 1e9)


def _blank(t_ns: I64, p: int) -> Strides:
    ticks = len(t_ns)
    numbers = [np.full((ticks, p), np.nan) for _ in range(6)]
    return Strides(t_ns, *numbers, *(np.zeros(ticks, np.bool_) for _ in range(3)))


def _note(found: Strides, k: int, said: Estimate) -> None:
    found.estimate[k], found.sigma[k], found.prediction[k] = said.estimate, said.sigma, said.prediction
    found.innovation[k], found.drift[k], found.spread[k] = said.innovation, said.drift, said.spread
    found.drifting[k], found.settling[k], found.in_regime[k] = said.drifting, said.settling, said.in_regime


def _contiguous(t_ns: I64, done: int, last_ns: int | None, dt_ns: int) -> int:
    """How many of the ticks to come follow each other, and the last one, by dt."""
    if last_ns is None or int(t_ns[done]) != last_ns + dt_ns:
        return 0
    leaps = np.flatnonzero(np.diff(t_ns[done:]) != dt_ns)
    return int(leaps[0]) + 1 if len(leaps) else len(t_ns) - done


def _ages(missing: NDArray[np.bool_], age: NDArray[np.int32]) -> tuple[F64, NDArray[np.int32]]:
    """For how many ticks each input has been missing, and the largest of them, at every tick."""
    place = np.arange(len(missing))[:, None]
    present = np.maximum.accumulate(np.where(missing, -1, place), axis=0)
    since = np.where(present < 0, age[None] + place + 1, place - present)
    ages = np.where(missing, np.minimum(since, AGE_MAX), 0).astype(np.int32)
    return ages.max(axis=1, initial=0).astype(np.float64), ages
