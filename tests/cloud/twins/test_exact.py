"""Exact sums: no rounding, no order, no trace of what was taken away."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twincloud.twins.exact import ExactSum, units_of

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, max_size=30))
def test_the_sum_is_the_nearest_double_of_the_true_one(values):
    exact = ExactSum()
    exact.add(np.array(values))
    true = sum(map(Fraction, values), Fraction(0))
    assert Fraction(exact.units, 1 << 1_126) == true
    try:
        expected = float(true)
    except OverflowError:
        expected = math.inf if true > 0 else -math.inf
    assert exact.value == expected


@given(st.lists(FINITE, max_size=20), st.lists(FINITE, max_size=20), st.randoms(use_true_random=False))
def test_what_was_added_and_taken_away_leaves_no_trace(kept, gone, random):
    exact, straight = ExactSum(), ExactSum()
    mixed = kept + gone
    random.shuffle(mixed)
    for value in mixed:
        exact.add(np.array([value]))
    exact.take(np.array(gone))
    straight.add(np.array(kept))
    assert exact.units == straight.units


def test_ten_thousand_values_of_all_sizes_are_summed_exactly():
    values = np.random.default_rng(5).standard_normal(10_000) * 10.0 ** np.linspace(-300, 300, 10_000)
    assert Fraction(units_of(values), 1 << 1_126) == sum(map(Fraction, values.tolist()))
    assert ExactSum().over(7) == 0.0
