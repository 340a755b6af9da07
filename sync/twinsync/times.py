"""The times of a block: runs of one signal, the time bases they share, residuals to the nominal grid."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import Catalogue
from twinsync.columns import I64, ColumnReader, ColumnWriter, corrupt, differences, largest, unzigzag, zigzag
from twinsync.scales import scales_of

# Odd constants of splitmix64.
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xBF58476D1CE4E5B9)
_ESCAPED_FROM = 254
_ON_CHANGE = 1


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one signal each, shape (m,) all: which signal, where it starts, how many samples."""

    signal: I64
    start: I64
    length: I64
    total: int

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.signal)

    @staticmethod
    def of(signal: NDArray[np.uint32]) -> Runs:
        """Finds the runs of a column in canonical order, shape (n,), n > 0."""
        total = len(signal)
        edges = (signal[1:] != signal[:-1]).nonzero()[0]
        start = np.zeros(len(edges) + 1, np.int64)
        np.add(edges, 1, out=start[1:])
        length = np.empty_like(start)
        np.subtract(start[1:], start[:-1], out=length[:-1])
        length[-1] = total - start[-1]
        return Runs(signal[start].astype(np.int64), start, length, total)


@dataclass(frozen=True, slots=True)
class Bases:
    """Times of a block without repetition.

    Attributes:
        of_run: base of each run, shape (m,); bases are numbered by first use.
        owner: first run of each base, shape (b,).
        start, length: place of each base in `t`, shape (b,).
        t: times, or whole steps of time, of all bases, shape (k,).
    """

    of_run: I64
    owner: I64
    start: I64
    length: I64
    t: I64

    @staticmethod
    def of(runs: Runs, t_ns: I64) -> Bases:
        """Finds the bases of the times `t_ns` in canonical order, shape (n,)."""
        of_run = _numbered(_hashes(runs, t_ns))
        owner = _owners(of_run)
        if len(owner) < runs.count and not _agree(runs, t_ns, owner[of_run]):
            of_run = _numbered(_whole(runs, t_ns))
            owner = _owners(of_run)
        length = runs.length[owner]
        if len(owner) == runs.count:
            return Bases(of_run, owner, runs.start, length, t_ns)
        owns = np.zeros(runs.count, np.bool_)
        owns[owner] = True
        return Bases(of_run, owner, length.cumsum() - length, length, t_ns[owns.repeat(runs.length)])


