"""Layer C: real processes on a real file system; only under `--campaign`, as the end-to-end tests have a short one."""

from __future__ import annotations

import pytest

from tests.campaign.checker import check
from tests.campaign.processes import run_processes


@pytest.mark.e2e
def test_processes_under_kills_and_power_cuts_lose_nothing(request, record_property):
    if not request.config.getoption("--campaign"):
        pytest.skip("only under --campaign: minutes of kills and power cuts")
    history = run_processes(1, 60.0)
    record_property("faults", dict(history.faults))
    assert check(history) == []
