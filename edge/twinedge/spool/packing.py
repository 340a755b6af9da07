"""Samples into blocks that fit: halved until each does, and a sample that fits nowhere is declared."""

from __future__ import annotations

from collections.abc import Sequence

from twinmodel.errors import InputError
from twinmodel.signal import Batch, Catalogue, concat
from twinsync.block import encode
from twinsync.item import Block, Gap

Packed = tuple[int, Block | Gap]
"""How many samples, and what they became."""


def pack(batches: Sequence[Batch], catalogue: Catalogue) -> list[Packed]:
    """Packs samples into as few blocks as the bounds of a block allow.

    One sample too large for any block becomes a gap LIMIT_EXCEEDED over its number.

    Raises:
        InputError: VALUE_INVALID when a sample does not fit the catalogue.
    """
    count = sum(map(len, batches))
    if not count:
        return []
    try:
        packed = encode(batches, catalogue)
    except InputError as error:
        if error.reason != "LIMIT_EXCEEDED":
            raise
        if count == 1:
            t_ns = int(next(b for b in batches if len(b)).t_ns[0])
            return [(1, Gap("LIMIT_EXCEEDED", 1, t_ns, t_ns))]
        first, second = _halves(concat(batches), count // 2)
        return pack(first, catalogue) + pack(second, catalogue)
    return [(count, Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns))]


def _halves(batches: list[Batch], middle: int) -> tuple[list[Batch], list[Batch]]:
    first: list[Batch] = []
    second: list[Batch] = []
    for batch in batches:
        cut = min(max(middle, 0), len(batch))
        first.append(_cut(batch, slice(0, cut)))
        second.append(_cut(batch, slice(cut, None)))
        middle -= cut
    return first, second


def _cut(batch: Batch, span: slice) -> Batch:
    return Batch(batch.kind, batch.signal[span], batch.value[span], batch.quality[span], batch.t_ns[span])
