"""Layer A: production's two ends on one thread in virtual time, under everything a seed can do to them."""

from __future__ import annotations

import pytest

from tests.campaign.checker import check
from tests.campaign.runs import watched
from tests.campaign.world import run_seed

SEEDS, PARTS = 1_000, 20
"""The first half of the slice; `test_simulation_more` has the other, for the worker beside."""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_loses_doubles_or_hides_anything(part):
    for seed in range(part, SEEDS, PARTS):
        with watched(seed):
            found = check(run_seed(seed))
        assert not found, f"seed {seed}: {'; '.join(map(str, found[:5]))}"


def test_a_seed_replays_byte_for_byte():
    assert run_seed(33).digest() == run_seed(33).digest()


@pytest.mark.parametrize("seed", [2701, 7727])
def test_seeds_that_lost_what_a_restored_coordinator_asked_for_while_the_disk_refused_lose_nothing(seed):
    assert check(run_seed(seed)) == []
