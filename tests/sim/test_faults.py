"""Faults distort readings as their names say, end in time, and refuse nonsense."""

import pytest

from twinmodel.errors import InputError
from twinsim.device import Device
from twinsim.firmware import KINDS

T0_NS = 1_700_000_000_000_000_000


def device(protocol="mqtt", seed=1):
    made = Device(KINDS[protocol], 1, seed)
    made.tick(1.0, T0_NS)
    return made


def run(made, seconds):
    readings = []
    for i in range(seconds):
        made.tick(1.0, T0_NS + i * 1_000_000_000)
        readings.append(made.reading)
    return readings


def test_a_stuck_sensor_keeps_its_value_while_the_others_move():
    made = device()
    held = made.reading["flow"]
    made.inject("stuck")
    readings = run(made, 20)
    assert {r["flow"] for r in readings} == {held}
    assert len({r["head"] for r in readings}) > 5


def test_all_sensors_of_a_device_can_be_stuck_at_once():
    made = device()
    held = made.reading
    made.inject("stuck", point="*")
    assert all(r == held for r in run(made, 5))


def test_a_drifting_sensor_leaves_the_healthy_twin_of_the_same_seed_by_the_slope():
    made, healthy = device(), device()
    made.inject("drift", point="head", size=0.5)
    a, b = run(made, 30), run(healthy, 30)
    assert a[-1]["head"] - b[-1]["head"] == pytest.approx(0.5 * 30, abs=0.02)
    assert a[-1]["flow"] == b[-1]["flow"]


def test_spikes_are_rare_and_of_the_size_asked_for():
    made, healthy = device(), device()
    made.inject("spike", point="flow", size=20.0)
    jumps = [x["flow"] - y["flow"] for x, y in zip(run(made, 400), run(healthy, 400), strict=True)]
    spikes = [j for j in jumps if abs(j) > 1e-6]
    assert 15 <= len(spikes) <= 75
    assert all(abs(abs(j) - 20.0) < 0.02 for j in spikes)
    assert any(j > 0 for j in spikes)
    assert any(j < 0 for j in spikes)


@pytest.mark.parametrize(("protocol", "truth"), [("modbus", "level2"), ("opcua", "hot_out"), ("mqtt", "flow")])
def test_plant_drift_changes_the_truth_itself_and_clearing_heals_it(protocol, truth):
    made, healthy = device(protocol), device(protocol)
    made.inject("plant_drift", size=0.4)
    run(made, 60), run(healthy, 60)
    assert abs(made.plant.truth()[truth] - healthy.plant.truth()[truth]) > 0.01
    made.faults.clear()
    run(made, 400), run(healthy, 400)
    assert made.plant.truth()[truth] == pytest.approx(healthy.plant.truth()[truth], rel=1e-3)


def test_a_fault_with_a_time_ends_by_itself():
    made = device()
    made.inject("dropout", for_s=3.0)
    silent = []
    for _ in range(5):
        silent.append(made.faults.silent)
        run(made, 1)
    assert silent == [True, True, True, False, False]


def test_every_reading_is_a_multiple_of_the_resolution():
    for protocol, kind in KINDS.items():
        for reading in run(device(protocol), 20):
            for sensor in kind.sensors:
                steps = reading[sensor.name] / sensor.resolution
                assert steps == pytest.approx(round(steps), abs=1e-6)


def test_time_stamps_are_whole_milliseconds():
    made = device()
    made.tick(1.0, T0_NS + 1_234_567)
    assert made.t_ns == T0_NS + 1_000_000


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"kind": "meltdown"}, "VALUE_INVALID"),
        ({"kind": "stuck", "point": "colour"}, "UNKNOWN_SIGNAL"),
        ({"kind": "stuck", "for_s": -1.0}, "VALUE_INVALID"),
        ({"kind": "plant_drift", "size": 1.5}, "VALUE_INVALID"),
    ],
)
def test_an_impossible_fault_is_refused_with_its_reason(order, reason):
    with pytest.raises(InputError) as refused:
        device().inject(**order)
    assert refused.value.reason == reason
    assert refused.value.hint
