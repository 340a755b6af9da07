"""Reads blocks of version 1, which spools and databases may hold for ever; nothing writes them any more.

What differs from version 2: signals by id, zigzag in byte planes, a length and a base number for every run, time
bases centred always, exceptions always present.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import Batch, Catalogue
from twinsync.bases import NO_BASES
from twinsync.columns import I64, ColumnReader, corrupt, unzigzag
from twinsync.layout import Layout
from twinsync.runs import Runs
from twinsync.scales import Scales, scales_of
from twinsync.values import PLAIN_FLOATS, split_values

_IN_16_BITS, _IN_64_BITS = 254, 255


def read_columns(raw: bytes, count: int, catalogue: Catalogue) -> list[Batch]:
    """The samples of the columns of a version 1 block; raises InputError BLOCK_CORRUPT."""
    scales = scales_of(catalogue)
    reader = ColumnReader(raw)
    runs = _read_runs(reader, count, scales)
    t_ns = _read_times(reader, runs, scales)
    first = unzigzag(reader.narrow(runs.count))
    steps = _escaped(reader, runs.total)
    if steps[runs.start].any():
        corrupt("a run starts with a difference")
    steps[runs.start] = first
    layout = Layout(runs, NO_BASES, scales)
    values = split_values(reader, PLAIN_FLOATS, steps.cumsum(), layout, scales)
    quality = _read_quality(reader, count)
    reader.finish()
    return [
        Batch(kind, signal, value, quality[span], t_ns[span])
        for (kind, span), signal, value in zip(layout.spans, layout.signals, values, strict=True)
    ]


def _read_runs(reader: ColumnReader, count: int, scales: Scales) -> Runs:
    run_count = int.from_bytes(reader.take(4), "little")
    if not 1 <= run_count <= count:
        corrupt(f"{run_count} runs of {count} samples")
    signal = unzigzag(reader.narrow(run_count)).cumsum()
    length = reader.below(run_count, count + 1, "run length")
    known = len(scales)
    if int(signal.min()) < 0 or int(signal.max()) >= known:
        corrupt(f"names a signal that a catalogue of {known} has not")
    rank_of = np.empty(known, np.int64)
    rank_of[scales.signal] = np.arange(known)
    rank = rank_of[signal]
    if not (rank[1:] > rank[:-1]).all():
        corrupt("signals are not in canonical order")
    if int(length.min()) < 1 or int(length.sum()) != count:
        corrupt(f"runs hold {int(length.sum())} of {count} samples")
    return Runs.lengths(rank, length)


def _read_times(reader: ColumnReader, runs: Runs, scales: Scales) -> I64:
    step = scales.time_step_ns
    origin = int.from_bytes(reader.take(8), "little", signed=True)
    base_count = int.from_bytes(reader.take(4), "little")
    if not 1 <= base_count <= runs.count:
        corrupt(f"{base_count} time bases of {runs.count} runs")
    of_run = reader.below(runs.count, base_count, "time base")
    owner = np.full(int(of_run.max()) + 1, -1, np.int64)
    # Of several values for one place the last one stands, hence backwards.
    owner[of_run[::-1]] = np.arange(len(of_run) - 1, -1, -1)
    length = runs.length[owner]
    if len(owner) != base_count or not (owner[1:] > owner[:-1]).all():
        corrupt("time bases are not numbered by first use")
    if (length[of_run] != runs.length).any():
        corrupt("runs of different length share a time base")
    own = Runs.lengths(runs.rank[owner], length)
    anchor = reader.narrow(base_count).view(np.int64) + np.int64(origin)
    mode = reader.below(base_count, 2, "time mode")
    residual = _escaped(reader, own.total)
    period = scales.period_ns[own.rank]
    base_of = np.arange(base_count).repeat(length)
    place = np.arange(own.total) - own.start[base_of]
    t = residual + anchor[base_of] + place * period[base_of] // step
    if mode.any():
        steps = residual + (period // step)[base_of]
        steps[own.start] = 0
        run = np.cumsum(steps)
        t = np.where(mode[base_of] == 1, run - run[own.start][base_of] + anchor[base_of], t)
    t *= step
    odd = reader.sparse(own.total)
    t[odd] += reader.below(len(odd), step, "time below a step")
    index = (own.start[of_run] - runs.start).repeat(runs.length) + np.arange(runs.total)
    column: I64 = t[index]
    return column


def _read_quality(reader: ColumnReader, count: int) -> NDArray[np.uint16]:
    changes = reader.sparse(count)
    codes = reader.below(len(changes), 1 << 16, "quality").astype(np.uint16)
    quality = np.zeros(count, np.uint16)
    if len(changes):
        quality[changes[0] :] = np.repeat(codes, np.diff(np.append(changes, count)))
    return quality


def _escaped(reader: ColumnReader, count: int) -> I64:
    """A plane of zigzag bytes; those of 254 stand for 16 bits, those of 255 for 64 bits in the columns behind it."""
    plane = np.frombuffer(reader.take(count), np.uint8)
    values = plane.astype(np.uint64)
    for escape, width in ((_IN_16_BITS, 2), (_IN_64_BITS, 8)):
        large = (plane == escape).nonzero()[0]
        values[large] = reader.wide(len(large), width)
    return unzigzag(values)
