"""What two blocks of one configuration have in common: their runs and bases, and arrays that follow from these alone.

A gateway's blocks name the same signals with the same numbers of samples again and again. The bytes that say so are
compared with those seen before; where they agree, all that was made of them then is at hand.

    columns = runs origin form | runs, bases | times | values ...
                                 ╰─ known? ─╯
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import Kind
from twinsync.bases import Bases, read_runs
from twinsync.columns import I64, ColumnReader
from twinsync.runs import Runs
from twinsync.scales import Scales

T = TypeVar("T", bound=np.dtype[Any])

WEIGHT_MAX = 1 << 20
"""Of all layouts that are remembered: one for each sample and run, which take up to 40 bytes."""

WEIGHT_EACH = 60
"""What a layout weighs besides: those of few samples are mostly objects, 2.2 kB each."""

SEEN_MAX = 1 << 15
"""Runs and bases that may come again: those of irregular samples mostly do not, so only a second time counts."""

_SAMPLES_EACH_MAX = 1 << 16
_KINDS = tuple(Kind)


class Spot(NamedTuple):
    """Where the run of a signal stands in a layout: its rank, run, samples; its base, and the base's samples."""

    rank: int
    run: int
    start: int
    end: int
    base: int
    base_start: int
    base_end: int


# Not slotted: every array is made at its first use. None may be written to, many batches show the same one.
class Layout:
    """The runs of a block and what follows from them; arrays have one entry per sample where nothing else is said.

    Args:
        runs: the runs.
        bases: their time bases, without times.
        scales: of the catalogue.
    """

    def __init__(self, runs: Runs, bases: Bases, scales: Scales) -> None:
        self.runs = runs
        self.bases = bases
        self._scales = scales
        length = runs.total // runs.count
        self.even = length if runs.total == runs.count * length and not (runs.length != length).any() else 0
        """Samples of every run, 0 when runs differ."""
        self.spots: dict[int, Spot | None] = {}
        """Where the runs of signals stand that were picked before."""

    @cached_property
    def signal(self) -> NDArray[np.uint32]:
        """Signal ids."""
        return _fixed(self._scales.signal.take(self.runs.rank).repeat(self.runs.length))

    @cached_property
    def good(self) -> NDArray[np.uint16]:
        """The quality of samples that are all good."""
        return _fixed(np.zeros(self.runs.total, np.uint16))

    @cached_property
    def signals(self) -> tuple[NDArray[np.uint32], ...]:
        """Signal ids of each kind that occurs; two blocks of one layout show the very same arrays."""
        return tuple(self.signal[span] for _, span in self.spans)

    @cached_property
    def spans(self) -> tuple[tuple[Kind, slice], ...]:
        """The kinds that occur, and the samples they have."""
        runs = self.runs
        edges: list[int] = runs.rank.searchsorted(self._scales.edges).tolist()
        ends = [*runs.start.tolist(), runs.total]
        between = zip(_KINDS, edges, edges[1:], strict=False)
        return tuple((kind, slice(ends[low], ends[high])) for kind, low, high in between if low < high)

    @cached_property
    def up(self) -> NDArray[np.float64]:
        """`Scales.up` of each sample."""
        return self._scales.up.take(self.runs.rank).repeat(self.runs.length)

    @cached_property
    def down(self) -> NDArray[np.float64]:
        """`Scales.down` of each sample."""
        return self._scales.down.take(self.runs.rank).repeat(self.runs.length)

    @cached_property
    def grid(self) -> I64:
        """Nominal times of the bases' samples after the first one of their base, in steps."""
        own, scales = self.bases.runs, self._scales
        place = np.arange(own.total) - own.start.repeat(own.length)
        if scales.whole_periods:
            return place * scales.period_steps.take(own.rank).repeat(own.length)
        return place * scales.period_ns.take(own.rank).repeat(own.length) // scales.time_step_ns

    @cached_property
    def place(self) -> I64:
        """Where among the times of the bases each sample finds its own."""
        runs, bases = self.runs, self.bases
        if runs.count == runs.total:
            return bases.of_run
        shift = bases.runs.start[bases.of_run] - runs.start
        return shift.repeat(runs.length) + np.arange(runs.total)


def read_layout(reader: ColumnReader, run_count: int, count: int, scales: Scales) -> Layout:
    """The layout of a block of `count` samples; raises InputError BLOCK_CORRUPT."""
    return _memo.read(reader, run_count, count, scales)


class _Memo:
    """Layouts that came twice, by scales, runs and samples, the newest of each; those used longest ago make room."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[bytes, int, int], int] = OrderedDict()
        self._layouts: OrderedDict[tuple[bytes, int, int], tuple[bytes, Layout]] = OrderedDict()
        self.weight = 0
        self._lock = threading.Lock()

    def read(self, reader: ColumnReader, run_count: int, count: int, scales: Scales) -> Layout:
        key = (scales.digest, run_count, count)
        with self._lock:
            known = self._layouts.get(key)
            if known is not None and reader.skip(known[0]):
                self._layouts.move_to_end(key)
                return known[1]
        start = reader.used
        layout = Layout(*read_runs(reader, run_count, count, scales), scales)
        if count <= _SAMPLES_EACH_MAX:
            self._keep(key, reader.since(start), layout)
        return layout

    def _keep(self, key: tuple[bytes, int, int], section: bytes, layout: Layout) -> None:
        with self._lock:
            if not self._came_before(key, hash(section)):
                return
            if self._layouts.pop(key, None) is None:
                self.weight += _weight(key)
            self._layouts[key] = (section, layout)
            while self.weight > WEIGHT_MAX:
                oldest, _ = self._layouts.popitem(last=False)
                self.weight -= _weight(oldest)

    def _came_before(self, key: tuple[bytes, int, int], section: int) -> bool:
        known = self._seen.pop(key, None)
        self._seen[key] = section
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return known == section


def _weight(key: tuple[bytes, int, int]) -> int:
    _, runs, samples = key
    return WEIGHT_EACH + runs + samples


def _fixed(column: np.ndarray[Any, T]) -> np.ndarray[Any, T]:
    column.flags.writeable = False
    return column


_memo = _Memo()
