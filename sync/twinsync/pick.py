"""Reads the samples of a few signals out of a block, and passes over all others; the same bits as a full decode.

    head | runs, bases | times: of the signal's base | values: of its run | floats as they are: of its run | qualities
                         ╰────────────────────── one slice of each column ──────────────────────╯

Nothing but the compression is undone for signals that are not asked for. Blocks of version 1, and strings, are decoded
whole and cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import Batch, Catalogue, Kind
from twinsync import block, limits
from twinsync.columns import I64, ColumnReader, corrupt
from twinsync.frame import opened
from twinsync.layout import Layout, Spot, read_layout
from twinsync.scales import Scales, scales_of
from twinsync.times import ANCHORED, BELOW_STEP, ON_CHANGE
from twinsync.times import LOW_BITS as TIME_BITS
from twinsync.values import LOW_BITS as VALUE_BITS
from twinsync.values import PLAIN_FLOATS


class Picked(NamedTuple):
    """The samples of one signal of a block.

    Attributes:
        signal: its id.
        first: place of the first of them in the block; the others follow, so its sequence number is the block's plus
            this.
        batch: the samples.
    """

    signal: int
    first: int
    batch: Batch


def pick(
    payload: bytes, catalogue: Catalogue, signals: Iterable[int], *, count_max: int = limits.BLOCK_SAMPLES_MAX
) -> list[Picked]:
    """The samples of some signals, in the order of the ids given; signals that the block has not are left out.

    Raises:
        InputError: BLOCK_CORRUPT, BLOCK_UNSUPPORTED; what is not asked for is not checked.
    """
    version, count, raw = opened(payload, catalogue.digest, count_max)
    known = len(catalogue)
    wanted = [signal for signal in dict.fromkeys(signals) if 0 <= signal < known]
    if version == 1 or any(catalogue.signals[signal].kind is Kind.STRING for signal in wanted):
        return _cut(block.decode(payload, catalogue, count_max=count_max), wanted)
    scales = scales_of(catalogue)
    reader = ColumnReader(raw)
    run_count, form = block.read_head(reader, count)
    layout = read_layout(reader, run_count, count, scales)
    spots = {signal: spot for signal in wanted if (spot := _spot(layout, scales, signal)) is not None}
    if not spots:
        return []
    times = _times(reader, form, layout, scales, set(spots.values()))
    values = _values(reader, form, layout, scales, spots.values())
    changes = None
    if form & block.QUALITIES:
        _skip_words(reader, layout)
        changes = block.read_quality_changes(reader, count)
    found = []
    for signal, spot in spots.items():
        quality = layout.good[spot.start : spot.end] if changes is None else _quality(*changes, spot)
        kind = catalogue.signals[signal].kind
        same = np.full(spot.end - spot.start, signal, np.uint32)
        found.append(Picked(signal, spot.start, Batch(kind, same, values[spot], quality, times[spot])))
    return found


def _cut(batches: list[Batch], wanted: list[int]) -> list[Picked]:
    found = {}
    before = 0
    for batch in batches:
        for signal in wanted:
            # Sorted by signal: its samples stand together.
            start, end = batch.signal.searchsorted([signal, signal + 1]).tolist()
            if end > start:
                found[signal] = Picked(signal, before + start, batch.take(np.arange(start, end)))
        before += len(batch)
    return [found[signal] for signal in wanted if signal in found]


def _spot(layout: Layout, scales: Scales, signal: int) -> Spot | None:
    """Where a signal's run stands, None when the block has none; looked up once for all blocks of a layout."""
    spots: dict[int, Spot | None] = layout.spots
    if signal in spots:
        return spots[signal]
    rank = int(scales.ranks[signal])
    runs, bases = layout.runs, layout.bases
    run = int(runs.rank.searchsorted(rank))
    spot = None
    if run < runs.count and int(runs.rank[run]) == rank:
        start, base = int(runs.start[run]), int(bases.of_run[run])
        length = int(runs.length[run])
        base_start = int(bases.runs.start[base])
        spot = Spot(rank, run, start, start + length, base, base_start, base_start + length)
    spots[signal] = spot
    return spot


