"""The table of verdicts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twincloud.storage.dedupe import Verdict, judge, tail
from twinmodel.signal import Stream
from twinsync.item import Block, Gap, Item

BLOCK = Block(bytes(32), 0, b"x", 0, 0)


def item(first: int, last: int, *, gap: bool) -> Item:
    return Item(bytes(16), Stream.STATE, first, last, Gap("DROP", last - first + 1, 0, 0) if gap else BLOCK)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 45), st.booleans())
def test_every_number_is_taken_once_or_waits(first, more, next_seq, gap):
    one = item(first, first + more, gap=gap)
    verdict = judge(one, next_seq)
    if first + more < next_seq:
        assert verdict is Verdict.COVERED
    elif first > next_seq:
        assert verdict is Verdict.AHEAD
    elif first == next_seq or gap:
        assert verdict is Verdict.TAKE
        rest = tail(one, next_seq)
        assert (rest.first_seq, rest.last_seq) == (next_seq, first + more)
        assert not gap or rest.content.count == rest.count
    else:
        assert verdict is Verdict.OVERLAP
        assert tail(one, next_seq) is one
