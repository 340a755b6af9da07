"""Time on machines that lose it: no battery, steps, sleep, and a coordinator that knows better or does not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from structlog.testing import capture_logs

from twinedge.gate.gate import Gate
from twinedge.gate.rules import Rules
from twinedge.health.clock import FILE, HOLDOVER_NS, KEEP_NS, SLACK_NS, ClockWatch
from twinmodel.clock import BUILD_NS, SECOND_NS, ClockQuality, ManualClock
from twinmodel.quality import QualityReason, uncertain
from twinmodel.signal import Batch, Kind

NOW_NS = BUILD_NS + 400 * 86_400 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS


class Machine:
    """A gateway's clock, and whether an NTP daemon keeps it."""

    def __init__(self, folder, wall_ns=NOW_NS):
        self.folder, self.clock, self.synchronised = folder, ManualClock(wall_ns, 50 * SECOND_NS), False
        self.watch = self.boot()

    def boot(self) -> ClockWatch:
        self.watch = ClockWatch(
            self.clock, self.folder, synchronised=lambda: self.synchronised, awake=self.clock.awake_ns
        )
        return self.watch


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_machine_without_a_battery_starts_in_1970_and_its_clock_is_unset_whatever_the_kernel_says(tmp_path):
    machine = Machine(tmp_path, wall_ns=5 * SECOND_NS)
    machine.synchronised = True
    assert machine.watch.quality() is ClockQuality.UNSET
    machine.clock.jump_wall(NOW_NS)
    assert machine.watch.quality() is ClockQuality.SYNCED


def test_clock_that_nobody_ever_set_is_free_one_that_lost_its_server_holds_over_for_a_day(machine):
    assert machine.watch.quality() is ClockQuality.FREE
    machine.synchronised = True
    assert machine.watch.quality() is ClockQuality.SYNCED
    machine.synchronised = False
    machine.clock.advance(HOLDOVER_NS - 1)
    assert machine.watch.quality() is ClockQuality.HOLDOVER
    machine.clock.advance(1)
    assert machine.watch.quality() is ClockQuality.FREE


def test_what_the_coordinator_said_outlives_a_restart_so_that_a_clock_put_back_is_found_before_it_answers(machine):
    machine.watch.heard(NOW_NS + 100 * DAY_NS)
    assert machine.watch.quality() is ClockQuality.UNSET
    assert machine.boot().floor_ns == NOW_NS + 100 * DAY_NS
    assert machine.watch.quality() is ClockQuality.UNSET
    machine.clock.jump_wall(100 * DAY_NS)
    assert machine.watch.quality() is ClockQuality.FREE


def test_floor_never_falls_and_is_not_written_for_a_few_minutes(machine):
    machine.watch.heard(NOW_NS)
    path = machine.folder / FILE
    kept = path.read_bytes()
    for said_ns in (NOW_NS + KEEP_NS - 1, NOW_NS - DAY_NS, 0, -(2**62)):
        machine.watch.heard(said_ns)
        assert path.read_bytes() == kept
        assert machine.watch.floor_ns == NOW_NS + KEEP_NS - 1
    machine.watch.heard(NOW_NS + KEEP_NS)
    assert json.loads(path.read_text())["floor_ns"] == NOW_NS + KEEP_NS


def test_damaged_floor_is_set_aside_and_a_disk_that_refuses_stops_nothing(machine, tmp_path):
    (tmp_path / FILE).write_text("{")
    assert machine.boot().floor_ns == BUILD_NS
    (tmp_path / FILE).write_text('{"floor_ns": "soon"}')
    assert machine.boot().floor_ns == BUILD_NS
    machine.folder = tmp_path / "missing"
    machine.boot().heard(NOW_NS)
    assert machine.watch.floor_ns == NOW_NS


def test_clock_that_is_a_little_slow_is_not_unset(machine):
    machine.watch.heard(NOW_NS + SLACK_NS)
    assert machine.watch.quality() is ClockQuality.FREE
    machine.watch.heard(NOW_NS + SLACK_NS + 1)
    assert machine.watch.quality() is ClockQuality.UNSET


def test_coordinator_a_year_ahead_of_a_synchronised_clock_is_not_believed(machine):
    machine.synchronised = True
    with capture_logs() as logs:
        machine.watch.heard(NOW_NS + 365 * DAY_NS)
    assert machine.watch.quality() is ClockQuality.SYNCED
    assert [entry["event"] for entry in logs] == ["coordinator's clock is not believed, ours is synchronised"]


def test_offset_is_the_coordinators_clock_less_half_of_the_way_there_and_back(machine):
    asked_ns = machine.clock.boot_ns()
    machine.clock.advance(600_000_000)
    machine.watch.heard(NOW_NS + 300_000_000 + 7 * SECOND_NS, asked_ns)
    assert machine.watch.offset_ns == 7 * SECOND_NS
    assert machine.watch.document()["offset_s"] == 7.0


def test_step_of_the_wall_clock_is_told_once_and_slewing_is_not(machine):
    with capture_logs() as logs:
        for _ in range(10):
            machine.clock.advance(SECOND_NS)
            machine.clock.jump_wall(500_000)
            machine.watch.look()
        assert machine.watch.steps == 0
        machine.clock.jump_wall(-3600 * SECOND_NS)
        machine.watch.look()
        machine.watch.look()
    assert machine.watch.steps == 1
    assert [(entry["event"], entry["step_s"]) for entry in logs] == [("wall clock was put", -3600.0)]


def test_suspend_is_seen_by_the_boot_clock_and_its_hole_is_told_and_a_busy_second_is_not_one(machine):
    assert machine.watch.look() is None
    machine.clock.advance(30 * SECOND_NS)
    assert machine.watch.look() is None
    machine.clock.suspend(3600 * SECOND_NS)
    slept = machine.watch.look()
    assert (slept.from_ns, slept.to_ns) == (NOW_NS + 30 * SECOND_NS, NOW_NS + 3630 * SECOND_NS)
    assert machine.watch.document()["suspended_s"] == 3600.0
    assert machine.watch.steps == 0
    assert machine.watch.look() is None


def test_samples_of_an_unset_clock_are_marked_and_their_times_left_as_they_are(machine):
    gate = Gate(Rules.none(1), machine.clock, machine.watch.is_unset)
    batch = Batch.of(Kind.FLOAT, [0, 0], [1.0, 2.0], [0, uncertain(QualityReason.STALE)], [NOW_NS, NOW_NS])
    assert gate.apply(batch) is batch
    machine.watch.heard(NOW_NS + DAY_NS)
    marked = gate.apply(batch)
    assert marked.quality.tolist() == [uncertain(QualityReason.CLOCK), uncertain(QualityReason.STALE)]
    assert np.array_equal(marked.t_ns, batch.t_ns)
    machine.clock.jump_wall(DAY_NS)
    assert gate.apply(batch) is batch
