"""The rows of the plan's faults: each has tests that exist, and those a simulation can show are shown by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.checker import check
from tests.campaign.faults import ROWS
from tests.campaign.nemesis import Only
from tests.campaign.world import run_seed

TESTS = Path(__file__).resolve().parents[1]
SEEDS_MAX = 12
# Row -> faults of the simulation, and how it is told.
SHOWN = {
    8: ("center killed at a step", "center killed at a step"),
    9: ("center restored", "SERVER_REGRESSED"),
    10: ("parted", "parted"),
    11: ("deaf", "message lost"),
    12: ("cut", "cut"),
    13: ("clock jump", "clock jump"),
    17: ("schema change", "schema change"),
    18: ("poison", "BLOCK_CORRUPT"),
    19: ("replay", "replay"),
    20: ("clone", "IDENTITY_FORK"),
    21: ("disk restored", "disk restored"),
}


def test_every_row_has_tests_that_exist():
    assert sorted(ROWS) == list(range(1, 27))
    for number, row in ROWS.items():
        for test in row.tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (TESTS / file).read_text(), f"row {number}: {test}"


@pytest.mark.parametrize("row", SHOWN)
def test_a_simulated_fault_is_told_by_its_reason_and_costs_nothing(row):
    kind, told = SHOWN[row]
    for seed in range(SEEDS_MAX):
        history = run_seed(seed, Only((kind,)))
        assert check(history) == [], f"seed {seed}"
        letters = {item.reason for items in history.held.values() for item in items if item.kind == "letter"}
        if history.faults[told] or told in letters:
            return
    pytest.fail(f"{kind} never led to {told}")
