"""The times of a block: those of the bases its runs share, as residuals to the nominal grid of each base."""

from __future__ import annotations

import numpy as np

from twinsync.bases import Bases
from twinsync.columns import I64, ColumnReader, ColumnWriter, beyond, differences
from twinsync.layout import Layout
from twinsync.runs import Runs
from twinsync.scales import Scales

# Shorter bases are anchored at their first time instead of their mean: its low bits then take the place of a residual.
_CENTRED_FROM = 4
LOW_BITS = 7
_LOW_HALF = 1 << (LOW_BITS - 1)

ANCHORED, ON_CHANGE, BELOW_STEP = 1, 2, 4
"""Forms the times of a block can take, bits of its head: see `write_times`."""


def write_times(writer: ColumnWriter, bases: Bases, scales: Scales) -> int:
    """Appends the times of all bases; returns the forms it took.

    A time is its distance to the nominal grid of its base, whose anchor is chosen for small distances (ANCHORED: is the
    first time). Where samples are missing or come on change, it is the distance to the time before it (ON_CHANGE says
    that there is such a base). What is left below a step of the catalogue follows as exceptions (BELOW_STEP).
    """
    runs, step = bases.runs, scales.time_step_ns
    t = bases.t_ns // step
    form = 0
    odd = (t * step != bases.t_ns).nonzero()[0]
    anchor = first = t.take(runs.start)
    residual = t - _grid(runs, first, scales)
    if runs.total < _CENTRED_FROM * runs.count:
        form |= ANCHORED
    else:
        centre = np.add.reduceat(residual, runs.start) // runs.length
        residual -= centre.repeat(runs.length)
        anchor = first + centre
    large = beyond(residual)
    fewer = None
    if np.count_nonzero(large):
        change = _changes(t, runs, scales)
        fewer = np.add.reduceat(beyond(change), runs.start, dtype=np.int64) < np.add.reduceat(
            large, runs.start, dtype=np.int64
        )
        if np.count_nonzero(fewer):
            form |= ON_CHANGE
            residual = np.where(fewer.repeat(runs.length), change, residual)
            anchor = np.where(fewer, first, anchor)
    origin = int(anchor[anchor.argmin()])
    anchor = anchor - origin
    if form & ANCHORED:
        high = (anchor + _LOW_HALF) >> LOW_BITS
        residual[runs.start] = anchor - (high << LOW_BITS)
        anchor = high
    writer.put(origin.to_bytes(8, "little", signed=True))
    writer.narrow(anchor.view(np.uint64))
    if fewer is not None and form & ON_CHANGE:
        writer.narrow(fewer.astype(np.uint64))
    writer.signed(residual)
    if len(odd):
        form |= BELOW_STEP
        writer.sparse(odd)
        writer.narrow((bases.t_ns - t * step)[odd].view(np.uint64))
    return form


def read_times(reader: ColumnReader, form: int, layout: Layout, scales: Scales) -> I64:
    """The times of all samples in canonical order, shape (n,)."""
    own, step = layout.bases.runs, scales.time_step_ns
    origin = int.from_bytes(reader.take(8), "little", signed=True)
    anchor = reader.narrow(own.count).view(np.int64)
    changed = reader.below(own.count, 2, "time mode") if form & ON_CHANGE else None
    residual = reader.signed(own.total)
    if form & ANCHORED:
        anchor = (anchor << LOW_BITS) + residual.take(own.start)
        residual[own.start] = 0
    anchor += np.int64(origin)
    every = anchor if own.count in (1, own.total) else anchor.repeat(own.length)
    t = residual + every
    t += layout.grid
    if changed is not None:
        steps = residual + scales.period_steps[own.rank].repeat(own.length)
        steps[own.start] = 0
        along = steps.cumsum()
        along += (anchor - along[own.start]).repeat(own.length)
        t = np.where(changed.astype(np.bool_).repeat(own.length), along, t)
    t *= step
    if form & BELOW_STEP:
        odd = reader.sparse(own.total)
        t[odd] += reader.below(len(odd), step, "time below a step")
    if own is layout.runs:
        return t
    column: I64 = t.take(layout.place)
    return column


def _grid(runs: Runs, anchor: I64, scales: Scales) -> I64:
    """Nominal times of all samples, in steps: the anchor of their run and whole periods from there."""
    if runs.count == runs.total:
        return anchor
    if scales.whole_periods:
        period = scales.period_steps.take(runs.rank)
        place = np.arange(runs.total)
        place *= period.repeat(runs.length)
        place += (anchor - runs.start * period).repeat(runs.length)
        return place
    period = scales.period_ns.take(runs.rank)
    place = np.arange(runs.total) - runs.start.repeat(runs.length)
    return place * period.repeat(runs.length) // scales.time_step_ns + anchor.repeat(runs.length)


def _changes(t: I64, runs: Runs, scales: Scales) -> I64:
    steps = differences(t) - scales.period_steps[runs.rank].repeat(runs.length)
    steps[runs.start] = 0
    return steps
