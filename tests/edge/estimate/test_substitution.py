"""What stands in for a measurement: when it begins, when it ends, and that no model ever sees it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.edge.estimate.test_runner import T0, WIRING, Model, Port, S, Slot, samples
from twinedge.estimate.runner import TwinRunner
from twinedge.estimate.substitution import ENDED, STALE, SUBSTITUTED, Substitution
from twinmodel.quality import QualityReason, bad
from twinmodel.signal import OUTPUT_ROLES, SUBSTITUTE, Batch, Catalogue, Kind, Signal, Stream, TwinBinding

NAN = math.nan


def judged(substitution, *ticks):
    """What is said at each tick, given as measured, estimate, sigma."""
    return [
        None if (said := substitution.judge("level2", T0 + k * S, *tick)) is None else said[1]
        for k, tick in enumerate(ticks)
    ]


def test_it_stands_in_while_the_measurement_is_missing_and_ends_at_the_first_one():
    substitution = Substitution("tank", {"level2": 0})
    missing, there = (NAN, 0.5, 0.1), (0.4, 0.5, 0.1)
    assert judged(substitution, there, missing, missing, there, there) == [None, SUBSTITUTED, SUBSTITUTED, ENDED, None]
    assert substitution.ticks == 2
    assert not substitution.since_ns()


def test_after_its_limit_it_is_stale_once_and_ends_when_the_sensor_is_back():
    substitution = Substitution("tank", {"level2": 2 * S})
    missing, there = (NAN, 0.5, 0.1), (0.4, 0.5, 0.1)
    said = judged(substitution, missing, missing, missing, missing, missing, there, missing)
    assert said == [SUBSTITUTED, SUBSTITUTED, SUBSTITUTED, STALE, None, ENDED, SUBSTITUTED]


@pytest.mark.parametrize("nothing", [(NAN, NAN, 0.1), (NAN, 0.5, NAN), (NAN, math.inf, 0.1)])
def test_what_the_model_does_not_know_stands_in_for_nothing(nothing):
    substitution = Substitution("tank", {"level2": 0})
    assert judged(substitution, nothing, (NAN, 0.5, 0.1), nothing, nothing) == [None, SUBSTITUTED, STALE, None]


def catalogue():
    roles = (*OUTPUT_ROLES, SUBSTITUTE)
    signals = [Signal(0, "d.pump"), Signal(1, "d.level2")]
    signals += [Signal(2 + k, f"tank/level2#{role}", stream=Stream.STATE, exponent=3) for k, role in enumerate(roles)]
    return Catalogue(tuple(signals), (TwinBinding("tank", "two-tanks", "", {}, ("level2",), {}),))


def runner(limit_ns=0, substitutes=True):
    model = Model((Port("pump"),), (Port("level2"),))
    wiring = replace(WIRING, substitutes={"level2": limit_ns} if substitutes else {})
    made = TwinRunner(wiring, Slot(model))
    made.publish_as(catalogue())
    made.run(T0)
    return made, model


def stand_ins(found):
    """Value and quality of each `#substitute`."""
    mine = catalogue().by_name["tank/level2#substitute"].id
    return [
        (value, code)
        for batch in found
        for s, value, code in zip(batch.signal.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True)
        if s == mine
    ]


def missing(t, code):
    return Batch.of(Kind.FLOAT, [1], [NAN], [code], [T0 + t])


@pytest.mark.parametrize("reason", ["NOT_CONNECTED", "STALE", "DEVICE_FAULT", "ABSENT", "OUT_OF_RANGE", "SPIKE"])
def test_whatever_makes_a_measurement_bad_has_the_model_stand_in(reason):
    made, model = runner()
    made.push(samples(0, (0, 5.0), (S, 5.0), (2 * S, 5.0)), T0)
    made.push(samples(1, (0, 0.25)), T0)
    made.push(missing(S, bad(QualityReason[reason])), T0)
    made.push(samples(1, (2 * S, 0.26)), T0)
    said = stand_ins(made.run(T0))
    assert said[0] == (pytest.approx(1.235), SUBSTITUTED)
    assert (math.isnan(said[1][0]), said[1][1]) == (True, ENDED)
    assert [y for _, _, (y,) in model.seen] == pytest.approx([0.25, NAN, 0.26], nan_ok=True)


def test_a_measurement_that_only_got_old_is_substituted_too():
    made, _ = runner()
    made.push(samples(0, *((k * S, 5.0) for k in range(8))), T0)
    made.push(samples(1, (0, 0.25)), T0)
    said = stand_ins(made.run(T0 + 7 * S))
    assert [code for _, code in said] == [SUBSTITUTED] * 2  # ticks 4 and 5; the age limit is 3 s, ticks 6 and 7 wait


def test_no_model_ever_sees_what_stands_in():
    """With and without substitution a model is given the same bits: it cannot eat its own estimate."""
    runs = []
    for substitutes in (True, False):
        made, model = runner(substitutes=substitutes)
        rng = np.random.default_rng(1)
        for k in range(60):
            made.push(samples(0, (k * S, float(rng.normal()))), T0 + k * S)
            dead = 20 <= k < 40
            made.push(missing(k * S, bad(QualityReason.STALE)) if dead else samples(1, (k * S, 0.1 * k)), T0 + k * S)
            for batch in made.run(T0 + k * S):
                made.push(batch, T0 + k * S)  # even if somebody handed it back
        runs.append((model.seen, made.substitution.ticks))
    np.testing.assert_array_equal([np.hstack(s[1:]) for s in runs[0][0]], [np.hstack(s[1:]) for s in runs[1][0]])
    assert [ticks for _, ticks in runs] == [20, 0]


def test_a_model_that_rests_withdraws_what_it_stood_in_for():
    made, _ = runner()
    made.push(samples(0, (0, 5.0), (S, 5.0)), T0)
    made.push(missing(0, bad(QualityReason.STALE)), T0)
    made.push(missing(S, bad(QualityReason.STALE)), T0)
    assert [code for _, code in stand_ins(made.run(T0))] == [SUBSTITUTED] * 2
    assert [code for _, code in stand_ins(made.withdraw(T0 + 5 * S))] == [STALE]
    assert made.withdraw(T0 + 6 * S) == []
