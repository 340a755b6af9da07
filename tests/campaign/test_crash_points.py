"""Layer B: the power goes at an I/O call, and all that was promised is there, once, or declared."""

from __future__ import annotations

import pytest

from tests.campaign.checker import check
from tests.campaign.crash import SEED_POINTS, points, run_crash
from twinedge.spool import schema
from twinedge.spool.retention import POLICIES

CUTS = 10


@pytest.mark.parametrize("workload", range(2 * len(POLICIES)))
def test_a_power_cut_at_an_io_call_loses_nothing_that_was_promised(workload):
    for seed in points(range(workload, workload + 1), CUTS):
        found = check(run_crash(seed))
        assert not found, f"seed {seed}: {'; '.join(map(str, found[:5]))}"


@pytest.mark.parametrize("workload", range(len(POLICIES)), ids=POLICIES)
def test_each_policy_of_a_full_disk_has_dropped_something_in_a_life_that_is_cut(workload):
    history = run_crash(workload * SEED_POINTS)
    assert history.dropped > 0
    assert check(history) == []


def test_a_spool_that_does_not_sync_is_caught(monkeypatch):
    run = schema.run
    full, off = "PRAGMA synchronous=FULL", "PRAGMA synchronous=OFF"
    monkeypatch.setattr(schema, "run", lambda db, sql, values=(): run(db, off if sql == full else sql, values))
    monkeypatch.setattr(schema, "_check_durable", lambda *_: None)
    found = {seed: check(run_crash(seed)) for seed in points(range(1, 2), 12)}
    assert any(one.invariant in "LF" for several in found.values() for one in several)
