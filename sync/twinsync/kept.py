"""Which sequence numbers of a thinned block were kept: a bitmap over its range, deflated.

A thinned block keeps the range it was given. Its payload holds the samples that were kept, in canonical order; the
n-th of them has the number of the n-th set bit. Bit 0 is the first number of the range, the lowest bit of byte 0.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import InputError
from twinsync.item import Block, Item

Mask = NDArray[np.bool_]
_LEVEL = 6


def pack_kept(mask: Mask) -> bytes:
    """The bytes of a mask over the numbers of a block, shape (count,)."""
    return zlib.compress(np.packbits(mask, bitorder="little").tobytes(), _LEVEL)


def unpack_kept(packed: bytes, count: int) -> Mask:
    """The mask over `count` numbers; at least one is kept, at least one is not.

    Memory is bounded by `count`, whatever the bytes claim.

    Raises:
        InputError: BLOCK_CORRUPT when the bytes are no such mask.
    """
    size = (count + 7) // 8
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(packed, size + 1)
    except zlib.error as error:
        raise InputError("BLOCK_CORRUPT", f"mask of a thinned block: {error}") from error
    if len(raw) != size or not inflate.eof or inflate.unused_data:
        raise InputError("BLOCK_CORRUPT", f"mask of a thinned block: not {size} bytes")
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little").astype(np.bool_)
    if bits[count:].any() or not bits.any() or bits[:count].all():
        raise InputError("BLOCK_CORRUPT", f"mask of a thinned block: does not keep a part of {count} numbers")
    return bits[:count]


def samples_of(item: Item) -> int:
    """How many samples the item's payload should hold; raises InputError BLOCK_CORRUPT for a mask that is none."""
    if not isinstance(item.content, Block):
        return 0
    return int(unpack_kept(item.content.kept, item.count).sum()) if item.content.kept else item.count


def numbers_of(item: Item) -> NDArray[np.int64]:
    """Sequence numbers of the samples of a block, in the order its payload decodes to, shape (samples,)."""
    numbers = np.arange(item.first_seq, item.last_seq + 1)
    kept = item.content.kept if isinstance(item.content, Block) else b""
    return numbers[unpack_kept(kept, item.count)] if kept else numbers
