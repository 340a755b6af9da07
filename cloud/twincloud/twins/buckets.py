"""Downsampled history: min, max, mean, last, count and worst quality of the samples of each stretch of time.

A bucket's sum is that of its minutes, in their order, and a minute's is that of its samples in canonical order, so a
bucket out of stored minutes is bit for bit the one out of samples. Bad samples count and are not looked at further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twincloud.twins.history import Columns
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityClass, class_of

MINUTE_NS: Final = 60 * SECOND_NS
WIDTHS_NS: Final = {"1m": MINUTE_NS, "15m": 15 * MINUTE_NS, "1h": 60 * MINUTE_NS}
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Buckets in order of time that hold any sample; arrays of shape (n,).

    Attributes:
        start_ns: where each begins, a multiple of its width.
        count: samples in it.
        usable: those of them whose quality is not bad, and that are numbers.
        low, high, total, last: least, greatest, sum and newest of the usable ones; NaN where there is none.
        worst: the worst quality code in it.
        bad: samples whose quality is bad.
    """

    start_ns: I64
    count: I64
    usable: I64
    low: F64
    high: F64
    total: F64
    last: F64
    worst: I64
    bad: I64

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def mean(self) -> F64:
        """Mean of the usable samples, NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: F64 = self.total / self.usable
        return mean


def minutes_of(columns: Columns) -> Buckets:
    """The minutes of samples in canonical order; texts have counts and qualities alone."""
    start_ns = columns.t_ns // MINUTE_NS * MINUTE_NS
    first = _firsts(start_ns)
    codes, place = np.unique(columns.quality, return_inverse=True)
    classes = np.array([class_of(int(code)) for code in codes], np.int64)[place]
    bad = classes == QualityClass.BAD
    value = np.full(len(columns), np.nan)
    if columns.value.dtype != object:
        value = columns.value.astype(np.float64)
    usable = ~bad & ~np.isnan(value)
    low, high = np.where(usable, value, np.inf), np.where(usable, value, -np.inf)
    # Worse classes have larger numbers; among equal ones the larger code counts.
    rank = classes << 16 | columns.quality.astype(np.int64)
    parts = Buckets(
        start_ns, np.ones(len(columns), np.int64), usable.astype(np.int64), low, high, np.where(usable, value, 0.0),
        np.where(usable, value, np.nan), rank, bad.astype(np.int64),
    )  # fmt: skip
    return _combined(parts, start_ns, first)


def widened(minutes: Buckets, width_ns: int) -> Buckets:
    """Wider buckets out of minutes in order of time."""
    if width_ns == MINUTE_NS or not len(minutes):
        return minutes
    start_ns = minutes.start_ns // width_ns * width_ns
    empty = minutes.usable == 0
    parts = Buckets(
        start_ns, minutes.count, minutes.usable, np.where(empty, np.inf, minutes.low),
        np.where(empty, -np.inf, minutes.high), np.where(empty, 0.0, minutes.total), minutes.last, minutes.worst,
        minutes.bad,
    )  # fmt: skip
    return _combined(parts, start_ns, _firsts(start_ns))


def joined(parts: list[Buckets]) -> Buckets:
    """Buckets of spans that follow each other, as one."""
    if not parts:
        none = np.empty(0, np.int64)
        empty = np.empty(0)
        return Buckets(none, none, none, empty, empty, empty, empty, none, none)
    names = Buckets.__slots__
    return Buckets(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def quality_of(worst: I64) -> NDArray[np.uint16]:
    """The quality codes of `Buckets.worst`."""
    return (worst & 0xFFFF).astype(np.uint16)


def _firsts(start_ns: I64) -> NDArray[np.intp]:
    return np.concatenate([np.zeros(min(1, len(start_ns)), np.intp), np.flatnonzero(start_ns[1:] != start_ns[:-1]) + 1])


def _combined(parts: Buckets, start_ns: I64, first: NDArray[np.intp]) -> Buckets:
    if not len(first):
        return joined([])
    usable = np.add.reduceat(parts.usable, first)
    empty = usable == 0
    # The newest usable one of each bucket: the greatest place among them.
    at = np.maximum.reduceat(np.where(parts.usable > 0, np.arange(len(start_ns)), -1), first)
    return Buckets(
        start_ns[first], np.add.reduceat(parts.count, first), usable,
        np.where(empty, np.nan, np.minimum.reduceat(parts.low, first)),
        np.where(empty, np.nan, np.maximum.reduceat(parts.high, first)),
        np.where(empty, np.nan, np.add.reduceat(parts.total, first)),
        np.where(empty, np.nan, parts.last[at]), np.maximum.reduceat(parts.worst, first),
        np.add.reduceat(parts.bad, first),
    )  # fmt: skip
