"""The newest sample of every signal: one slot each, overwritten in place, read by whoever serves them.

Ten thousand samples a second cost a few writes of columns here, whoever looks at them and however seldom. A reader
remembers the number of the last change it has seen (`changes`) and asks for the slots that changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinmodel.quality import QualityReason, bad
from twinmodel.signal import Batch, Catalogue, Kind, Signal

NEVER = bad(QualityReason.ABSENT)
"""Quality of a signal that has not had a sample since the start."""
_OLD = np.array([QualityReason.BACKFILLED, QualityReason.LATE], np.uint16)


@dataclass(frozen=True, slots=True)
class Reading:
    """One slot.

    Attributes:
        value: of the signal's kind; of no meaning while the quality is bad.
        quality: its code.
        t_ns: event time, 0 for a signal that has not had a sample.
    """

    value: Any
    quality: int
    t_ns: int


class Latest:
    """One slot a signal of the present catalogue; all calls come from the event loop.

    Attributes:
        catalogue: the present one; ids of it are the numbers of slots.
        changes: number of the newest change; grows by one with every batch.
        samples: samples seen since the start.
        generation: grows with every catalogue.
    """

    def __init__(self) -> None:
        self.catalogue = Catalogue(())
        self.changes = 0
        self.samples = 0
        self.generation = 0
        self._allocate(0)

    def _allocate(self, count: int) -> None:
        self.floats = np.full(count, np.nan)
        self.ints = np.zeros(count, np.int64)
        self.texts: NDArray[Any] = np.full(count, "", object)
        self.quality = np.full(count, NEVER, np.uint16)
        self.t_ns = np.zeros(count, np.int64)
        self.changed = np.zeros(count, np.int64)

    def use(self, catalogue: Catalogue) -> None:
        """Goes on with another catalogue; signals of the same name and kind keep their newest sample."""
        known, slots = self.catalogue.by_name, self
        before = (slots.floats, slots.ints, slots.texts, slots.quality, slots.t_ns, slots.changed)
        kept = [
            (old.id, signal.id)
            for signal in catalogue.signals
            if (old := known.get(signal.name)) is not None and old.kind is signal.kind
        ]
        self._allocate(len(catalogue))
        if kept:
            old_ids, new_ids = np.array(kept, np.intp).T
            after = (slots.floats, slots.ints, slots.texts, slots.quality, slots.t_ns, slots.changed)
            for source, target in zip(before, after, strict=True):
                target[new_ids] = source[old_ids]
        self.catalogue = catalogue
        self.generation += 1
        self.changes += 1

    def see(self, batches: Sequence[Batch]) -> None:
        """Takes samples; of several of one signal the last in order of arrival stays.

        What comes late or was kept back by its source says so in its quality: it never stands in place of a newer one.
        """
        self.changes += 1
        for batch in batches:
            self.samples += len(batch)
            late = np.isin(batch.quality & 0xFF, _OLD)
            if late.any():
                newer = ~late | (batch.t_ns >= self.t_ns[batch.signal])
                if not newer.all():
                    batch = batch.take(newer)  # noqa: PLW2901 - the rest of the loop wants no more of the others
            at = batch.signal
            column = self.column(batch.kind)
            column[at] = batch.value
            self.quality[at] = batch.quality
            self.t_ns[at] = batch.t_ns
            self.changed[at] = self.changes

    def column(self, kind: Kind) -> NDArray[Any]:
        """The values of all slots of a kind; truth values are 0 and 1."""
        if kind is Kind.FLOAT:
            return self.floats
        return self.texts if kind is Kind.STRING else self.ints

    def since(self, changes: int, among: NDArray[np.intp]) -> NDArray[np.intp]:
        """Positions in `among`, an array of slots, of those that changed after a number of a change."""
        return np.flatnonzero(self.changed[among] > changes)

    def reading(self, signal: Signal) -> Reading:
        """The newest sample of one signal."""
        value = self.column(signal.kind)[signal.id]
        if signal.kind is not Kind.STRING:
            value = value.item()
        if signal.kind is Kind.BOOL:
            value = bool(value)
        return Reading(value, int(self.quality[signal.id]), int(self.t_ns[signal.id]))
