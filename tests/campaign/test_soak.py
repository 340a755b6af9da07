"""A soak and a virtual day find what grows; both last minutes and run under `--campaign` alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tests.campaign import day, soak
from twinmodel.errors import UnreachableError
from twinsim.deployment.running import Running


def test_what_grows_after_the_warm_up_is_found_and_history_may():
    still = [100.0] * 40
    assert day.growth(still) == soak._growth(still) == 0
    rising = [float(n) for n in range(40)]
    assert soak._growth(rising) == 20.0
    filling = [*range(day.TAIL_HOURS), 24.0]
    assert [day.spool_growth([*filling, *after]) for after in ([], [24.5, 24.0], [26.0, 27.0])] == [0.0, 0.0, 3.0]
    assert day.spool_growth(filling[:-1]) == 0.0
    calm = {"rss_mib": 1.0, "descriptors": 0.0, "disk_mib": 2.0}
    assert soak.judged({"agent": calm, "coordinator": calm | {"disk_mib": 900.0}, "devices": calm}) == []
    (found,) = soak.judged({"agent": calm | {"descriptors": 40.0}, "coordinator": calm})
    assert found.startswith("agent: descriptors grew by 40")


def test_soak_that_did_not_come_to_its_end_tells_what_it_saw_and_why():
    held = {"agent": soak.Holding([10.0, 10.0, 40.0, 40.0], [5] * 4, [1.0] * 4), "devices": soak.Holding()}
    found = soak.shown(4.0, held, None, 7, ["not to its end: COORDINATOR_UNREACHABLE"])
    assert found.findings == ["agent: rss_mib grew by 30, at most 16", "not to its end: COORDINATOR_UNREACHABLE"]
    assert (found.committed, found.samples, found.curve["agent"]) == (7, 0, [10.0, 10.0, 40.0, 40.0])
    assert found.last == {"agent": {"rss_mib": 40.0, "descriptors": 5, "disk_mib": 1.0}}


def test_audit_that_cannot_be_read_is_said_and_the_run_is_still_judged(monkeypatch):
    def silent(_plant):
        raise UnreachableError("COORDINATOR_UNREACHABLE", "timed out")

    monkeypatch.setattr(Running, "close", silent)
    plant = object.__new__(soak.Watched)
    ended = []
    plant.watcher = SimpleNamespace(end=lambda: ended.append(True))
    assert plant.close() == soak.UNCOUNTED
    assert ended
    assert plant.unread.startswith("the audit could not be read: COORDINATOR_UNREACHABLE")


@pytest.mark.parametrize("minutes", [1.0, 60.0])
def test_the_plan_of_a_soak_is_a_scenario(minutes):
    made = soak.plan(minutes)
    assert made.device_names_of(soak.GATEWAY)[:2] == ["T-1", "T-2"]
    assert len(made.steps) == max(1, int(minutes) - 1)


@pytest.mark.service("mosquitto")
@pytest.mark.timeout(1200)
def test_neither_minutes_of_processes_nor_hours_of_a_clock_let_anything_grow(tmp_path, request):
    if not request.config.getoption("--campaign"):
        pytest.skip("only under --campaign: a quarter of an hour")
    assert soak.soak(tmp_path / "soak", 8.0).findings == []
    (tmp_path / "day").mkdir()
    assert asyncio.run(day.live(tmp_path / "day", 4)).findings == []
