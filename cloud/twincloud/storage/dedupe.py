"""What to do with an item, given the mark of its (boot, stream): a pure table; and whether its block fits its numbers.

    item [first, last] against next_seq        verdict
    last < next                                COVERED   acknowledged again, nothing else
    first > next                               AHEAD     nack(next), later items of that (boot, stream) wait
    first = next                               TAKE
    first < next <= last, a Gap                TAKE its tail: what is committed is not lost, the ledger stays exact
    first < next <= last, a block              OVERLAP   dead letter for [next, last], the stream advances

The last line never happens between honest parts: numbers are given once, in the transaction that stores the block,
and marks stand at the ends of items. It means that a disk gave numbers twice, so the block's samples must not be
mixed with those committed under the same numbers; a nack would have it sent again for ever. Its bytes are kept.
A Gap overlaps when a gateway drops blocks whose acknowledgement it has not heard yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from twincloud.storage.part import Bound
from twinmodel.errors import InputError
from twinmodel.signal import Batch
from twinsync.columns import largest
from twinsync.item import Gap, Item
from twinsync.kept import samples_of


class Verdict(Enum):
    """See the table above."""

    COVERED = "covered"
    AHEAD = "ahead"
    TAKE = "take"
    OVERLAP = "overlap"


def judge(item: Item, next_seq: int) -> Verdict:
    """The verdict for an item, `next_seq` being the first number not yet committed."""
    if item.last_seq < next_seq:
        return Verdict.COVERED
    if item.first_seq > next_seq:
        return Verdict.AHEAD
    if item.first_seq == next_seq or isinstance(item.content, Gap):
        return Verdict.TAKE
    return Verdict.OVERLAP


def tail(item: Item, next_seq: int) -> Item:
    """The part of a Gap that is not committed yet; the item itself when that is all of it."""
    if item.first_seq >= next_seq or not isinstance(item.content, Gap):
        return item
    count = item.last_seq - next_seq + 1
    return replace(item, first_seq=next_seq, content=replace(item.content, count=count))


def fault(item: Item, batches: Sequence[Batch] | None, bound: Bound | None) -> str:
    """Why a block cannot be taken, "" when it can."""
    if batches is None:
        return "BLOCK_CORRUPT"
    if bound is None:
        return "SCHEMA_UNKNOWN"
    try:
        if sum([len(batch.signal) for batch in batches]) != samples_of(item):
            return "BLOCK_CORRUPT"
    except InputError as error:
        return error.reason
    signals = len(bound.depth)
    return "BLOCK_CORRUPT" if any(largest(b.signal) >= signals for b in batches) else ""
