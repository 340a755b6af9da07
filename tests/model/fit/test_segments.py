"""Stretches, what is held out, and data that nothing can be fitted to."""

import numpy as np
import pytest

from twinmodel.errors import InputError
from twinmodel.fit.segments import check, cut, window

NAMES = (["pump"], ["level"])


def test_the_latest_part_is_held_out_across_stretches(make):
    u, y = make.data(100)
    first, second = cut(make.record(u, y, ((0, 60), (60, 100))), holdout=0.5)
    assert (first.held_out, second.held_out) == (50, 0)
    assert np.isnan(first.seen[50:]).all()
    assert np.isfinite(second.hidden).all()
    assert window((first, second)) == ("1970-01-01T00:00:00.000000000Z", "1970-01-01T00:01:38.000000000Z")


def test_a_missing_input_parts_a_stretch_and_a_missing_output_does_not(make):
    u, y = make.data(100)
    u[40:45] = np.nan
    y[10:20] = np.nan
    segments = cut(make.record(u, y))
    assert [s.ticks for s in segments] == [40, 55]
    assert np.isnan(segments[0].seen).sum() == 10


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda u, y: (u, np.full_like(y, np.nan)), "no output has a single measured value"),
        (lambda u, y: (np.full_like(u, np.nan), y), "input number 1 has no value"),
        (lambda u, y: (u[:5], y[:5]), "no stretch of 10 ticks"),
    ],
)
def test_data_that_cannot_be_simulated_is_refused(make, spoil, says):
    with pytest.raises(InputError, match=says) as caught:
        cut(make.record(*spoil(*make.data(100))))
    assert caught.value.reason == "FIT_DATA_UNFIT"


def test_too_few_values_and_still_outputs_are_refused_and_a_still_input_is_told(make):
    u, y = make.data(100)
    with pytest.raises(InputError, match="too few for 50 unknowns"):
        check(cut(make.record(u, y)), 50, NAMES)
    with pytest.raises(InputError, match="never change: level"):
        check(cut(make.record(u, np.full_like(y, 3.0))), 3, NAMES)
    (told,) = check(cut(make.record(np.full_like(u, 4.0), y)), 3, NAMES)
    assert "pump is constant" in told


def test_more_than_nine_tenths_cannot_be_held_out(data):
    with pytest.raises(InputError, match="cannot be held out"):
        cut(data, holdout=0.95)
