"""Mistakes planted into production's own objects: each is caught within a few seeds of the faults that can show it."""

from __future__ import annotations

import pytest

from tests.campaign.checker import check
from tests.campaign.mutants import MUTANTS, planted
from tests.campaign.world import run_seed

# Most are caught by the first seed; a fault that must meet a moment needs some, which change with the product.
SEEDS_MAX = 64


def first_caught(name: str, seeds_max: int = SEEDS_MAX) -> tuple[int, str] | None:
    """The first seed that shows a mutant, and by what; None when none does."""
    with planted(name) as mutant:
        for seed in range(seeds_max):
            found = check(run_seed(seed, mutant.only))
            if found:
                return seed, str(found[0])
    return None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(name, record_property):
    caught = first_caught(name)
    record_property("caught", str(caught))
    assert caught is not None, f"{name}: not within {SEEDS_MAX} seeds"
    print(f"{name}: seed {caught[0]}, {caught[1]}")  # noqa: T201 - says which seed caught which
