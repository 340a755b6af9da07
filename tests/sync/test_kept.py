"""A thinned block says which of its numbers it kept; a mask that is none is refused within bounded memory."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.errors import InputError
from twinmodel.signal import Stream
from twinsync import limits
from twinsync.convert import item_from_proto, item_to_proto
from twinsync.item import Block, Gap, Item
from twinsync.kept import numbers_of, pack_kept, samples_of, unpack_kept

MASKS = st.lists(st.booleans(), min_size=2, max_size=300).filter(lambda m: any(m) and not all(m))


def item(mask, first_seq=7):
    kept = pack_kept(np.array(mask, np.bool_)) if mask else b""
    block = Block(bytes(32), 1, b"payload", 5, 6, kept)
    return Item(bytes(16), Stream.TELEMETRY, first_seq, first_seq + (len(mask) or 10) - 1, block)


@given(MASKS)
def test_mask_comes_back_over_the_wire_and_gives_each_kept_sample_its_number(mask):
    back = item_from_proto(item_to_proto(item(mask)))
    assert back == item(mask)
    assert unpack_kept(back.content.kept, len(mask)).tolist() == mask
    assert numbers_of(back).tolist() == [7 + place for place, kept in enumerate(mask) if kept]
    assert samples_of(back) == sum(mask)


def test_whole_block_and_gap_need_no_mask():
    assert samples_of(item([])) == len(numbers_of(item([]))) == 10
    assert samples_of(Item(bytes(16), Stream.BULK, 0, 9, Gap("STORE_FULL", 10, 0, 0))) == 0


@given(st.binary(max_size=60), st.integers(1, 1000))
def test_bytes_of_a_stranger_are_a_mask_or_refused(raw, count):
    try:
        mask = unpack_kept(raw, count)
    except InputError as error:
        found = error.reason
    else:
        found = int(mask.sum())
    assert found == "BLOCK_CORRUPT" or 0 < found < count


@pytest.mark.parametrize(
    "packed",
    [
        zlib.compress(bytes(1 << 24), 9),
        zlib.compress(b"\xff\xff"),
        zlib.compress(b"\xff\x7f"),
        zlib.compress(b"\0\0"),
        zlib.compress(b"\x01"),
        pack_kept(np.arange(15) == 3) + b"more",
        pack_kept(np.arange(15) == 3)[:-1],
    ],
    ids=["bomb", "beyond the count", "all kept", "none kept", "short", "trailing bytes", "cut"],
)
def test_mask_that_does_not_keep_a_part_is_refused(packed):
    with pytest.raises(InputError, match="mask of a thinned block"):
        unpack_kept(packed, 15)


def test_mask_beyond_the_bound_is_a_violation_before_it_is_looked_into():
    message = item_to_proto(item([True, False]))
    message.block.kept = bytes(limits.KEPT_BYTES_MAX + 1)
    with pytest.raises(InputError, match=r"PROTOCOL_VIOLATION: block\.kept"):
        item_from_proto(message)