def _times(reader: ColumnReader, form: int, layout: Layout, scales: Scales, spots: set[Spot]) -> dict[Spot, I64]:
    own, step = layout.bases.runs, scales.time_step_ns
    origin = int.from_bytes(reader.take(8), "little", signed=True)
    anchors = reader.slices(own.count)
    modes = reader.slices(own.count) if form & ON_CHANGE else None
    residuals = reader.signed_slices(own.total)
    odd = below = None
    if form & BELOW_STEP:
        odd = reader.sparse(own.total)
        below = reader.below(len(odd), step, "time below a step")
    found = {}
    for spot in spots:
        residual = residuals.of(spot.base_start, spot.base_end)
        anchor = anchors.of(spot.base, spot.base + 1)
        if form & ANCHORED:
            anchor = (anchor << TIME_BITS) + residual[:1]
            residual[0] = 0
        anchor += np.int64(origin)
        if modes is not None and modes.of(spot.base, spot.base + 1)[0]:
            residual += scales.period_steps[own.rank[spot.base]]
            residual[0] = 0
            t_ns = residual.cumsum()
        else:
            residual += layout.grid[spot.base_start : spot.base_end]
            t_ns = residual
        t_ns += anchor
        t_ns *= step
        if odd is not None and below is not None:
            low, high = odd.searchsorted((spot.base_start, spot.base_end)).tolist()
            t_ns[odd[low:high] - spot.base_start] += below[low:high]
        found[spot] = t_ns
    return found


def _values(
    reader: ColumnReader, form: int, layout: Layout, scales: Scales, spots: Iterable[Spot]
) -> dict[Spot, NDArray[np.generic]]:
    runs = layout.runs
    firsts = reader.slices(runs.count, signed=True)
    steps = reader.signed_slices(runs.total)
    floats = layout.spans[0][1].stop if layout.spans[0][0] is Kind.FLOAT else 0
    odd = bits = None
    if form & PLAIN_FLOATS and floats:
        odd = reader.sparse(floats)
        bits = np.bitwise_xor.accumulate(reader.narrow(len(odd)))
    found: dict[Spot, NDArray[np.generic]] = {}
    for spot in spots:
        code = steps.of(spot.start, spot.end)
        code[:1] += firsts.of(spot.run, spot.run + 1) << VALUE_BITS
        code = code.cumsum()
        if spot.start < floats:
            value = code.astype(np.float64)
            if scales.scales_up:
                value *= scales.up[spot.rank]
            if scales.scales_down:
                value /= scales.down[spot.rank]
            if odd is not None and bits is not None:
                low, high = odd.searchsorted((spot.start, spot.end)).tolist()
                value.view(np.uint64)[odd[low:high] - spot.start] = bits[low:high]
            found[spot] = value
        elif scales.kind[spot.rank] == Kind.BOOL:
            truth = code.astype(np.bool_)
            if np.count_nonzero(truth != code):
                corrupt("a bool that is neither 0 nor 1")
            found[spot] = truth
        else:
            found[spot] = code
    return found


def _skip_words(reader: ColumnReader, layout: Layout) -> None:
    if layout.spans[-1][0] is not Kind.STRING:
        return
    count = int.from_bytes(reader.take(4), "little")
    if not 1 <= count <= layout.runs.total:
        corrupt(f"{count} words for {layout.runs.total} samples")
    reader.take(int(reader.below(count, limits.BLOCK_RAW_BYTES_MAX, "length of a word").sum()))


def _quality(changes: I64, codes: NDArray[np.uint16], spot: Spot) -> NDArray[np.uint16]:
    """The code of the last change at or before each sample, 0 before the first one."""
    last = changes.searchsorted(np.arange(spot.start, spot.end), side="right")
    return np.concatenate([np.zeros(1, np.uint16), codes])[last]
