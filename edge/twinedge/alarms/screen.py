"""Finds the few samples of a batch that may change an alarm; all others are passed over as whole columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinedge.alarms.senses import ANYTHING, Doubt, Sense
from twinedge.config.alarms import Word
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityClass
from twinmodel.signal import Batch, Kind

LIVE_NS: Final = 10 * SECOND_NS
"""A sample so near to the wall clock counts although an earlier one had a later time: the clock was put back."""
_BAD: Final = int(QualityClass.BAD) << 8
_NEW: Final = 0xFFFF

Found = tuple[int, Word, int, int]
"""Signal, value, quality code, time."""


class Screen:
    """What the alarms of one catalogue look at, as columns over its signals.

    Args:
        senses: signal id -> the conditions on it.
        signals: number of signals in the catalogue.
    """

    def __init__(self, senses: Mapping[int, Sequence[Sense]], signals: int) -> None:
        self._senses = senses
        self._watched = np.zeros(signals, np.bool_)
        self._low = np.full(signals, -np.inf)
        self._high = np.full(signals, np.inf)
        self._doubted = np.zeros(signals, np.bool_)
        self._quality = np.full(signals, _NEW, np.uint16)
        self._t_ns = np.full(signals, np.iinfo(np.int64).min, np.int64)
        self._marked = np.zeros(signals, np.bool_)
        for signal, mine in senses.items():
            self._watched[signal] = True
            self._doubted[signal] = any(isinstance(sense, Doubt) for sense in mine)
            self.renew(signal)

    def renew(self, signal: int) -> None:
        """Takes over what the conditions on a signal say of themselves now."""
        low, high = ANYTHING
        for sense in self._senses[signal]:
            mine = sense.span()
            low, high = max(low, mine[0]), min(high, mine[1])
        self._low[signal], self._high[signal] = low, high

    def newest_ns(self, signal: int) -> int:
        """Time of the newest sample of a signal."""
        return int(self._t_ns[signal])

    def look(self, batch: Batch, now_ns: int) -> Iterator[Found]:
        """Samples that may change something, in order, and all that follow of the same signals.

        Args:
            batch: samples after the gate, or what a model says.
            now_ns: wall time.
        """
        mine = self._watched[batch.signal]
        if not mine.any():
            return
        if not mine.all():
            batch = batch.take(mine)
        # What comes late has been overtaken: it changes nothing about the present.
        fresh = (batch.t_ns >= self._t_ns[batch.signal]) | (batch.t_ns >= now_ns - LIVE_NS)
        if not fresh.all():
            batch = batch.take(fresh)
        signal, quality = batch.signal, batch.quality
        self._t_ns[signal] = batch.t_ns
        usable = quality < _BAD
        if batch.kind is Kind.STRING:
            odd = usable.copy()
        else:
            value: NDArray[np.float64] = batch.value.astype(np.float64, copy=False)
            usable &= np.isfinite(value)
            odd = usable & ~((value >= self._low[signal]) & (value <= self._high[signal]))
        odd |= self._doubted[signal] & (quality != self._quality[signal])
        if not odd.any():
            return
        touched = signal[odd]
        self._marked[touched] = True
        places = np.flatnonzero(self._marked[signal])
        self._marked[touched] = False
        some = batch.take(places)
        self._quality[some.signal] = some.quality
        columns = some.signal.tolist(), some.value.tolist(), some.quality.tolist(), some.t_ns.tolist()
        yield from zip(*columns, strict=True)

    @staticmethod
    def is_usable(value: Word, quality: int) -> bool:
        """Whether a value says something about the machine."""
        return quality < _BAD and value == value  # noqa: PLR0124 - NaN alone differs from itself
