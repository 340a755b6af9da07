"""A twin's runner: frames on the model's grid, virtual outputs, swaps between ticks, published signals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from twinedge.estimate.runner import TwinRunner, Wiring
from twinmodel.clock import BUILD_NS
from twinmodel.estimator import Estimate
from twinmodel.quality import GOOD, QualityReason, bad, uncertain
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding

S = 1_000_000_000
T0 = 1_700_000_000 * S


@dataclass
class Port:
    name: str
    unit: str = ""


@dataclass
class Model:
    """Stands for an estimator: remembers what it was given."""

    inputs: tuple
    outputs: tuple
    dt_ns: int = S
    settling: bool = False
    seen: list = field(default_factory=list)
    rejoined: int = 0

    def rejoin(self):
        self.rejoined += 1

    def step(self, t_ns, u, y):
        self.seen.append((t_ns, u.tolist(), y.tolist()))
        p = len(self.outputs)
        says = np.arange(p, dtype=float) + 1.23456
        innovation = np.where(np.isnan(y), np.nan, 0.5)
        return Estimate(t_ns, says, says / 100, says, innovation, np.zeros(p), False, self.settling, True)


class Slot:
    last_good = None

    def __init__(self, model=None):
        self.model = model

    def stepped(self):
        pass

    def failed(self, error):
        return False

    def current(self):
        return self.model


def catalogue(*outputs):
    signals = [Signal(0, "d.pump"), Signal(1, "d.level2")]
    for output in outputs:
        signals += [
            Signal(len(signals) + k, f"tank/{output}#{role}", stream=Stream.STATE, exponent=3)
            for k, role in enumerate(OUTPUT_ROLES)
        ]
    binding = TwinBinding("tank", "two-tanks", "", {}, tuple(outputs), {})
    return Catalogue(tuple(signals), (binding,))


WIRING = Wiring("tank", {"pump": 0}, {"level2": 1}, {0: 3 * S, 1: 3 * S})


def samples(signal, *pairs):
    return Batch.of(
        Kind.FLOAT, [signal] * len(pairs), [v for _, v in pairs], [0] * len(pairs), [T0 + t for t, _ in pairs]
    )


def tanks(**more):
    return Model((Port("pump"),), (Port("level1"), Port("level2")), **more)


def test_a_virtual_output_is_never_measured_and_has_no_innovation():
    model = tanks()
    runner = TwinRunner(WIRING, Slot(model))
    runner.publish_as(catalogue("level1", "level2"))
    runner.run(T0)
    runner.push(samples(0, (0, 5.0), (S, 6.0)), T0)
    runner.push(samples(1, (0, 0.25), (S, 0.26)), T0)
    found = runner.run(T0)
    t_ns, u, y = model.seen[0]
    assert (t_ns, u) == (T0, [5.0])
    assert math.isnan(y[0])
    assert y[1] == 0.25
    names = [catalogue("level1", "level2").signals[s].name for s in found[0].signal]
    assert "tank/level1#innovation" not in names
    assert "tank/level2#innovation" in names
    assert "tank/level1#sigma" in names


def test_results_are_rounded_to_the_resolution_of_their_signal():
    runner = TwinRunner(WIRING, Slot(tanks()))
    runner.publish_as(catalogue("level2"))
    runner.run(T0)
    runner.push(samples(0, (0, 5.0), (S, 5.0)), T0)
    runner.push(samples(1, (0, 0.25), (S, 0.25)), T0)
    found = runner.run(T0)[0]
    assert found.value.tolist()[0] == pytest.approx(2.235, abs=0)
    assert set(found.t_ns.tolist()) == {T0}


def test_without_a_model_samples_pass_and_nothing_is_said():
    runner = TwinRunner(WIRING, Slot())
    runner.push(samples(0, (0, 5.0)), T0)
    assert runner.run(T0 + 10 * S) == []
    assert runner.steps == 0


def test_a_swap_takes_effect_between_two_ticks_and_keeps_the_alignment():
    old, new = tanks(), tanks()
    slot = Slot(old)
    runner = TwinRunner(WIRING, slot)
    runner.publish_as(catalogue("level1", "level2"))
    runner.run(T0)
    runner.push(samples(0, (0, 5.0), (S, 6.0), (2 * S, 7.0)), T0)
    runner.push(samples(1, (0, 0.1), (S, 0.2)), T0)
    runner.run(T0)
    slot.model = new
    runner.push(samples(1, (2 * S, 0.3)), T0)
    runner.run(T0)
    assert [t for t, _, _ in old.seen] == [T0, T0 + S]
    assert [t for t, _, _ in new.seen] == [T0 + 2 * S]
    assert new.seen[0][1:] == ([7.0], pytest.approx([math.nan, 0.3], nan_ok=True))


def test_a_model_with_other_ports_gets_an_alignment_of_its_own():
    slot = Slot(tanks())
    wiring = Wiring("tank", {"pump": 0, "feed": 1}, {}, {})
    runner = TwinRunner(wiring, slot)
    runner.run(T0)
    other = Model((Port("pump"), Port("feed")), (Port("level1"),))
    slot.model = other
    runner.run(T0)
    runner.push(samples(0, (0, 1.0), (S, 1.0)), T0)
    runner.push(samples(1, (0, 2.0), (S, 2.0)), T0)
    runner.run(T0)
    assert other.seen[0][1] == [1.0, 2.0]


def test_values_reach_the_model_in_the_units_of_its_ports():
    model = Model((Port("pump", "K"),), (Port("level2", "m"),))
    units = {0: "degC", 1: "cm"}
    runner = TwinRunner(Wiring("tank", {"pump": 0}, {"level2": 1}, {}, units), Slot(model))
    runner.run(T0)
    runner.push(samples(0, (0, 20.0), (S, 20.0)), T0)
    runner.push(samples(1, (0, 25.0), (S, 25.0)), T0)
    runner.run(T0)
    assert model.seen[0][1:] == (pytest.approx([293.15]), pytest.approx([0.25]))


def test_a_sample_of_a_wrong_time_closes_no_tick():
    model = tanks()
    runner = TwinRunner(WIRING, Slot(model))
    runner.run(T0)
    day = 86_400 * S
    for signal in (0, 1):
        runner.push(samples(signal, (day, 9.0), (-T0 + S, 9.0)), T0)
        runner.push(samples(signal, (0, 5.0), (S, 6.0)), T0)
    runner.run(T0)
    assert [t for t, _, _ in model.seen] == [T0, T0 + S]


def test_the_model_goes_on_when_the_clock_is_put_back():
    model = tanks()
    runner = TwinRunner(WIRING, Slot(model))
    hour = 3600 * S
    runner.run(T0)
    for signal in (0, 1):
        runner.push(samples(signal, (hour, 5.0)), T0 + hour)
    runner.run(T0 + hour)
    runner.run(T0)
    assert model.rejoined == 1
    for signal in (0, 1):
        runner.push(samples(signal, (S, 6.0)), T0)
    runner.run(T0)
    assert [t for t, _, _ in model.seen] == [T0 + hour, T0 + S]


def test_a_model_with_other_ports_does_no_tick_again_that_the_one_before_it_did():
    old, new = tanks(), Model((Port("pump"), Port("feed")), (Port("level1"),))
    slot = Slot(old)
    runner = TwinRunner(Wiring("tank", {"pump": 0, "feed": 1}, {}, {}), slot)
    runner.run(T0)
    runner.push(samples(0, (0, 5.0), (2 * S, 5.0)), T0)
    runner.run(T0)
    assert [t for t, _, _ in old.seen] == [T0, T0 + S, T0 + 2 * S]
    slot.model = new
    runner.push(samples(0, (S, 4.0), (3 * S, 6.0)), T0)
    runner.push(samples(1, (S, 4.0), (3 * S, 6.0)), T0)
    runner.run(T0)
    assert [t for t, _, _ in new.seen] == [T0 + 3 * S]


def test_a_result_too_large_for_its_resolution_is_marked_and_stops_nothing():
    class Diverged(Model):
        def step(self, t_ns, u, y):
            return replace(super().step(t_ns, u, y), estimate=np.array([1e307, 1.0]))

    runner = TwinRunner(WIRING, Slot(Diverged((Port("pump"),), (Port("level1"), Port("level2")))))
    runner.publish_as(catalogue("level1", "level2"))
    runner.run(T0)
    for signal in (0, 1):
        runner.push(samples(signal, (0, 5.0), (S, 5.0)), T0)
    found = runner.run(T0)[0]
    assert math.isnan(found.value[0])
    assert found.quality[0] == bad(QualityReason.DECODE)


def test_settling_estimates_are_marked_uncertain():
    runner = TwinRunner(WIRING, Slot(tanks(settling=True)))
    runner.publish_as(catalogue("level2"))
    runner.run(T0)
    runner.push(samples(0, (0, 5.0), (S, 5.0)), T0)
    runner.push(samples(1, (0, 0.25), (S, 0.25)), T0)
    assert set(runner.run(T0)[0].quality.tolist()) == {uncertain(QualityReason.SETTLING)}
    assert GOOD == 0


class Soaking(Slot):
    """A slot whose model is on trial beside the one before it."""

    def __init__(self, model, last_good):
        super().__init__(model)
        self.last_good = last_good

    def failed(self, error):
        self.model, self.last_good = self.last_good, None
        return True


def test_in_a_soak_both_models_see_the_same_frames_and_the_old_one_goes_on_in_the_tick_that_fails():
    class Broken(Model):
        def step(self, t_ns, u, y):
            if len(self.seen) == 1:
                raise ValueError("a defect")
            return super().step(t_ns, u, y)

    old, new = tanks(), Broken((Port("pump"),), (Port("level2"),))
    slot = Soaking(new, old)
    runner = TwinRunner(WIRING, slot)
    runner.publish_as(catalogue("level1", "level2"))
    runner.run(T0)
    for signal in (0, 1):
        runner.push(samples(signal, (0, 5.0), (S, 6.0), (2 * S, 7.0)), T0)
    runner.close(T0)
    said = []
    while dues := runner.due():
        results = []
        for due in dues:
            try:
                results.append(due.estimator.step(due.t_ns, due.u, due.y))
            except ValueError as error:
                results.append(error)
        said.append(runner.take(dues, results))
    assert [t for t, _, _ in new.seen] == [T0]
    assert [t for t, _, _ in old.seen] == [T0, T0 + S, T0 + 2 * S]
    assert slot.current() is old
    assert [len(batches) for batches in said] == [1, 1, 1]
    assert runner.steps == 3


def test_a_clock_that_was_put_back_in_a_soak_leaves_the_old_model_ready():
    old, new = tanks(), tanks()
    runner = TwinRunner(WIRING, Soaking(new, old))
    for signal in (0, 1):
        runner.push(samples(signal, (0, 5.0), (S, 6.0)), T0)
    runner.run(T0)
    assert len(new.seen) > 0
    runner.close(T0 - 3600 * S)
    assert (new.rejoined, old.rejoined) == (1, 1)


def test_ticks_begin_anew_when_a_clock_that_was_never_set_is_set():
    model = tanks()
    runner = TwinRunner(WIRING, Slot(model))
    runner.run(0)
    for signal in (0, 1):
        runner.push(Batch.of(Kind.FLOAT, [signal] * 2, [5.0] * 2, [0] * 2, [20 * S, 21 * S]), 21 * S)
    runner.run(21 * S)
    set_ns = BUILD_NS + 86_400 * S
    runner.run(set_ns)
    assert model.rejoined == 1
    for signal in (0, 1):
        runner.push(Batch.of(Kind.FLOAT, [signal], [6.0], [0], [set_ns + S]), set_ns + S)
    runner.run(set_ns + S)
    assert [t for t, _, _ in model.seen] == [20 * S, 21 * S, set_ns + S]
