"""Stamps quality on batches as they pass: clock, range, rate, spike, frozen.

Staleness is not decided here: only a driver knows what silence means for its protocol (missed replies, missed
keep-alives, an exceeded expected period), so drivers stamp NOT_CONNECTED and STALE, each once. The gate sees samples
only and needs no timer.

A sample keeps the worse of the quality it came with and the one found here; the reason it came with wins a tie.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from twinedge.gate.checks import frozen_since, in_runs, outside, steep
from twinedge.gate.rules import Rules
from twinmodel.clock import BUILD_NS, SECOND_NS, Clock
from twinmodel.quality import QualityClass, QualityReason, bad, uncertain
from twinmodel.signal import Batch, Catalogue, Kind

FUTURE_MAX_NS = 5 * SECOND_NS
RANGE_MARGIN = 0.1


class Gate:
    """Stamps the quality of samples; keeps per signal the last value, its time and since when it has not changed.

    Args:
        catalogue: names the signals.
        rules: what is expected of each, by id.
        clock: wall clock against which event times are checked.
        is_unset: whether that clock is known to be wrong; then no event time can be checked, and all are in doubt.
    """

    def __init__(
        self, catalogue: Catalogue, rules: Rules, clock: Clock, is_unset: Callable[[], bool] = lambda: False
    ) -> None:
        self._clock = clock
        self._is_unset = is_unset
        self._rules = rules
        count = len(catalogue)
        self._ranged = ~(np.isnan(rules.low) & np.isnan(rules.high))
        self._remembered = ~np.isnan(rules.rate) | (rules.frozen_ns > 0)
        self._value = np.full(count, np.nan)
        self._t_ns = np.zeros(count, np.int64)
        self._jumped = np.zeros(count, np.int8)
        self._same_ns = np.zeros(count, np.int64)
        self.stamped = 0

    def apply(self, batch: Batch) -> Batch:
        """The same samples in the same order, with quality codes that are never better than before."""
        if not len(batch):
            return batch
        found = self._clock_quality(batch.t_ns)
        if batch.kind in {Kind.FLOAT, Kind.INT}:
            usable = batch.quality >> 8 != int(QualityClass.BAD)
            found = self._range(batch, usable, found)
            found = self._changes(batch, usable, found)
        if found is None:
            return batch
        quality = np.where(found >> 8 > batch.quality >> 8, found, batch.quality).astype(np.uint16)
        self.stamped += int(np.count_nonzero(quality != batch.quality))
        return batch.with_quality(quality)

    def forget(self, signals: NDArray[np.uint32]) -> None:
        """Drops what is remembered of signals whose device was replaced or away; the next sample starts afresh."""
        self._value[signals] = np.nan
        self._jumped[signals] = 0

    def _clock_quality(self, t_ns: NDArray[np.int64]) -> NDArray[np.uint16] | None:
        if self._is_unset():
            return np.full(len(t_ns), uncertain(QualityReason.CLOCK), np.uint16)
        wrong = (t_ns > self._clock.wall_ns() + FUTURE_MAX_NS) | (t_ns < BUILD_NS)
        if not wrong.any():
            return None
        return np.where(wrong, np.uint16(uncertain(QualityReason.CLOCK)), np.uint16(0))

    def _range(
        self, batch: Batch, usable: NDArray[np.bool_], found: NDArray[np.uint16] | None
    ) -> NDArray[np.uint16] | None:
        """Beyond the range: uncertain up to a tenth of its span, for sensors overshoot, bad further out."""
        if not (self._ranged[batch.signal] & usable).any():
            return found
        low, high = self._rules.low[batch.signal], self._rules.high[batch.signal]
        near, far = outside(batch.value.astype(np.float64), low, high, RANGE_MARGIN)
        found = _worse(found, near & usable, uncertain(QualityReason.OUT_OF_RANGE))
        return _worse(found, far & usable, bad(QualityReason.OUT_OF_RANGE))

    def _changes(
        self, batch: Batch, usable: NDArray[np.bool_], found: NDArray[np.uint16] | None
    ) -> NDArray[np.uint16] | None:
        """Rate, spike and frozen: checks of a sample against the one before it."""
        chosen = np.flatnonzero(self._remembered[batch.signal] & usable)
        if not len(chosen):
            return found
        chosen = chosen[np.argsort(batch.signal[chosen], kind="stable")]  # signal by signal, in order of arrival
        ids = batch.signal[chosen]
        value, t_ns = batch.value[chosen].astype(np.float64), batch.t_ns[chosen]
        first, previous, previous_ns = in_runs(ids, value, t_ns, self._value, self._t_ns)
        jump = steep(value, t_ns, previous, previous_ns, self._rules.rate[ids])
        before = np.concatenate(([np.int8(0)], jump[:-1]))
        before[first] = self._jumped[ids[first]]
        spike = (before != 0) & (jump == -before)  # there and straight back: the sample between was no process value
        since_ns = frozen_since(first, value == previous, t_ns, np.where(first, self._same_ns[ids], 0))
        limit_ns = self._rules.frozen_ns[ids]
        frozen = (limit_ns > 0) & (t_ns - since_ns >= limit_ns)

        last = np.concatenate((first[1:], [True]))
        self._value[ids[last]], self._t_ns[ids[last]] = value[last], t_ns[last]
        self._jumped[ids[last]] = np.where(spike[last], 0, jump[last])
        self._same_ns[ids[last]] = since_ns[last]

        spiked = np.zeros(len(ids), np.bool_)
        spiked[:-1] = spike[1:] & ~first[1:]  # the sample before the return, where this batch still holds it
        found = _worse(found, _mask(batch, chosen[(jump != 0) & ~spike]), uncertain(QualityReason.RATE))
        found = _worse(found, _mask(batch, chosen[frozen]), uncertain(QualityReason.FROZEN))
        return _worse(found, _mask(batch, chosen[spiked]), bad(QualityReason.SPIKE))


def _mask(batch: Batch, index: NDArray[np.intp]) -> NDArray[np.bool_]:
    mask = np.zeros(len(batch), np.bool_)
    mask[index] = True
    return mask


def _worse(found: NDArray[np.uint16] | None, mask: NDArray[np.bool_], code: int) -> NDArray[np.uint16] | None:
    """Raises the samples of the mask to `code` where it is of a worse class than what was found before."""
    if not mask.any():
        return found
    if found is None:
        found = np.zeros(len(mask), np.uint16)
    return np.where(mask & (found >> 8 < code >> 8), np.uint16(code), found)