def write_times(writer: ColumnWriter, runs: Runs, t_ns: I64, catalogue: Catalogue) -> None:
    """Appends the times `t_ns` of samples in canonical order."""
    bases = Bases.of(runs, t_ns)
    step = catalogue.time_step_ns
    t = bases.t // step
    below = bases.t - t * step
    odd = below.nonzero()[0]
    period = scales_of(catalogue).period_ns[runs.signal[bases.owner]]
    base_of, place = _places(bases.start, bases.length)
    first = t[bases.start]
    residual = t - first[base_of] - place * period[base_of] // step
    centre = np.add.reduceat(residual, bases.start) // bases.length
    coded = zigzag(residual - centre[base_of])
    anchor = first + centre
    mode = np.zeros(len(anchor), np.uint64)
    if largest(coded) >= _ESCAPED_FROM:
        large = coded >= _ESCAPED_FROM
        steps = differences(t) - (period // step)[base_of]
        steps[bases.start] = 0
        change = zigzag(steps)
        fewer = np.add.reduceat((change >= _ESCAPED_FROM).astype(np.int64), bases.start) < np.add.reduceat(
            large.astype(np.int64), bases.start
        )
        mode = fewer.astype(np.uint64)
        coded = np.where(fewer[base_of], change, coded)
        anchor = np.where(fewer, first, anchor)
    origin = int(anchor.min())
    writer.put(origin.to_bytes(8, "little", signed=True) + len(anchor).to_bytes(4, "little"))
    writer.narrow(bases.of_run.view(np.uint64))
    writer.narrow((anchor - origin).view(np.uint64))
    writer.narrow(mode)
    writer.escaped(coded)
    writer.sparse(odd)
    writer.narrow(below[odd].view(np.uint64))


def read_times(reader: ColumnReader, runs: Runs, catalogue: Catalogue) -> I64:
    """The times of all samples in canonical order, shape (n,)."""
    step = catalogue.time_step_ns
    origin = int.from_bytes(reader.take(8), "little", signed=True)
    base_count = int.from_bytes(reader.take(4), "little")
    if not 1 <= base_count <= runs.count:
        corrupt(f"{base_count} time bases of {runs.count} runs")
    of_run = reader.below(runs.count, base_count, "time base")
    owner = _owners(of_run)
    length = runs.length[owner]
    if len(owner) != base_count or not (owner[1:] > owner[:-1]).all():
        corrupt("time bases are not numbered by first use")
    if (length[of_run] != runs.length).any():
        corrupt("runs of different length share a time base")
    start = length.cumsum() - length
    anchor = reader.narrow(base_count).view(np.int64) + np.int64(origin)
    mode = reader.below(base_count, 2, "time mode")
    total = int(length.sum())
    residual = unzigzag(reader.escaped(total))
    period = scales_of(catalogue).period_ns[runs.signal[owner]]
    base_of, place = _places(start, length)
    t = residual + anchor[base_of] + place * period[base_of] // step
    if mode.any():
        steps = residual + (period // step)[base_of]
        steps[start] = 0
        run = np.cumsum(steps)
        changed = mode[base_of] == _ON_CHANGE
        t = np.where(changed, run - run[start][base_of] + anchor[base_of], t)
    t *= step
    odd = reader.sparse(total)
    t[odd] += reader.below(len(odd), step, "time below a step")
    if base_count == runs.count:
        return np.asarray(t, np.int64)
    column: I64 = t[(start[of_run] - runs.start).repeat(runs.length) + np.arange(runs.total)]
    return column


def _places(start: I64, length: I64) -> tuple[I64, I64]:
    """For every element of a run-length column: the number of its run and its place inside it."""
    run = np.arange(len(length)).repeat(length)
    return run, np.arange(len(run)) - start[run]


def _numbered(keys: Sequence[Hashable]) -> I64:
    """Numbers keys by first use."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.fromiter(map(numbers.__getitem__, keys), np.int64, len(keys))


def _owners(of_run: I64) -> I64:
    """First run of each base; -1 does not occur where bases are numbered without holes."""
    owner = np.full(int(of_run.max()) + 1, -1, np.int64)
    # Of several values for one place the last one stands, hence backwards.
    owner[of_run[::-1]] = np.arange(len(of_run) - 1, -1, -1)
    return owner


def _hashes(runs: Runs, t_ns: I64) -> list[int]:
    """One number per run, equal for equal times; of a run's times the first, the middle and the last one count."""
    times = t_ns.view(np.uint64)
    mixed = times[runs.start] * _MIX_A + runs.length.view(np.uint64)
    if runs.count < runs.total:
        mixed = (mixed ^ times[runs.start + (runs.length >> 1)]) * _MIX_B
        mixed = (mixed ^ times[runs.start + runs.length - 1]) * _MIX_A
    hashes: list[int] = mixed.tolist()
    return hashes


def _agree(runs: Runs, t_ns: I64, like: I64) -> bool:
    """Whether every run has the times of the run `like` it."""
    if (runs.length[like] != runs.length).any():
        return False
    index = (runs.start[like] - runs.start).repeat(runs.length) + np.arange(runs.total)
    return bool((t_ns[index] == t_ns).all())


def _whole(runs: Runs, t_ns: I64) -> list[bytes]:
    """The times of each run as bytes: exact keys for the rare block in which two hashes meet."""
    ends = runs.start + runs.length
    return [t_ns[a:b].tobytes() for a, b in zip(runs.start.tolist(), ends.tolist(), strict=True)]
