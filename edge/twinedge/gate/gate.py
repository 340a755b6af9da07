"""Stamps quality on batches as they pass: clock, numbers, range, states, rate, spike, frozen, counters.

Staleness is not decided here: only a driver knows what silence means for its protocol (missed replies, missed
keep-alives, an exceeded expected period), so drivers stamp NOT_CONNECTED and STALE, each once. The gate sees samples
only and needs no timer.

A sample keeps the worse of the quality it came with and the one found here; the reason it came with wins a tie. It is
judged by what came before it alone, so that the codes do not depend on how samples were cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from twinedge.gate.checks import Mask, Runs, changes, frozen_since, outside, returns
from twinedge.gate.rules import Rules
from twinmodel.clock import BUILD_NS, SECOND_NS, Clock
from twinmodel.quality import QualityClass, QualityReason, bad, uncertain
from twinmodel.signal import Batch, Kind

FUTURE_MAX_NS = 5 * SECOND_NS
RANGE_MARGIN = 0.1

Codes = NDArray[np.uint16]
_BAD_FROM = int(QualityClass.BAD) << 8


class Gate:
    """Stamps the quality of samples; keeps per signal the last two values and since when it has not changed.

    Args:
        rules: what is expected of each signal, by its number.
        clock: wall clock against which event times are checked.
        is_unset: whether that clock is known to be wrong; then no event time can be checked, and all are in doubt.

    Attributes:
        stamped: samples that got worse here.
    """

    def __init__(self, rules: Rules, clock: Clock, is_unset: Callable[[], bool] = lambda: False) -> None:
        self._clock = clock
        self._is_unset = is_unset
        count = len(rules)
        # The newest sample of each signal and the one before, and what was found of the newest.
        self._value, self._older = np.full(count, np.nan), np.full(count, np.nan)
        self._t_ns, self._older_ns = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._jumped, self._parity = np.zeros(count, np.int8), np.zeros(count, np.int8)
        self._same_ns = np.zeros(count, np.int64)
        self.stamped = 0
        self._expect(rules)

    def use(self, rules: Rules, begun: Collection[int] = ()) -> None:
        """Expects something else from now on.

        Args:
            rules: by number of the signal; not fewer than before.
            begun: numbers that have another signal now; all others are remembered as they were.
        """
        more = max(len(rules) - len(self._value), 0)
        if more:
            for name in ("_value", "_older"):
                setattr(self, name, np.append(getattr(self, name), np.full(more, np.nan)))
            for name in ("_t_ns", "_older_ns", "_same_ns", "_jumped", "_parity"):
                before = getattr(self, name)
                setattr(self, name, np.append(before, np.zeros(more, before.dtype)))
        if begun:
            signals = np.array(sorted(begun), np.uint32)
            self.forget(signals)
            for times in (self._t_ns, self._older_ns, self._same_ns):
                times[signals] = 0
        self._expect(rules)

    def _expect(self, rules: Rules) -> None:
        self._rules = rules
        self._ranged = ~(np.isnan(rules.low) & np.isnan(rules.high))
        self._counts = bool(rules.counter.any())
        self._freezes = bool(rules.frozen_ns.any())
        self._labelled = bool(rules.labelled.any())
        self._remembered = ~np.isnan(rules.rate) | (rules.frozen_ns > 0) | rules.counter

    def apply(self, batch: Batch) -> Batch:
        """The same samples in the same order, with quality codes that are never better than before."""
        if not len(batch):
            return batch
        found = self._clock_quality(batch.t_ns)
        if batch.kind in {Kind.FLOAT, Kind.INT}:
            usable = batch.quality < _BAD_FROM
            value = batch.value.astype(np.float64, copy=False)
            with np.errstate(invalid="ignore", over="ignore"):
                if batch.kind is Kind.FLOAT:
                    number = np.isfinite(value)
                    if not number.all():
                        found = _worse(found, usable & ~number, bad(QualityReason.DECODE))
                        usable &= number
                elif self._labelled:
                    found = self._states(batch, usable, found)
                found = self._range(batch.signal, value, usable, found)
                found = self._changes(batch, value, usable, found)
        if found is None:
            return batch
        quality = np.where(found >> 8 > batch.quality >> 8, found, batch.quality)
        self.stamped += int(np.count_nonzero(quality != batch.quality))
        return batch.with_quality(quality)

    def forget(self, signals: NDArray[np.uint32]) -> None:
        """Drops what is remembered of signals whose device was replaced; the next sample starts afresh."""
        self._value[signals] = self._older[signals] = np.nan
        self._jumped[signals] = self._parity[signals] = 0

    def put_right(self, span_ns: tuple[int, int], shift_ns: int) -> None:
        """The clock that gave times inside `span_ns` was set: what is remembered moves along, so that nothing froze."""
        for times in (self._t_ns, self._older_ns, self._same_ns):
            times[(times >= span_ns[0]) & (times <= span_ns[1])] += shift_ns

    def _clock_quality(self, t_ns: NDArray[np.int64]) -> Codes | None:
        if self._is_unset():
            return np.full(len(t_ns), uncertain(QualityReason.CLOCK), np.uint16)
        latest_ns = self._clock.wall_ns() + FUTURE_MAX_NS
        if t_ns.max() <= latest_ns and t_ns.min() >= BUILD_NS:
            return None
        wrong = (t_ns > latest_ns) | (t_ns < BUILD_NS)
        return np.where(wrong, np.uint16(uncertain(QualityReason.CLOCK)), np.uint16(0))

    def _states(self, batch: Batch, usable: Mask, found: Codes | None) -> Codes | None:
        """A value without a label means nothing we know: a newer firmware, or no state at all."""
        at = np.flatnonzero(self._rules.labelled[batch.signal] & usable)
        if not len(at):
            return found
        unknown = self._rules.labels.unknown(batch.signal[at], batch.value[at].astype(np.int64, copy=False))
        return _worse(found, _mask(len(batch), at[unknown]), uncertain(QualityReason.OUT_OF_RANGE))

    def _range(
        self, signal: NDArray[np.uint32], value: NDArray[np.float64], usable: Mask, found: Codes | None
    ) -> Codes | None:
        """Beyond the range: uncertain up to a tenth of its span, for sensors overshoot, bad further out."""
        if not (self._ranged[signal] & usable).any():
            return found
        out = outside(value, self._rules.low[signal], self._rules.high[signal], RANGE_MARGIN)
        if out is None:
            return found
        near, far = out
        found = _worse(found, near & usable, uncertain(QualityReason.OUT_OF_RANGE))
        return _worse(found, far & usable, bad(QualityReason.OUT_OF_RANGE))

    def _changes(self, batch: Batch, value: NDArray[np.float64], usable: Mask, found: Codes | None) -> Codes | None:
        """Rate, spike, frozen and counters: checks of a sample against those before it."""
        ids, t_ns, at = batch.signal, batch.t_ns, None
        wanted = self._remembered[ids] & usable
        if not wanted.all():
            at = np.flatnonzero(wanted)
            if not len(at):
                return found
            ids, value, t_ns = ids[at], value[at], t_ns[at]
        rising = bool((ids[1:] > ids[:-1]).all())
        if not rising:
            order = np.argsort(ids, kind="stable")  # signal by signal, in order of arrival
            at = order if at is None else at[order]
            ids, value, t_ns = ids[order], value[order], t_ns[order]
        runs = self._runs(ids, value, t_ns, each_once=rising)
        counter = wraps = None
        if self._counts:
            counter, wraps = self._rules.counter[ids], self._rules.wraps[ids]
        rate = self._rules.rate[ids]
        changed = changes(runs, rate, counter, wraps)
        if changed is None:
            self._jumped[ids] = 0
            self._parity[ids] = 0
        else:
            jump, large = changed
            jumped = (jump != 0) & ~self._returned(ids, runs, jump, rate)
            found = _worse(found, _spread(len(batch), at, jumped & ~large), uncertain(QualityReason.RATE))
            found = _worse(found, _spread(len(batch), at, jumped & large), bad(QualityReason.SPIKE))
        if self._freezes:
            frozen = self._frozen(ids, runs)
            found = _worse(found, _spread(len(batch), at, frozen), uncertain(QualityReason.FROZEN))
        self._remember(ids, runs)
        return found

    def _runs(
        self, ids: NDArray[np.uint32], value: NDArray[np.float64], t_ns: NDArray[np.int64], *, each_once: bool
    ) -> Runs:
        previous, previous_ns = self._value[ids], self._t_ns[ids]
        if each_once:
            return Runs(None, value, t_ns, previous, previous_ns)
        again = ids[1:] == ids[:-1]
        rest = np.flatnonzero(again) + 1
        previous[rest], previous_ns[rest] = value[rest - 1], t_ns[rest - 1]
        return Runs(np.concatenate(([True], ~again)), value, t_ns, previous, previous_ns)

    def _returned(self, ids: NDArray[np.uint32], runs: Runs, jump: NDArray[np.int8], rate: NDArray[np.float64]) -> Mask:
        """Which jumps are returns; keeps what the next batch goes on from."""
        before, older, older_ns = self._jumped[ids], self._older[ids], self._older_ns[ids]
        if runs.first is not None:
            rest = np.flatnonzero(~runs.first)
            before[rest], older[rest], older_ns[rest] = (
                jump[rest - 1],
                runs.previous[rest - 1],
                runs.previous_ns[rest - 1],
            )
        returned, parity = returns(runs, (older, older_ns), (jump, before, self._parity[ids]), rate)
        # Of the positions of one signal the last is kept: that is what assignment by index does.
        self._jumped[ids], self._parity[ids] = jump, parity
        return returned

    def _frozen(self, ids: NDArray[np.uint32], runs: Runs) -> Mask:
        # How long ago an unset clock was read nobody knows.
        same = (runs.value == runs.previous) & (runs.previous_ns >= BUILD_NS)
        since_ns = frozen_since(runs.first, same, runs.t_ns, self._same_ns[ids])
        self._same_ns[ids] = since_ns
        limit_ns = self._rules.frozen_ns[ids]
        return np.asarray((limit_ns > 0) & (runs.t_ns - since_ns >= limit_ns))

    def _remember(self, ids: NDArray[np.uint32], runs: Runs) -> None:
        self._older[ids], self._older_ns[ids] = runs.previous, runs.previous_ns
        self._value[ids], self._t_ns[ids] = runs.value, runs.t_ns


def _mask(count: int, index: NDArray[np.intp]) -> Mask:
    mask = np.zeros(count, np.bool_)
    mask[index] = True
    return mask


def _spread(count: int, at: NDArray[np.intp] | None, mask: Mask) -> Mask:
    """A mask over the chosen samples, as one over the batch."""
    return mask if at is None else _mask(count, at[mask])


def _worse(found: Codes | None, mask: Mask, code: int) -> Codes | None:
    """Raises the samples of the mask to `code` where it is of a worse class than what was found before."""
    if not mask.any():
        return found
    if found is None:
        return np.where(mask, np.uint16(code), np.uint16(0))
    return np.where(mask & (found >> 8 < code >> 8), np.uint16(code), found)
