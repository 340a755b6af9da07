"""Layer A, the second half of its seeds: a file is one worker's turn."""

from __future__ import annotations

import pytest

from tests.campaign.checker import check
from tests.campaign.runs import watched
from tests.campaign.test_simulation import PARTS, SEEDS
from tests.campaign.world import run_seed


@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_of_the_second_half_loses_doubles_or_hides_anything(part):
    for seed in range(SEEDS + part, 2 * SEEDS, PARTS):
        with watched(seed):
            found = check(run_seed(seed))
        assert not found, f"seed {seed}: {'; '.join(map(str, found[:5]))}"
