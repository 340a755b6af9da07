"""The gate stamps what looks wrong; it drops nothing and improves nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinedge.gate import Gate, Labels, Rules, rules_of
from twinmodel.clock import BUILD_NS, SECOND_NS, ManualClock
from twinmodel.quality import GOOD, QualityReason, bad, good, uncertain
from twinmodel.signal import Batch, Kind

NOW = ManualClock().wall_ns() + 60 * 86400 * 365 * SECOND_NS // 10
RANGE, RATE, SPIKE = QualityReason.OUT_OF_RANGE, QualityReason.RATE, QualityReason.SPIKE
DECODE, FROZEN = QualityReason.DECODE, QualityReason.FROZEN


def make(count=2, kind=Kind.FLOAT, **rules):
    made = Rules.none(count)
    for name, values in rules.items():
        getattr(made, name)[:] = values
    return Gate(made, ManualClock(NOW))


def batch(values, *, signal=0, step_s=1.0, start_s=0.0, quality=None, kind=Kind.FLOAT):
    n = len(values)
    times = [NOW - 1000 * SECOND_NS + round((start_s + i * step_s) * SECOND_NS) for i in range(n)]
    signals = signal if isinstance(signal, list) else [signal] * n
    return Batch.of(kind, signals, values, quality or [GOOD] * n, times)


def codes(result):
    return result.quality.tolist()


def test_range_is_uncertain_just_beyond_and_bad_far_beyond():
    gate = make(low=0, high=10)
    result = gate.apply(batch([0.0, 10.0, 10.5, -1.0, 11.1, -5.0, float("nan")]))
    assert codes(result) == [GOOD, GOOD, uncertain(RANGE), uncertain(RANGE), bad(RANGE), bad(RANGE), bad(DECODE)]
    assert gate.stamped == 5


def test_integers_are_checked_like_floats():
    assert codes(make(kind=Kind.INT, low=0, high=10).apply(batch([5, 50], kind=Kind.INT))) == [GOOD, bad(RANGE)]


def test_steps_faster_than_the_rate_are_uncertain_across_batches():
    gate = make(rate=1.0)
    assert codes(gate.apply(batch([0.0, 0.9]))) == [GOOD, GOOD]
    assert codes(gate.apply(batch([5.0, 5.5], start_s=2))) == [uncertain(RATE), GOOD]


def test_a_change_beyond_ten_times_the_rate_is_a_spike_and_its_return_is_none():
    assert codes(make(rate=1.0).apply(batch([1.0, 19.0, 1.2, 1.3]))) == [GOOD, bad(SPIKE), GOOD, GOOD]


def test_a_smaller_outlier_is_uncertain_and_its_return_is_good_in_whatever_batch():
    gate = make(rate=1.0)
    assert codes(gate.apply(batch([1.0, 9.0]))) == [GOOD, uncertain(RATE)]
    assert codes(gate.apply(batch([1.0, 1.1], start_s=2))) == [GOOD, GOOD]


def test_a_jump_back_to_somewhere_else_is_no_return():
    found = codes(make(rate=1.0).apply(batch([1.0, 9.0, 5.0, 5.1])))
    assert found == [GOOD, uncertain(RATE), uncertain(RATE), GOOD]


def test_of_outliers_in_a_row_each_is_told():
    found = codes(make(rate=1.0).apply(batch([1.0, 9.0, 1.0, 9.0, 1.0])))
    assert found == [GOOD, uncertain(RATE), GOOD, uncertain(RATE), GOOD]


def test_a_real_step_stays_at_its_new_level():
    assert codes(make(rate=1.0).apply(batch([1.0, 9.0, 9.1, 9.2]))) == [GOOD, uncertain(RATE), GOOD, GOOD]
    assert codes(make(rate=1.0).apply(batch([1.0, 90.0, 90.1]))) == [GOOD, bad(SPIKE), GOOD]


def test_what_is_no_number_is_bad_and_no_past_for_the_next():
    found = codes(make(rate=1.0).apply(batch([1.0, float("nan"), float("inf"), 1.5, 9.0])))
    assert found == [GOOD, bad(DECODE), bad(DECODE), GOOD, uncertain(RATE)]


def test_a_counter_may_stand_and_grow_and_its_reset_is_marked_once():
    gate = make(kind=Kind.INT, counter=True)
    assert codes(gate.apply(batch([5, 5, 9], kind=Kind.INT))) == [GOOD] * 3
    assert codes(gate.apply(batch([0, 3], kind=Kind.INT, start_s=3))) == [uncertain(RATE), GOOD]


def test_a_counter_wraps_where_the_profile_says_and_its_rate_is_judged_across():
    gate = make(counter=True, wraps=65536.0, rate=100.0)
    assert codes(gate.apply(batch([65500.0, 14.0, 300.0]))) == [GOOD, GOOD, uncertain(RATE)]
    # 536 counts in a second are too many for a wrap: it was a reset.
    assert codes(make(counter=True, wraps=65536.0, rate=100.0).apply(batch([65000.0, 0.0]))) == [GOOD, uncertain(RATE)]


def test_without_a_rate_a_counter_far_from_its_end_has_not_wrapped():
    gate = make(counter=True, wraps=65536.0)
    assert codes(gate.apply(batch([60000.0, 10.0, 40000.0, 10.0]))) == [GOOD, GOOD, GOOD, uncertain(RATE)]


def test_an_older_sample_is_no_reset_of_a_counter():
    gate = make(counter=True)
    gate.apply(batch([100.0], start_s=5))
    assert codes(gate.apply(batch([90.0], start_s=1))) == [GOOD]


def test_a_state_without_a_label_is_uncertain():
    labels = Labels.of([(0, {0: "off", 1: "on"}), (2, {1: "a", -7: "b", 1 << 40: "c"})])
    gate = Gate(Rules.none(3, labels), ManualClock(NOW))
    mixed = batch([0, 1, 2, -7, 1 << 40, 0, 99], signal=[0, 0, 0, 2, 2, 2, 1], kind=Kind.INT)
    doubt = uncertain(RANGE)
    assert codes(gate.apply(mixed)) == [GOOD, GOOD, doubt, GOOD, GOOD, doubt, GOOD]


def test_interleaved_signals_are_judged_each_by_its_own_past():
    gate = make(rate=1.0)
    mixed = batch([0.0, 100.0, 0.5, 100.5, 1.0, 101.0], signal=[0, 1, 0, 1, 0, 1], step_s=0.5)
    assert codes(gate.apply(mixed)) == [GOOD] * 6


def test_frozen_after_its_time_and_free_again_after_a_change():
    gate = make(frozen_ns=3 * SECOND_NS)
    frozen = uncertain(FROZEN)
    assert codes(gate.apply(batch([1.0, 1.0, 1.0]))) == [GOOD] * 3
    assert codes(gate.apply(batch([1.0, 1.0, 2.0, 2.0], start_s=3))) == [frozen, frozen, GOOD, GOOD]


def test_future_and_ancient_times_are_uncertain():
    gate = make()
    times = [NOW, NOW + 4 * SECOND_NS, NOW + 6 * SECOND_NS, BUILD_NS - 1, 0]
    result = gate.apply(Batch.of(Kind.STRING, [0] * 5, ["x"] * 5, [GOOD] * 5, times))
    clock = uncertain(QualityReason.CLOCK)
    assert codes(result) == [GOOD, GOOD, clock, clock, clock]


def test_bad_samples_keep_their_reason_and_do_not_become_the_past():
    gate = make(rate=1.0, low=0, high=10)
    absent = bad(QualityReason.ABSENT)
    result = gate.apply(batch([1.0, 500.0, 1.5], quality=[GOOD, absent, good(QualityReason.BACKFILLED)]))
    assert codes(result) == [GOOD, absent, good(QualityReason.BACKFILLED)]


def test_forgotten_signals_start_afresh():
    gate = make(rate=1.0)
    gate.apply(batch([0.0]))
    gate.forget(np.array([0], np.uint32))
    assert codes(gate.apply(batch([50.0], start_s=1))) == [GOOD]


samples = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.floats(-20, 20) | st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, 9.0, 60.0]),
        st.sampled_from([GOOD, GOOD, uncertain(QualityReason.SETTLING), bad(QualityReason.ABSENT)]),
        st.integers(-3, 10),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(samples, st.sets(st.integers(0, 30)))
def test_nothing_is_dropped_reordered_or_improved_however_it_is_cut_into_batches(rows, cuts):
    rules = {"low": -10, "high": 10, "rate": [2.0, 2.0, np.nan, 2.0], "frozen_ns": 2 * SECOND_NS}
    rules |= {"counter": [False, False, True, True], "wraps": 30.0}
    signals, values, qualities, seconds = zip(*rows, strict=True) if rows else ((), (), (), ())
    whole = Batch.of(Kind.FLOAT, signals, values, qualities, [NOW - 100 * SECOND_NS + s * SECOND_NS for s in seconds])
    at_once = make(4, **rules).apply(whole)
    gate = make(4, **rules)
    ends = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    parts = [gate.apply(whole.take(np.arange(a, b))) for a, b in itertools.pairwise(ends)]
    assert at_once.signal.tolist() == whole.signal.tolist()
    assert at_once.t_ns.tolist() == whole.t_ns.tolist()
    np.testing.assert_array_equal(at_once.value, whole.value)
    assert (at_once.quality >> 8 >= whole.quality >> 8).all()
    assert [code for part in parts for code in part.quality.tolist()] == at_once.quality.tolist()


@settings(deadline=None)
@given(samples)
def test_signals_are_judged_each_for_itself_whatever_stands_between(rows):
    rules = {"rate": 2.0, "frozen_ns": 2 * SECOND_NS, "counter": [False, True, False, True], "wraps": 30.0}
    rows = [(signal, value, quality, NOW + s * SECOND_NS) for signal, value, quality, s in rows]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    together = make(4, **rules).apply(Batch.of(Kind.FLOAT, *columns))
    for alone in range(4):
        mine = together.signal == alone
        own = make(4, **rules).apply(Batch.of(Kind.FLOAT, *columns).take(mine))
        assert own.quality.tolist() == together.quality[mine].tolist()


def test_samples_without_rules_pass_without_a_copy():
    n = 10_000
    gate = make(100)
    one = Batch(
        Kind.FLOAT,
        np.arange(n, dtype=np.uint32) % 100,
        np.zeros(n),
        np.zeros(n, np.uint16),
        np.full(n, NOW, np.int64),
    )
    assert gate.apply(one) is one


def test_rules_come_from_the_profile_and_frozen_only_where_polled(tmp_path):
    from twinedge.config.catalogue import build_catalogue
    from twinedge.config.load import load_site

    points = "points:\n  a: {at: %s, range: [0, 5], rate: 2, frozen: 1min}\n"
    for name, head, at in (
        ("polled", "protocol: modbus\nbase: 0\n", "holding 1"),
        ("told", "protocol: opcua\nnamespace: urn:acme\n", "A"),
    ):
        folder = tmp_path / "profiles/acme" / name
        folder.mkdir(parents=True)
        (folder / "1.yaml").write_text(f"profile: acme/{name}\n{head}{points % at}")
    (tmp_path / "site.yaml").write_text(
        "site: s\nprofiles: profiles\ndevices:\n"
        "  m: {modbus: 'tcp://h:502', profile: acme/polled}\n  o: {opcua: 'opc.tcp://h:4840', profile: acme/told}\n"
    )
    loaded = load_site(tmp_path / "site.yaml")
    rules = rules_of(loaded, build_catalogue(loaded))
    assert rules.low.tolist()[:2] == [0, 0]
    assert rules.high.tolist()[:2] == [5, 5]
    assert rules.rate.tolist()[:2] == [2, 2]
    assert rules.frozen_ns.tolist() == [60 * SECOND_NS, 0, 0]


@pytest.mark.parametrize("kind", [Kind.BOOL, Kind.STRING])
def test_kinds_without_numbers_pass_unchanged(kind):
    value = {Kind.BOOL: True, Kind.STRING: "on"}[kind]
    one = batch([value], kind=kind)
    assert make(kind=kind, low=0, high=1, rate=1).apply(one) is one


def test_empty_batch_passes():
    empty = batch([])
    assert make(low=0, high=1).apply(empty) is empty
