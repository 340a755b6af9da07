"""The runs of a block: which signals it holds, in canonical order, and how many samples of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinsync.columns import I64


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one signal each, shape (m,) all: the signal's rank, where it starts, how many samples."""

    rank: I64
    start: I64
    length: I64
    total: int

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.rank)

    @staticmethod
    def of(rank: NDArray[np.unsignedinteger[Any]]) -> Runs:
        """Finds the runs of a column of ascending ranks, shape (n,), n > 0."""
        total = len(rank)
        edges = (rank[1:] != rank[:-1]).nonzero()[0]
        ends = np.empty(len(edges) + 1, np.int64)
        np.add(edges, 1, out=ends[:-1])
        ends[-1] = total
        length = ends.copy()
        length[1:] -= ends[:-1]
        start = ends - length
        return Runs(rank.take(start).astype(np.int64), start, length, total)

    @staticmethod
    def lengths(rank: I64, length: I64) -> Runs:
        """Runs of known lengths, one behind the other."""
        ends = length.cumsum()
        return Runs(rank, ends - length, length, int(ends[-1]))

    def head(self, count: int) -> Runs:
        """The first `count` runs."""
        if count == len(self.rank):
            return self
        return Runs(self.rank[:count], self.start[:count], self.length[:count], int(self.start[count]))
