"""Frames on the grid: closing by event time, lateness, staleness, silence, and no dependence on order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel import align
from twinmodel.align import Aligner, AlignInput
from twinmodel.quality import QualityReason, bad, good, uncertain
from twinmodel.signal import Batch, Kind

S = 10**9
STALE, ABSENT, CLOCK = bad(QualityReason.STALE), bad(QualityReason.ABSENT), bad(QualityReason.CLOCK)


def batch(*samples, kind=Kind.FLOAT):
    """Samples (signal, value, seconds[, quality])."""
    rows = [(*s, 0)[:4] for s in samples]
    return Batch.of(kind, *([r[i] for r in rows] for i in (0, 1, 3)), [round(r[2] * S) for r in rows])


def two(lateness_s=1.0, how="hold", age_s=10):
    return Aligner(S, [AlignInput(7, how, age_s * S), AlignInput(9, "hold", age_s * S)], round(lateness_s * S))


def shown(frames):
    return [(f.t_ns // S, *f.values.tolist()) for f in frames]


def test_a_tick_closes_when_every_input_has_a_sample_at_or_after_it():
    a = two()
    a.push(batch((7, 1.0, 0.4), (9, 2.0, 0.5)))
    assert a.close(0) == []
    a.push(batch((7, 3.0, 1.0)))
    assert a.close(0) == []
    a.push(batch((9, 4.0, 1.2)))
    (frame,) = a.close(0)
    assert (frame.t_ns, frame.values.tolist(), frame.quality.tolist()) == (S, [3.0, 2.0], [0, 0])
    assert frame.cut_off_ns == S


def test_a_tick_closes_when_the_watermark_has_passed_it_by_the_lateness():
    a = two(lateness_s=2)
    a.push(batch((7, 1.0, 0.5), (9, 2.0, 0.5)))
    assert a.close(3 * S - 1) == []
    assert shown(a.close(3 * S)) == [(1, 1.0, 2.0)]
    assert shown(a.close(5 * S)) == [(2, 1.0, 2.0), (3, 1.0, 2.0)]


def test_a_sample_for_a_closed_tick_is_late_and_not_used():
    a = two()
    a.push(batch((7, 1.0, 1.0), (9, 2.0, 1.0)))
    a.close(3 * S)
    assert a.push(batch((7, 9.0, 1.5), (7, 9.0, 2.0), (9, 5.0, 2.5))) == 2
    assert a.late == 2
    assert shown(a.close(4 * S)) == [(3, 1.0, 5.0)]


def test_an_input_that_never_came_is_absent_and_an_old_one_stale():
    a = two(age_s=2)
    a.push(batch((7, 1.0, 1.0)))
    frames = a.close(6 * S)
    assert [f.quality.tolist() for f in frames] == [[0, ABSENT]] * 3 + [[STALE, ABSENT]] * 2
    assert np.isnan(frames[-1].values).all()


def test_bad_samples_are_missing_with_their_own_code_and_uncertain_ones_pass():
    fault, doubt = bad(QualityReason.DEVICE_FAULT), uncertain(QualityReason.RATE)
    a = two()
    a.push(batch((7, 1.0, 1.0), (9, 2.0, 1.0, doubt), (7, 3.0, 1.5, fault)))
    frames = a.close(3 * S)
    assert [f.quality.tolist() for f in frames] == [[0, doubt], [fault, doubt]]
    assert np.isnan(frames[1].values[0])
    assert frames[1].values[1] == 2.0


def test_ticks_begin_with_the_first_usable_sample():
    a = two()
    a.push(batch((7, np.nan, 1.0), (9, 2.0, 2.0, bad(QualityReason.SPIKE))))
    assert a.close(100 * S) == []
    a.push(batch((7, 5.0, 200.3)))
    assert shown(a.close(202 * S))[0][:2] == (201, 5.0)


def test_linear_inputs_are_interpolated_between_near_samples_only():
    a = two(how="linear", age_s=3)
    a.push(batch((7, 1.0, 0.5), (7, 3.0, 2.5), (7, 9.0, 8.5), (9, 0.0, 1.0), (9, 0.0, 8.5)))
    frames = a.close(0)
    values = [f.values[0] for f in frames]
    assert values[:2] == [1.5, 2.5]
    assert values[2] == 3.0
    assert np.isnan(values[5])
    assert frames[0].cut_off_ns == round(2.5 * S)


def test_a_bad_neighbour_is_not_interpolated_to():
    a = two(how="linear")
    a.push(batch((7, 1.0, 0.5), (7, 3.0, 1.5, bad(QualityReason.SPIKE)), (9, 0.0, 2.0)))
    assert a.close(2 * S)[0].values[0] == 1.0


def test_integers_and_booleans_become_floats_and_text_is_unreadable():
    a = two()
    a.push(batch((7, 3, 1.0), kind=Kind.INT))
    a.push(batch((9, True, 1.0), kind=Kind.BOOL))
    assert shown(a.close(0)) == [(1, 3.0, 1.0)]
    a.push(batch((7, "on", 2.0), (9, "off", 2.0), kind=Kind.STRING))
    assert a.close(0)[0].quality.tolist() == [bad(QualityReason.DECODE)] * 2


def test_samples_of_other_signals_and_of_broken_clocks_are_passed_over():
    a = two()
    assert a.push(batch((1, 3.0, 1.0))) == 0
    a.push(batch((7, 1.0, 1.0), (9, 1.0, 1.0), (7, 9.0, 4e9, CLOCK), (9, 9.0, 4e9, CLOCK)))
    assert shown(a.close(2 * S)) == [(1, 1.0, 1.0)]
    assert a.push(batch((7, 2.0, 2.0))) == 0


def test_a_long_silence_is_skipped_with_a_count_and_not_filled_with_frames():
    a = two()
    a.push(batch((7, 1.0, 1.0), (9, 2.0, 1.0)))
    frames = a.close(10**6 * S)
    assert len(frames) <= align.SILENT_MAX + 3
    assert frames[-1].t_ns == (10**6 - 1) * S
    assert a.skipped + len(frames) == 10**6 - 1
    a.push(batch((7, 5.0, 10**6 + 0.5)))
    assert shown(a.close((10**6 + 2) * S))[-1][:2] == (10**6 + 1, 5.0)


def test_after_a_silence_no_tick_with_samples_is_skipped():
    a = two()
    a.push(batch((7, 1.0, 1.0), (9, 1.0, 1.0), (7, 2.0, 50_000.5), (9, 2.0, 50_001.0)))
    frames = a.close(0)
    assert frames[-1].t_ns == 50_000 * S
    assert shown(a.close(50_003 * S))[0] == (50_001, 2.0, 2.0)


def test_silent_inputs_still_give_one_frame_a_tick():
    a = two()
    a.push(batch((7, 1.0, 1.0), (9, 2.0, 1.0)))
    count = sum(len(a.close(second * S)) for second in range(2, 3000))
    assert count == 2998
    assert a.skipped == 0


def test_a_backlog_comes_in_portions():
    a = Aligner(S, [AlignInput(7, "hold", 0)], 0)
    n = 15_000
    a.push(Batch.of(Kind.FLOAT, [7] * n, range(n), [0] * n, [i * S for i in range(n)]))
    sizes = [len(a.close(0)) for _ in range(3)]
    assert sizes == [align.FRAMES_MAX, n - align.FRAMES_MAX, 0]


def test_a_full_buffer_gives_up_the_oldest_and_counts_them():
    a = Aligner(S, [AlignInput(7, "hold", 0), AlignInput(9, "hold", 0)], 10**18)
    n = align.SAMPLES_MAX
    for part in range(3):
        a.push(Batch.of(Kind.FLOAT, [7] * n, [1.0] * n, [0] * n, [part * n + i for i in range(n)]))
    assert a.dropped == 2 * n
    assert len(a._lanes[7].t) == n


def test_an_aligner_needs_sensible_settings():
    for dt, inputs, lateness in ((0, [AlignInput(1, "hold", 0)], 0), (S, [], 0), (S, [AlignInput(1, "hold", 0)], -1)):
        with pytest.raises(ValueError, match="needs"):
            Aligner(dt, inputs, lateness)


_SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([7, 9, 4]), st.floats(-10, 10), st.integers(0, 80).map(lambda t: t / 4),
        st.sampled_from([0, 0, 0, good(QualityReason.BACKFILLED), bad(QualityReason.SPIKE)]),
    ), min_size=1, max_size=40,
)  # fmt: skip


@given(_SAMPLES, st.randoms(use_true_random=False), st.sampled_from(["hold", "linear"]))
def test_the_order_of_arrival_before_a_close_changes_nothing(samples, random, how):
    def frames(order, cuts):
        a = two(how=how, age_s=3)
        for first, last in zip(cuts, [*cuts[1:], None], strict=True):
            if order[first:last]:
                a.push(batch(*order[first:last]))
        return a.close(25 * S)

    shuffled = samples.copy()
    random.shuffle(shuffled)
    one, other = frames(samples, [0]), frames(shuffled, [0, len(samples) // 2])
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.t_ns, a.cut_off_ns) == (b.t_ns, b.cut_off_ns)
        assert a.values.tobytes() == b.values.tobytes()
        assert a.quality.tolist() == b.quality.tolist()


@given(_SAMPLES, st.lists(st.integers(0, 25), min_size=1, max_size=6))
def test_frames_are_every_tick_in_order_and_bad_where_they_hold_nothing(samples, marks):
    a = two(age_s=3)
    seen = []
    for i, mark in enumerate(marks):
        part = samples[i :: len(marks)]
        if part:
            a.push(batch(*part))
        seen += a.close(mark * S)
    times = [f.t_ns for f in seen]
    assert times == list(range(times[0], times[-1] + 1, S)) if times else True
    for frame in seen:
        assert (np.isnan(frame.values) == (frame.quality >= 0x200)).all()
        assert frame.values.dtype == np.float64
        assert frame.quality.dtype == np.uint16
