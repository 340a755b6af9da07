"""What is kept of a fleet between two readings: which cells of which gateway go where, and what they became."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twincloud.storage.records_fleets import FleetStanding
from twincloud.twins.gather import Conversion
from twincloud.twins.latest import NONE_NS, T_NS, Latest, Layout

I64 = NDArray[np.int64]


@dataclass(slots=True)
class Source:
    """A gateway of the fleet: which of its cells go where."""

    gateway_id: int
    start: int
    names: list[str] = field(default_factory=list)
    steps: bytearray = field(default_factory=bytearray)
    last_block: int = -1
    layout: Layout | None = None
    slots: I64 = field(default_factory=lambda: np.empty(0, np.int64))

    def copy(self, latest: Latest, into: I64) -> None:
        """Copies its newest cells to their places."""
        if self.layout is not latest.layout:
            slot = latest.layout.slot
            first = np.fromiter((slot.get(name, -1) for name in self.names), np.int64, len(self.names))
            self.slots = np.where(first < 0, -1, first + np.frombuffer(self.steps, np.uint8))
            self.layout = latest.layout
        here = into[self.start : self.start + len(self.names)]
        if not len(latest.cells):
            here[:, T_NS] = NONE_NS
            return
        np.take(latest.cells, self.slots, axis=0, out=here, mode="clip")
        here[self.slots < 0, T_NS] = NONE_NS


@dataclass(slots=True)
class CellColumn:
    """Where the cells of a property lie, and what its values become."""

    role: str
    at: I64
    conversion: Conversion
    model: NDArray[np.int32]


@dataclass(slots=True)
class Muster:
    """What is kept of a fleet between two refreshes; used by one thread at a time."""

    token: tuple[object, ...]
    standing: FleetStanding
    sources: dict[int, Source]
    columns: list[CellColumn]
    raw: I64
    behind: bool = True
