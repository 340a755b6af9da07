"""What is kept of a fleet between two readings: which cells of which gateway go where, and what they became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twincloud.storage.records_fleets import FleetStanding
from twincloud.twins.gather import Conversion, NewestValues
from twincloud.twins.latest import NONE_NS, Latest, Layout

I64 = NDArray[np.int64]
TOGETHER: Final = 64
"""Gateways whose cells are taken apart in one go: few enough that these fit in a cache of the processor."""
EMPTY: Final = np.array([[NONE_NS, 0, 0, 0]], np.int64)


@dataclass(slots=True)
class Source:
    """A gateway of the fleet: rows `start` to `end` of the values are its cells.

    Attributes:
        names: its signals.
        name: place of each row's signal in `names`, shape (end - start,).
        step: which of the signal's cells the row is, 0 for the newest.
        last_block: of what was taken from it.
    """

    gateway_id: int
    start: int
    names: Sequence[str]
    name: NDArray[np.int32]
    step: NDArray[np.uint8]
    last_block: int = -1
    layout: Layout | None = None
    slots: I64 = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def end(self) -> int:
        """The row behind its last one."""
        return self.start + len(self.name)

    def cells(self, latest: Latest) -> I64:
        """Its newest cells, shape (rows, 4)."""
        if self.layout is not latest.layout:
            slot = latest.layout.slot
            first = np.fromiter((slot.get(name, -1) for name in self.names), np.int64, len(self.names))[self.name]
            self.slots = np.where(first < 0, -1, first + self.step)
            self.layout = latest.layout
        if not len(latest.cells):
            return np.repeat(EMPTY, len(self.name), axis=0)
        found = latest.cells.take(self.slots, axis=0, mode="clip")
        found[self.slots < 0] = EMPTY
        return found


@dataclass(slots=True)
class CellColumn:
    """Where the cells of a property lie, and what its values become."""

    role: str
    at: I64
    conversion: Conversion
    model: NDArray[np.int32]


@dataclass(slots=True)
class Muster:
    """What is kept of a fleet between two refreshes; used by one thread at a time.

    Attributes:
        newest: the newest values of all members.
        fresh: gateways whose values are not in the standings yet, by number.
    """

    token: tuple[object, ...]
    standing: FleetStanding
    sources: dict[int, Source]
    columns: list[CellColumn]
    newest: NewestValues
    fresh: NDArray[np.bool_]

    def put(self, parts: Sequence[tuple[Source, Latest]]) -> None:
        """Takes the newest values of some gateways."""
        for first in range(0, len(parts), TOGETHER):
            some = sorted(parts[first : first + TOGETHER], key=lambda part: part[0].start)
            rows = np.concatenate([np.arange(source.start, source.end) for source, _ in some])
            if len(rows):
                self.newest.put(rows, np.concatenate([source.cells(latest) for source, latest in some]))
