"""Plants follow their equations, stay in range and repeat by seed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinsim.plants.exchanger import Exchanger
from twinsim.plants.motion import Wander, runge_kutta
from twinsim.plants.pump import Pump
from twinsim.plants.tanks import Tanks

PLANTS = (Tanks, Exchanger, Pump)


def fine_tanks(state, pump, k3, seconds, h=0.001):
    h1, h2 = state
    for _ in range(round(seconds / h)):
        a, b = 0.002 * pump - 0.02 * math.sqrt(h1), 0.02 * math.sqrt(h1) - k3 * math.sqrt(h2)
        h1, h2 = h1 + h * a, h2 + h * b
    return h1, h2


def fine_exchanger(state, hot_in, cold_in, coupling, seconds, h=0.001):
    th, tc = state
    for _ in range(round(seconds / h)):
        a = (hot_in - th) / 20 - coupling * (th - tc)
        b = (cold_in - tc) / 20 + coupling * (th - tc)
        th, tc = th + h * a, tc + h * b
    return th, tc


def fine_pump(q, speed, coefficient, seconds, h=0.0005):
    n = speed / 2900
    for _ in range(round(seconds / h)):
        q += h * 0.4 * (coefficient * n * n - 8 - (24 / 3600) * q * abs(q))
    return q


class Held:
    """An input that stands still, so that a reference can be computed."""

    def __init__(self, value):
        self.value = value

    def advance(self, dt_s):
        pass


def test_tanks_with_constant_pump_agree_with_a_fine_euler_reference():
    plant = Tanks(np.random.default_rng(1))
    plant._pump = Held(6.5)
    plant._state = (0.2, 0.1)
    plant.wear(0.8)
    for _ in range(20):
        plant.step(1.0)
    expected = fine_tanks((0.2, 0.1), 6.5, 0.02 * 0.8, 20)
    assert plant.truth()["level1"] == pytest.approx(expected[0], abs=1e-5)
    assert plant.truth()["level2"] == pytest.approx(expected[1], abs=1e-5)


def test_exchanger_with_constant_inlets_agrees_with_a_fine_euler_reference():
    plant = Exchanger(np.random.default_rng(1))
    plant._hot_in, plant._cold_in = Held(85.0), Held(12.0)
    plant._state = (50.0, 40.0)
    plant.wear(0.5)
    for _ in range(20):
        plant.step(1.0)
    expected = fine_exchanger((50.0, 40.0), 85.0, 12.0, 0.025, 20)
    assert (plant.truth()["hot_out"], plant.truth()["cold_out"]) == pytest.approx(expected, abs=1e-3)


def test_pump_with_constant_speed_agrees_with_a_fine_euler_reference():
    plant = Pump(np.random.default_rng(1))
    plant._speed = Held(2900.0)
    plant._state = (30.0,)
    for _ in range(5):
        plant.step(1.0)
    q = fine_pump(30.0, 2900.0, 32.0, 5)
    truth = plant.truth()
    assert truth["flow"] == pytest.approx(q, abs=1e-3)
    assert truth["head"] == pytest.approx(32 - 0.3 * 24 / 3600 * q * q, abs=1e-3)
    assert truth["power"] == pytest.approx(9810 * q / 3600 * truth["head"] / 0.7 / 1000 + 0.5, abs=1e-3)


def test_pump_at_rated_speed_settles_at_sixty_cubic_metres_an_hour():
    plant = Pump(np.random.default_rng(1))
    plant._speed = Held(2900.0)
    plant.step(60.0)
    assert plant.truth()["flow"] == pytest.approx(60.0, abs=1e-6)


def test_runge_kutta_of_exponential_decay_is_of_fourth_order():
    def error(h):
        x = (1.0,)
        for _ in range(round(1 / h)):
            x = runge_kutta(lambda s: (-s[0],), x, h)
        return abs(x[0] - math.exp(-1))

    assert error(0.1) / error(0.05) == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("plant", PLANTS)
def test_the_same_seed_repeats_every_reading_and_another_does_not(plant):
    def run(seed):
        made = plant(np.random.default_rng(seed))
        readings = []
        for _ in range(50):
            made.step(1.0)
            readings.append(made.read())
        return readings

    assert run(3) == run(3)
    assert run(3) != run(4)


@pytest.mark.parametrize(
    ("plant", "sigmas"),
    [
        (Tanks, {"level2": 0.002, "pump": 0.0}),
        (Exchanger, {"hot_in": 0.05, "cold_in": 0.05, "hot_out": 0.1, "cold_out": 0.1}),
        (Pump, {"flow": 0.3, "head": 0.1, "power": 0.05, "speed": 0.5}),
    ],
)
def test_sensor_noise_has_the_declared_sigma_and_no_bias(plant, sigmas):
    made = plant(np.random.default_rng(5))
    truth = made.truth()
    readings = [made.read() for _ in range(4000)]
    assert set(readings[0]) == set(sigmas)
    for name, sigma in sigmas.items():
        errors = np.array([r[name] - truth[name] for r in readings])
        assert errors.std() == pytest.approx(sigma, rel=0.06, abs=1e-12)
        assert abs(errors.mean()) <= 4 * sigma / math.sqrt(4000) + 1e-12


def test_the_first_level_is_in_the_truth_and_not_among_the_readings():
    made = Tanks(np.random.default_rng(1))
    assert "level1" in made.truth()
    assert "level1" not in made.read()


@given(seed=st.integers(0, 10_000), dt_s=st.sampled_from([0.1, 1.0, 7.3]))
@settings(max_examples=30, deadline=None)
def test_an_input_stays_in_its_range_and_moves(seed, dt_s):
    wander = Wander(np.random.default_rng(seed), 3.0, 7.0)
    values = []
    for _ in range(300):
        wander.advance(dt_s)
        values.append(wander.value)
    assert min(values) >= 3.0
    assert max(values) <= 7.0
    assert max(values) > min(values)


@pytest.mark.parametrize(
    ("plant", "point", "direction"), [(Tanks, "level2", 1), (Exchanger, "cold_out", -1), (Pump, "flow", -1)]
)
def test_ageing_moves_the_plant_the_way_the_physics_says(plant, point, direction):
    new, old = plant(np.random.default_rng(2)), plant(np.random.default_rng(2))
    old.wear(0.7)
    for _ in range(60):
        new.step(1.0)
        old.step(1.0)
    assert (old.truth()[point] - new.truth()[point]) * direction > 0.01
