"""Which samples of a full disk are worth keeping: a pure choice over the samples of neighbouring blocks.

    level  of each signal and minute   a change of quality, of a switch or a text   innovation beyond
    1      its least and greatest      kept                                         3 sigma
    2      its first                   kept                                         6 sigma
    3      its first

So the whole of an outage keeps at least one point a minute of every signal. Where a model was surprised, all that the
twin says of that output at that moment is kept, and the measurement it was compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind

Mask = NDArray[np.bool_]
Places = NDArray[np.intp]

LEVELS = (1, 2, 3)
SIGMAS: Mapping[int, float] = {1: 3.0, 2: 6.0}
MINUTE_NS = 60 * SECOND_NS
# Median of the absolute values of a normal distribution, in units of its sigma.
_MEDIAN_PER_SIGMA = 0.6745


def kept_of(blocks: Sequence[Sequence[Batch]], catalogue: Catalogue, level: int) -> list[Mask]:
    """Chooses among the samples of blocks that follow each other in time.

    Args:
        blocks: batches of each block, in canonical order.
        catalogue: what the signal ids of all of them refer to.
        level: one of `LEVELS`.

    Returns:
        For each block a mask over its samples, shape (samples,).
    """
    batches = [batch for block in blocks for batch in block]
    signal = np.concatenate([batch.signal for batch in batches])
    t_ns = np.concatenate([batch.t_ns for batch in batches])
    quality = np.concatenate([batch.quality for batch in batches])
    value, word = _values(batches)
    order = np.argsort(signal, kind="stable")
    keep = _of_minutes(signal[order], t_ns[order], value[order], level)
    if level in SIGMAS:
        keep |= _changes(signal[order], quality[order], word[order])
        keep |= _surprises(signal[order], t_ns[order], value[order], catalogue, SIGMAS[level])
    mask = np.zeros(len(signal), np.bool_)
    mask[order] = keep
    ends = np.cumsum([sum(map(len, block)) for block in blocks])
    return np.split(mask, ends[:-1])


def _values(batches: Sequence[Batch]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Numbers to compare, 0 where there is none, and a code per switch position or text, 0 for numbers."""
    values, words = [], []
    codes: dict[object, int] = {}
    for batch in batches:
        count = len(batch)
        if batch.kind in {Kind.FLOAT, Kind.INT}:
            values.append(batch.value.astype(np.float64))
            words.append(np.zeros(count, np.int64))
        else:
            texts: list[Any] = batch.value.tolist()
            values.append(np.zeros(count))
            words.append(np.array([codes.setdefault(text, len(codes)) for text in texts], np.int64))
    return np.concatenate(values), np.concatenate(words)


def _of_minutes(signal: NDArray[np.uint32], t_ns: NDArray[np.int64], value: NDArray[np.float64], level: int) -> Mask:
    """What stands for each minute of each signal; rows are sorted by signal."""
    minute = t_ns // MINUTE_NS
    starts = np.ones(len(signal), np.bool_)
    starts[1:] = (signal[1:] != signal[:-1]) | (minute[1:] != minute[:-1])
    if level > 1:
        return starts
    first = starts.nonzero()[0]
    group = starts.cumsum() - 1
    keep = np.zeros(len(signal), np.bool_)
    lacking = np.isnan(value)
    for extreme, neutral in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        column = np.where(lacking, neutral, value)
        candidates = (column == extreme.reduceat(column, first)[group]).nonzero()[0]
        # The first row that has the extreme, one per group.
        keep[candidates[np.unique(group[candidates], return_index=True)[1]]] = True
    return keep


def _changes(signal: NDArray[np.uint32], quality: NDArray[np.uint16], word: NDArray[np.int64]) -> Mask:
    changed = np.zeros(len(signal), np.bool_)
    same = signal[1:] == signal[:-1]
    changed[1:] = same & ((quality[1:] != quality[:-1]) | (word[1:] != word[:-1]))
    # The block before is not in sight: a signal that begins bad may have become so here.
    begins = np.append(True, ~same)
    changed |= begins & (quality != 0)
    return changed


def _surprises(
    signal: NDArray[np.uint32],
    t_ns: NDArray[np.int64],
    value: NDArray[np.float64],
    catalogue: Catalogue,
    sigmas: float,
) -> Mask:
    """Samples around innovations beyond so many of their own standard deviations."""
    keep = np.zeros(len(signal), np.bool_)
    present = np.unique(signal)
    first, end = np.searchsorted(signal, present), np.searchsorted(signal, present, "right")
    spans = {one: slice(*span) for one, *span in zip(present.tolist(), first.tolist(), end.tolist(), strict=True)}
    for innovation, related in _related(catalogue).items():
        if innovation not in spans:
            continue
        span = spans[innovation]
        size = np.abs(np.nan_to_num(value[span]))
        high = size > sigmas * np.median(size) / _MEDIAN_PER_SIGMA
        if not high.any():
            continue
        keep[span] |= high
        for other in related:
            if other in spans:
                at = spans[other]
                # The newest sample at that moment or before it; times of one signal may stand out of order.
                by_time = np.argsort(t_ns[at], kind="stable")
                place = np.searchsorted(t_ns[at][by_time], t_ns[span][high], "right") - 1
                keep[at.start + by_time[place[place >= 0]]] = True
    return keep


def _related(catalogue: Catalogue) -> dict[int, list[int]]:
    """Id of each innovation -> ids of what its output has at the same moment."""
    found = {}
    for twin in catalogue.twins:
        for output in twin.outputs:
            names = [f"{twin.twin}/{output}#{role}" for role in OUTPUT_ROLES] + [twin.properties.get(output, "")]
            ids = {name: catalogue.by_name[name].id for name in names if name in catalogue.by_name}
            innovation = ids.pop(f"{twin.twin}/{output}#innovation", None)
            if innovation is not None:
                found[innovation] = list(ids.values())
    return found
