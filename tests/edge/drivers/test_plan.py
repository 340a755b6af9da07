"""Block reads: few, whole, and never where they must not go."""

from __future__ import annotations

import itertools
from functools import lru_cache

from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.plan import Span, plan_reads


@st.composite
def apart(draw):
    """Spans that do not overlap, as (start, count)."""
    spans, at = [], 0
    for _ in range(draw(st.integers(1, 9))):
        at += draw(st.integers(0, 5))
        count = draw(st.integers(1, 4))
        spans.append((at, count))
        at += count
    return spans


def fewest(spans, max_read, bridge):
    """Brute force over all ways to cut the sorted spans into runs."""

    @lru_cache
    def best(first):
        if first == len(spans):
            return 0
        results = []
        for last in range(first, len(spans)):
            run = spans[first : last + 1]
            whole = run[-1][0] + run[-1][1] - run[0][0] <= max_read
            near = all(b[0] - (a[0] + a[1]) <= bridge for a, b in itertools.pairwise(run))
            if whole and near:
                results.append(1 + best(last + 1))
        return min(results)

    return best(0)


@given(apart(), st.integers(4, 16), st.integers(0, 6))
def test_plan_needs_no_more_reads_than_brute_force(spans, max_read, bridge):
    reads = plan_reads([Span("holding", s, c, f"p{s}") for s, c in spans], max_read=max_read, bridge=bridge)
    assert len(reads) == fewest(tuple(spans), max_read, bridge)


@given(
    st.lists(
        st.tuples(st.sampled_from(["coil", "holding", "input"]), st.integers(0, 60), st.integers(1, 4)),
        min_size=1,
        max_size=30,
    ),
    st.integers(4, 20),
    st.integers(0, 6),
)
def test_every_span_lies_whole_in_exactly_one_read_that_respects_its_limits(raw, max_read, bridge):
    spans = [Span(t, s, 1 if t == "coil" else c, f"p{i}") for i, (t, s, c) in enumerate(raw)]
    reads = plan_reads(spans, max_read=max_read, bridge=bridge)
    assert sorted(s.point for r in reads for s in r.spans) == sorted(s.point for s in spans)
    for read in reads:
        assert read.count <= (max_read * 16 if read.table == "coil" else max_read)
        used = {x for s in read.spans for x in range(s.start, s.end)}
        unused = run = 0
        for x in range(read.start, read.start + read.count):
            run = 0 if x in used else run + 1
            unused = max(unused, run)
        assert unused <= bridge
        for span in read.spans:
            assert span.table == read.table
            assert read.start <= span.start
            assert span.end <= read.start + read.count


def test_gaps_are_bridged_only_on_request():
    spans = [Span("holding", 0, 2, "a"), Span("holding", 4, 2, "b")]
    assert [(r.start, r.count) for r in plan_reads(spans, max_read=125)] == [(0, 2), (4, 2)]
    assert [(r.start, r.count) for r in plan_reads(spans, max_read=125, bridge=2)] == [(0, 6)]


def test_a_value_at_the_limit_goes_whole_into_the_next_read():
    spans = [Span("holding", i, 1, f"r{i}") for i in range(123)] + [Span("holding", 123, 4, "long")]
    assert [(r.start, r.count) for r in plan_reads(spans, max_read=125)] == [(0, 123), (123, 4)]
