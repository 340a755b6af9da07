"""Samples of many rates put on a model's grid: ticks at multiples of dt, closed by event time alone.

    samples ─▶ push ─▶ [per input, sorted by event time] ─▶ close(watermark) ─▶ frames in order of time

A tick T closes when every input has a sample at or after T, or when the watermark has passed T by the allowed
lateness. What comes for a closed tick is late: counted, stored elsewhere, never used here. Frames depend only on
which samples came before which `close`, not on their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from twinmodel.quality import QualityClass, QualityReason, bad
from twinmodel.signal import Batch, Kind

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
SAMPLES_MAX: Final = 16_384
FRAMES_MAX: Final = 10_000
NEVER_NS: Final = -(2**63)
SILENT_MAX: Final = 600
_STALE: Final = bad(QualityReason.STALE)
_ABSENT: Final = bad(QualityReason.ABSENT)
_UNREADABLE: Final = bad(QualityReason.DECODE)
_CLOCK: Final = bad(QualityReason.CLOCK)
_BAD_FROM: Final = int(QualityClass.BAD) << 8


@dataclass(frozen=True, slots=True)
class AlignInput:
    """How one signal gets onto the grid.

    Attributes:
        signal: id in the catalogue.
        how: `hold` keeps the last value, `linear` interpolates where a later sample is there already.
        age_limit_ns: older samples count as missing, and samples further apart are not interpolated; 0 for none.
    """

    signal: int
    how: Literal["hold", "linear"]
    age_limit_ns: int


@dataclass(frozen=True, slots=True)
class Frame:
    """All inputs at one tick, in the order the aligner was given.

    Attributes:
        t_ns: time of the tick, a multiple of dt.
        values: float64, shape (k,), NaN where `quality` is bad.
        quality: uint16 codes, shape (k,).
        cut_off_ns: event time of the newest sample used, 0 when there was none.
        times_ns: event time of the sample each input was looked up at, int64, shape (k,), `NEVER_NS` where there was
            none.
    """

    t_ns: int
    values: NDArray[np.float64]
    quality: NDArray[np.uint16]
    cut_off_ns: int
    times_ns: I64 = field(default_factory=lambda: np.empty(0, np.int64))


class _Lane:
    """Samples of one input that ticks may still need, sorted by time after `settle`."""

    def __init__(self) -> None:
        self.t = np.empty(0, np.int64)
        self.value = np.empty(0, np.float64)
        self.quality = np.empty(0, np.uint16)
        self._coming: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint16]]] = []
        self._count = 0

    def push(self, t: NDArray[np.int64], value: NDArray[np.float64], quality: NDArray[np.uint16]) -> int:
        """Takes samples; the number of old ones given up because there were too many."""
        self._coming.append((t, value, quality))
        self._count += len(t)
        if len(self.t) + self._count <= SAMPLES_MAX:
            return 0
        self.settle()
        excess = max(len(self.t) - SAMPLES_MAX, 0)
        self._keep_from(excess)
        return excess

    def settle(self) -> None:
        """Sorts what has come; of samples with one time the best quality wins, then the largest value."""
        if not self._coming:
            return
        parts = [(self.t, self.value, self.quality), *self._coming]
        t, value, quality = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = settled(t, value, quality)
        self.t, self.value, self.quality = t[order], value[order], quality[order]
        self._coming, self._count = [], 0

    def forget_before(self, tick_ns: int) -> None:
        """Drops all samples before the one that holds at the tick."""
        self._keep_from(max(int(np.searchsorted(self.t, tick_ns, "right")) - 1, 0))

    def _keep_from(self, first: int) -> None:
        if first:
            self.t, self.value, self.quality = self.t[first:], self.value[first:], self.quality[first:]


class Aligner:
    """Turns samples into frames.

    Args:
        dt_ns: distance of ticks.
        inputs: signals in the order of the frame's columns; a signal may stand more than once.
        lateness_ns: how long after a tick its samples may still come.

    Attributes:
        late: samples that came for closed ticks.
        skipped: ticks that were jumped over in long silences.
        dropped: samples given up because a buffer was full.
    """

    def __init__(self, dt_ns: int, inputs: Sequence[AlignInput], lateness_ns: int) -> None:
        if dt_ns <= 0 or lateness_ns < 0 or not inputs:
            raise ValueError("an aligner needs inputs, dt_ns > 0 and lateness_ns >= 0")
        self._dt_ns = dt_ns
        self._inputs = tuple(inputs)
        self._lateness_ns = lateness_ns
        self._lanes = {i.signal: _Lane() for i in inputs}
        self._wanted = np.array(sorted(self._lanes), np.int64)
        self._next_ns: int | None = None
        self._silent = 0
        self.late = 0
        self.skipped = 0
        self.dropped = 0

    def push(self, batch: Batch) -> int:
        """Takes the samples of bound signals; others are passed over.

        Returns:
            How many came for ticks that are closed already.
        """
        mine = np.isin(batch.signal, self._wanted)
        # A time that is known to be wrong belongs to no tick.
        mine &= batch.quality != _CLOCK
        if not mine.any():
            return 0
        batch = batch.take(mine)
        too_late = self.is_late(batch.t_ns)
        late = int(np.count_nonzero(too_late))
        if late:
            self.late += late
            batch = batch.take(~too_late)
        value, quality = as_float(batch.kind, batch.value, batch.quality)
        for signal in np.unique(batch.signal).tolist():
            at = batch.signal == signal
            self.dropped += self._lanes[signal].push(batch.t_ns[at], value[at], quality[at])
        return late

    def is_late(self, t_ns: I64) -> NDArray[np.bool_]:
        """Which of these times belong to ticks that are closed already."""
        if self._next_ns is None:
            return np.zeros(len(t_ns), np.bool_)
        return t_ns <= self._next_ns - self._dt_ns

    def close(self, watermark_ns: int) -> list[Frame]:
        """Frames of all ticks that can be closed now, at most `FRAMES_MAX`; the rest follows at the next call."""
        for lane in self._lanes.values():
            lane.settle()
        if self._next_ns is None:
            self._next_ns = self._first_tick()
            if self._next_ns is None:
                return []
        ends = [int(lane.t[-1]) if len(lane.t) else -(2**63) for lane in self._lanes.values()]
        last_ns = max(min(ends), watermark_ns - self._lateness_ns) // self._dt_ns * self._dt_ns
        frames: list[Frame] = []
        tick = self._next_ns
        while tick <= last_ns and len(frames) < FRAMES_MAX:
            if self._silent >= SILENT_MAX:
                jump = max(tick, min(self._next_sample_tick(tick), last_ns))
                self.skipped += (jump - tick) // self._dt_ns
                tick = jump
            frames.append(self._frame(tick))
            tick += self._dt_ns
        self._next_ns = tick
        if frames:
            for lane in self._lanes.values():
                lane.forget_before(frames[-1].t_ns)
        return frames

    def _first_tick(self) -> int | None:
        """The tick at or after the first usable sample."""
        first: list[int] = []
        for lane in self._lanes.values():
            usable = lane.t[(lane.quality < _BAD_FROM) & np.isfinite(lane.value)]
            first += usable[:1].tolist()
        return self._tick_of(min(first)) if first else None

    def _tick_of(self, t_ns: int) -> int:
        return -(-t_ns // self._dt_ns) * self._dt_ns

    def _next_sample_tick(self, tick: int) -> int:
        """Tick of the first sample that is newer than the tick before `tick`."""
        after = [lane.t[np.searchsorted(lane.t, tick - self._dt_ns, "right") :] for lane in self._lanes.values()]
        times = [int(t[0]) for t in after if len(t)]
        return self._tick_of(min(times)) if times else 2**63 - 1

    def _frame(self, tick: int) -> Frame:
        values = np.full(len(self._inputs), np.nan)
        quality = np.full(len(self._inputs), _ABSENT, np.uint16)
        times = np.full(len(self._inputs), NEVER_NS)
        cut_off, fresh = 0, False
        for column, entry in enumerate(self._inputs):
            lane = self._lanes[entry.signal]
            at = int(np.searchsorted(lane.t, tick, "right")) - 1
            if at < 0:
                continue
            values[column], quality[column], used_ns = _on_grid(lane, at, tick, entry)
            cut_off, times[column] = max(cut_off, used_ns), int(lane.t[at])
            fresh |= int(lane.t[at]) > tick - self._dt_ns
        self._silent = 0 if fresh else self._silent + 1
        return Frame(tick, values, quality, cut_off, times)


def settled(t_ns: I64, value: F64, quality: NDArray[np.uint16]) -> NDArray[np.intp]:
    """Positions of the samples of one signal that count, by time; of those of one time the best, then the largest."""
    order = np.lexsort((value, -quality.astype(np.int32), t_ns))
    last = np.append(t_ns[order][1:] != t_ns[order][:-1], [True])[: len(order)]
    found: NDArray[np.intp] = order[last]
    return found


def as_float(kind: Kind, value: NDArray[np.generic], quality: NDArray[np.uint16]) -> tuple[F64, NDArray[np.uint16]]:
    """Values as float64; text and values that are not finite become bad."""
    if kind == Kind.STRING:
        codes = np.where(quality < _BAD_FROM, _UNREADABLE, quality)
        return np.full(len(value), np.nan), codes.astype(np.uint16)
    number = value.astype(np.float64)
    broken = ~np.isfinite(number) & (quality < _BAD_FROM)
    return number, np.where(broken, _UNREADABLE, quality).astype(np.uint16)


def held(
    t_ns: I64, values: F64, quality: NDArray[np.uint16], ticks_ns: I64, age_limit_ns: int
) -> tuple[F64, NDArray[np.intp]]:
    """What frames of an `Aligner` hold of one signal (`hold`) at many ticks, once all of its samples have come.

    Args:
        t_ns: times of the samples, strictly rising, see `settled`.
        values: see `as_float`.
        quality: codes.
        ticks_ns: times wanted.
        age_limit_ns: see `AlignInput`.

    Returns:
        Values at the ticks, NaN where there is none to use; and the position of the sample each tick looks at, -1
        where there is none yet.
    """
    at = np.searchsorted(t_ns, ticks_ns, "right") - 1
    if not len(t_ns):
        return np.full(len(ticks_ns), np.nan), at
    before = np.maximum(at, 0)
    missing = (at < 0) | (quality[before] >= _BAD_FROM)
    if age_limit_ns:
        missing |= ticks_ns - t_ns[before] > age_limit_ns
    return np.where(missing, np.nan, values[before]), at


def resample(
    t_ns: NDArray[np.int64],
    values: NDArray[np.float64],
    ticks_ns: NDArray[np.int64],
    age_limit_ns: int,
    how: Literal["hold", "linear"] = "hold",
) -> NDArray[np.float64]:
    """What an `Aligner` gives for one signal at many ticks, once all of its samples have come.

    Args:
        t_ns: times of the samples, strictly rising.
        values: their values, finite.
        ticks_ns: times wanted.
        age_limit_ns: see `AlignInput`.
        how: see `AlignInput`.

    Returns:
        Values at the ticks, NaN where there is none.
    """
    if not len(t_ns):
        return np.full(len(ticks_ns), np.nan)
    at = np.searchsorted(t_ns, ticks_ns, "right") - 1
    before = np.maximum(at, 0)
    age = ticks_ns - t_ns[before]
    missing = at < 0
    if age_limit_ns:
        missing |= age > age_limit_ns
    found = values[before]
    if how == "linear":
        after = np.minimum(before + 1, len(t_ns) - 1)
        apart = t_ns[after] - t_ns[before]
        between = (apart > 0) & (age > 0)
        if age_limit_ns:
            between &= apart <= age_limit_ns
        found = np.where(between, found + (values[after] - found) * (age / np.maximum(apart, 1)), found)
    return np.where(missing, np.nan, found)


def _on_grid(lane: _Lane, at: int, tick: int, entry: AlignInput) -> tuple[float, int, int]:
    """Value, quality and newest time used of one input at a tick; `at` is its last sample up to the tick."""
    t, value, code = int(lane.t[at]), float(lane.value[at]), int(lane.quality[at])
    if code >= _BAD_FROM:
        return np.nan, code, t
    if entry.age_limit_ns and tick - t > entry.age_limit_ns:
        return np.nan, _STALE, t
    if entry.how == "hold" or t == tick or at + 1 == len(lane.t):
        return value, code, t
    after, beyond, other = int(lane.t[at + 1]), float(lane.value[at + 1]), int(lane.quality[at + 1])
    if other >= _BAD_FROM or (entry.age_limit_ns and after - t > entry.age_limit_ns):
        return value, code, t
    return value + (beyond - value) * ((tick - t) / (after - t)), max(code, other), after
