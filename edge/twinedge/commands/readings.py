"""The newest values of the few signals that commands hang on, taken from what goes into the lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from twinedge.commands.guard import Reading
from twinmodel.clock import Clock
from twinmodel.quality import QualityReason, good
from twinmodel.signal import Batch, Catalogue
from twinsync.command import Value

_PAST = frozenset({good(QualityReason.LATE), good(QualityReason.BACKFILLED)})
"""What came now and was measured long ago is no newest value."""


class Readings:
    """A `Watcher`, and the `Facts` of the guard.

    Args:
        clock: its boot clock dates what comes.
        twin: states of a twin's model.
        frozen: why nothing may be commanded, "" when it may.
    """

    def __init__(self, clock: Clock, twin: Callable[[str], frozenset[str]], frozen: Callable[[], str]) -> None:
        self._clock, self._twin, self._frozen = clock, twin, frozen
        self._wanted: frozenset[str] = frozenset()
        self._names: dict[int, str] = {}
        self._mine: NDArray[np.bool_] = np.zeros(1, np.bool_)
        self._catalogue = Catalogue(())
        self._newest: dict[str, Reading] = {}

    def want(self, signals: Iterable[str]) -> None:
        """Looks at these signals from now on, and at no other."""
        self._wanted = frozenset(signals)
        self._newest = {name: reading for name, reading in self._newest.items() if name in self._wanted}
        self._index()

    def use(self, catalogue: Catalogue) -> None:
        """See `Watcher`."""
        self._catalogue = catalogue
        self._index()

    def see(self, batches: Sequence[Batch]) -> None:
        """See `Watcher`."""
        if not self._names:
            return
        now_ns = self._clock.boot_ns()
        for batch in batches:
            mine = self._mine[np.minimum(batch.signal, len(self._mine) - 1)]
            if not mine.any():
                continue
            for at in np.flatnonzero(mine).tolist():
                quality = int(batch.quality[at])
                if quality in _PAST:
                    continue
                value = batch.value[at]
                plain = value.item() if isinstance(value, np.generic) else value
                self._newest[self._names[int(batch.signal[at])]] = Reading(plain, quality, now_ns)

    def note(self, signal: str, value: Value, quality: int) -> None:
        """Takes what was read back: no sample is newer."""
        if signal in self._wanted:
            self._newest[signal] = Reading(value, quality, self._clock.boot_ns())

    def newest(self, signal: str) -> Reading | None:
        """See `Facts`."""
        return self._newest.get(signal)

    def twin(self, name: str) -> frozenset[str]:
        """See `Facts`."""
        return self._twin(name)

    def frozen(self) -> str:
        """See `Facts`."""
        return self._frozen()

    def _index(self) -> None:
        self._names = {s.id: s.name for s in self._catalogue.signals if s.name in self._wanted}
        self._mine = np.zeros(max(self._names, default=-1) + 2, np.bool_)  # the last one stands for all beyond
        self._mine[list(self._names)] = True
