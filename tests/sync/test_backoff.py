"""Waits between tries."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinsync.backoff import Backoff


@given(st.integers(0, 2**32), st.integers(0, 60))
def test_the_nth_wait_lies_between_half_and_the_whole_of_its_doubling(seed, tries):
    backoff = Backoff(Random(seed), base_ns=1000, cap_ns=64_000)
    for number in range(tries):
        full = min(1000 * 2**number, 64_000)
        assert full // 2 <= backoff.failed(5) - 5 <= full


def test_progress_starts_again_from_the_base():
    backoff = Backoff(Random(1), base_ns=1000, cap_ns=10**9)
    for _ in range(10):
        backoff.failed(0)
    backoff.progressed()
    assert backoff.failures == 0
    assert backoff.failed(0) <= 1000


def test_what_the_peer_asks_for_is_never_undercut_and_spread():
    waits = {Backoff(Random(seed)).failed(0, floor_ns=10**11) for seed in range(50)}
    assert all(10**11 <= wait <= 15 * 10**10 for wait in waits)
    assert len(waits) == 50


def test_bounds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="no backoff"):
        Backoff(Random(1), base_ns=0)
