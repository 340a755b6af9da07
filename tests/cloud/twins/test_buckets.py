"""Buckets say what plain sums over their samples say."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twincloud.twins.buckets import MINUTE_NS, WIDTHS_NS, minutes_of, quality_of, widened
from twincloud.twins.history import Columns
from twinmodel.quality import QualityClass, QualityReason, bad, class_of, uncertain

CODES = (0, uncertain(QualityReason.STALE), bad(QualityReason.ABSENT))
SAMPLES = st.lists(
    st.tuples(st.integers(0, 5 * 3600), st.one_of(st.just(math.nan), st.floats(-1e6, 1e6)), st.sampled_from(CODES)),
    min_size=1, max_size=60,
)  # fmt: skip


@given(SAMPLES)
def test_each_bucket_is_that_of_its_samples(rows):
    rows.sort(key=lambda row: row[0])
    t_s, value, quality = zip(*rows, strict=True)
    columns = Columns(np.array(t_s, np.int64) * 10**9, np.array(value), np.array(quality, np.uint16))
    for width_ns in WIDTHS_NS.values():
        found = widened(minutes_of(columns), width_ns)
        starts = sorted({t * 10**9 // width_ns * width_ns for t in t_s})
        assert found.start_ns.tolist() == starts
        for n, start in enumerate(starts):
            inside = [row for row in rows if start <= row[0] * 10**9 < start + width_ns]
            usable = [v for _, v, q in inside if class_of(q) is not QualityClass.BAD and not math.isnan(v)]
            assert (found.count[n], found.usable[n]) == (len(inside), len(usable))
            assert found.bad[n] == sum(class_of(q) is QualityClass.BAD for _, _, q in inside)
            assert class_of(int(quality_of(found.worst)[n])) == max(class_of(q) for _, _, q in inside)
            if usable:
                assert (found.low[n], found.high[n], found.last[n]) == (min(usable), max(usable), usable[-1])
                assert math.isclose(found.mean[n], math.fsum(usable) / len(usable), rel_tol=1e-9, abs_tol=1e-6)
            else:
                assert math.isnan(found.mean[n])


def test_texts_have_counts_alone():
    found = minutes_of(Columns(np.array([1, 2, MINUTE_NS]), np.array(["a", "b", "c"], object), np.zeros(3, np.uint16)))
    assert (found.count.tolist(), found.usable.tolist()) == ([2, 1], [0, 0])
