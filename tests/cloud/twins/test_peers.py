"""Peers: who is an outlier, and who only looks like one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twincloud.twins.peers import PEERS_MIN, limit_of, middle_of, outliers, rank_of, scores


def none(n):
    return np.full(n, math.nan)


def test_the_one_far_from_the_others_is_found_and_does_not_hide_itself():
    values = np.array([10.0, 10.2, 9.9, 10.1, 9.8, 10.05, 9.95, 10.15, 30.0, 10.0])
    middle = middle_of(values)
    assert outliers(values, none(10), middle).tolist() == [8]
    rank = rank_of(8, values, none(10), middle)
    assert rank.outlier
    assert rank.percentile == 95.0
    assert rank.z > middle.limit


def test_a_noisy_twin_is_no_outlier_for_its_noise():
    values = np.array([10.0, 10.2, 9.9, 10.1, 9.8, 10.05, 9.95, 10.15, 30.0, 10.0])
    sigmas = np.full(10, 0.1)
    sigmas[8] = 8.0
    assert not len(outliers(values, sigmas, middle_of(values)))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_too_few_peers_have_no_outlier(n):
    values = np.array([1.0, 1.0, 1.0, 1e9][-n:])
    assert n < PEERS_MIN
    assert not len(outliers(values, none(n), middle_of(values)))
    assert middle_of(np.array([])) is None


def test_equal_twins_have_no_scale_and_no_outlier():
    values = np.full(8, 3.25)
    middle = middle_of(values)
    assert middle.scale == 0.0
    assert np.isnan(scores(values, none(8), middle)).all()
    assert rank_of(3, values, none(8), middle).z is None
    assert rank_of(3, values, none(8), middle).percentile == 50.0


def test_half_of_all_equal_still_shows_the_one_that_is_not():
    values = np.array([3.0] * 30 + [9.0])
    assert outliers(values, none(31), middle_of(values)).tolist() == [30]


@pytest.mark.parametrize("n", [5, 6, 7, 8, 9, 12, 20, 40, 200])
def test_fleets_of_alike_twins_seldom_show_an_outlier(n):
    rng = np.random.default_rng(n)
    fleets = 800
    shown = 0
    for _ in range(fleets):
        values = rng.standard_normal(n)
        shown += len(outliers(values, none(n), middle_of(values))) > 0
    assert shown <= 0.025 * fleets


def test_the_limit_grows_with_many_and_with_few():
    assert limit_of(6) > limit_of(20) > limit_of(100)
    assert limit_of(100_000) > limit_of(300)


def test_ranks_count_equal_ones_half():
    values = np.array([1.0, 2.0, 2.0, 3.0])
    middle = middle_of(values)
    assert [rank_of(n, values, none(4), middle).percentile for n in range(4)] == [12.5, 50.0, 50.0, 87.5]
