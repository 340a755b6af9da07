"""The time bases of a block: which of its runs have equal times, and how that and the runs themselves are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinsync.columns import I64, U64, ColumnReader, ColumnWriter, corrupt, differences
from twinsync.runs import Runs
from twinsync.scales import Scales

# Odd constants of splitmix64.
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xBF58476D1CE4E5B9)
# A run of the block has no base of its own but shares one: base number plus one; 0 opens a new base.
_OPENS = 0
# Four bytes at most: no sum over the runs of a block leaves 64 bits.
_RUN_WIDTH_MAX = 4
_NO_TIMES = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Bases:
    """Times of a block without repetition.

    Attributes:
        link: for every run 0 where it opens a base, else the number of its base plus one, shape (m,).
        of_run: number of every run's base, shape (m,).
        owner: the run that opens each base, shape (b,).
        runs: the bases as runs of the column `t`; their ranks are those of their owners.
        t_ns: times of all bases, shape (k,).
    """

    link: U64
    of_run: I64
    owner: I64
    runs: Runs
    t_ns: I64

    @staticmethod
    def of(runs: Runs, t_ns: I64) -> Bases:
        """Finds the bases of the times `t_ns` in canonical order, shape (n,)."""
        bases = Bases._like(runs, t_ns, _first_of_equal(_hashes(runs, t_ns)))
        if bases.runs is runs or _agree(runs, t_ns, bases.owner[bases.of_run]):
            return bases
        return Bases._like(runs, t_ns, _first_of_equal(_whole(runs, t_ns)))

    @staticmethod
    def _like(runs: Runs, t_ns: I64, like: I64) -> Bases:
        """Bases of runs whose times are those of the run `like` them."""
        every = np.arange(runs.count)
        opens = like == every
        owner = opens.nonzero()[0]
        if len(owner) == runs.count:
            return Bases(np.zeros(runs.count, np.uint64), every, every, runs, t_ns)
        of_run = (opens.cumsum() - 1)[like]
        link = (of_run + 1) * ~opens
        own = t_ns[opens.repeat(runs.length)]
        return Bases(link.view(np.uint64), of_run, owner, Runs.lengths(runs.rank[owner], runs.length[owner]), own)


NO_BASES = Bases(_NO_TIMES.view(np.uint64), _NO_TIMES, _NO_TIMES, Runs(_NO_TIMES, _NO_TIMES, _NO_TIMES, 0), _NO_TIMES)
"""Of a block whose times are known already."""


def write_runs(writer: ColumnWriter, runs: Runs, bases: Bases) -> None:
    """Appends which signals there are and how many samples of each; runs of one base have one length."""
    ranks = differences(runs.rank)
    ranks[1:] -= 1
    writer.narrow(ranks.view(np.uint64))
    writer.narrow(bases.link)
    writer.narrow((bases.runs.length - 1).view(np.uint64))


def read_runs(reader: ColumnReader, run_count: int, count: int, scales: Scales) -> tuple[Runs, Bases]:
    """The runs of `count` samples, and their bases without times."""
    ranks = reader.narrow(run_count, _RUN_WIDTH_MAX).view(np.int64).cumsum()
    ranks += np.arange(run_count)
    if ranks[-1] >= len(scales):
        corrupt(f"names a signal that a catalogue of {len(scales)} has not")
    link = reader.narrow(run_count, _RUN_WIDTH_MAX)
    owner = (link == _OPENS).nonzero()[0]
    if not len(owner):
        corrupt("opens no time base")
    length = reader.narrow(len(owner), _RUN_WIDTH_MAX).view(np.int64) + 1
    if len(owner) == run_count:
        runs = own = Runs.lengths(ranks, length)
        of_run = owner
    else:
        own = Runs.lengths(ranks.take(owner), length)
        of_run = link.view(np.int64) - 1
        of_run[owner] = np.arange(len(owner))
        try:
            runs = Runs.lengths(ranks, length.take(of_run))
        except IndexError:
            corrupt(f"names a time base that {len(owner)} bases have not")
    if runs.total != count:
        corrupt(f"runs hold {runs.total} of {count} samples")
    return runs, Bases(link, of_run, owner, own, _NO_TIMES)


def _first_of_equal(keys: list[int] | list[bytes]) -> I64:
    """For every key the place where it occurs first."""
    places = range(len(keys) - 1, -1, -1)
    # Of several values for one key the last one stands, hence backwards.
    first = dict(zip(reversed(keys), places, strict=True))
    return np.fromiter(map(first.__getitem__, keys), np.int64, len(keys))


def _hashes(runs: Runs, t_ns: I64) -> list[int]:
    """One number per run, equal for equal times; of a run's times the first, the middle and the last one count."""
    times = t_ns.view(np.uint64)
    mixed = times.take(runs.start) * _MIX_A + runs.length.view(np.uint64)
    if runs.count < runs.total:
        mixed = (mixed ^ times.take(runs.start + (runs.length >> 1))) * _MIX_B
        mixed = (mixed ^ times.take(runs.start + runs.length - 1)) * _MIX_A
    hashes: list[int] = mixed.tolist()
    return hashes


def _agree(runs: Runs, t_ns: I64, like: I64) -> bool:
    """Whether every run has the times of the run `like` it."""
    if np.count_nonzero(runs.length[like] != runs.length):
        return False
    index = (runs.start[like] - runs.start).repeat(runs.length)
    index += np.arange(runs.total)
    return not np.count_nonzero(t_ns.take(index) != t_ns)


def _whole(runs: Runs, t_ns: I64) -> list[bytes]:
    """The times of each run as bytes: exact keys for the rare block in which two hashes meet."""
    ends = runs.start + runs.length
    return [t_ns[a:b].tobytes() for a, b in zip(runs.start.tolist(), ends.tolist(), strict=True)]
