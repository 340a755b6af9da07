"""Conditions, delays and states of alarms, from samples to records."""

from __future__ import annotations

import pytest

from tests.edge.alarms.conftest import told
from twinmodel.alarms.records import decode, encode
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityReason, bad, uncertain

HIGH = "tank-high: {on: press.level, high: 9.5, hysteresis: 0.2, priority: high}"
SLOW = "tank-high: {on: press.level, high: 9.5, delay: 5s, off_delay: 10s}"


def test_value_above_its_limit_raises_an_alarm_at_once(plant):
    p = plant(HIGH)
    (record,) = p.say("press.level", 9.0, 9.7)
    assert (record.alarm, record.state, record.active, record.occurrence) == ("tank-high", "UNACK", True, 1)
    assert (record.value, record.limit, record.unit, record.severity) == (9.7, 9.5, "m", 700)
    assert record.text == "press.level is 9.7 m, above 9.5 m"
    assert record.at_ns == p.clock.wall_ns()
    assert decode(encode(record)) == record


def test_limit_itself_is_no_alarm(plant):
    assert plant(HIGH).say("press.level", 9.5) == []


def test_value_must_come_back_by_the_hysteresis(plant):
    p = plant(HIGH)
    p.say("press.level", 9.7)
    assert p.say("press.level", 9.45, 9.31) == []
    assert told(p.say("press.level", 9.3)) == [("tank-high", "RTNUN")]


def test_value_that_goes_through_a_limit_and_back_within_one_batch_is_told(plant):
    p = plant(HIGH)
    assert told(p.say("press.level", 1.0, 9.9, 1.0, 9.9, 1.0)) == [
        ("tank-high", state) for state in ("UNACK", "RTNUN", "UNACK", "RTNUN")
    ]


def test_acknowledged_alarm_becomes_normal_with_its_condition(plant):
    p = plant(HIGH)
    p.say("press.level", 9.7)
    (record,) = p.ask("ack", "tank-high", occurrence=1, by="ann", comment="seen")
    assert (record.state, record.by, record.comment) == ("ACKED", "ann", "seen")
    assert told(p.say("press.level", 1.0)) == [("tank-high", "NORM")]


def test_alarm_waits_for_its_delay(plant):
    p = plant(SLOW)
    assert p.say("press.level", 9.7) == []
    began_ns = p.clock.wall_ns()
    assert p.wait(4.75) == []
    (record,) = p.wait(0.25)
    assert (record.state, record.at_ns) == ("UNACK", began_ns + 5 * SECOND_NS)


def test_condition_shorter_than_the_delay_is_no_alarm(plant):
    p = plant(SLOW)
    p.say("press.level", 9.7)
    p.wait(4)
    p.say("press.level", 1.0)
    assert p.wait(20) == []


def test_alarm_clears_only_after_its_off_delay(plant):
    p = plant(SLOW)
    p.say("press.level", 9.7)
    p.wait(5)
    p.say("press.level", 1.0)
    p.wait(9)
    p.say("press.level", 9.7)
    assert p.wait(20) == []
    p.say("press.level", 1.0)
    assert told(p.wait(10)) == [("tank-high", "RTNUN")]


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_wall_clock_that_jumps_during_a_delay_changes_nothing_about_it(plant, jump_s):
    p = plant(SLOW)
    p.say("press.level", 9.7)
    p.wait(2)
    p.clock.jump_wall(jump_s * SECOND_NS)
    p.say("press.level", 9.8)
    assert p.wait(2.75) == []
    assert told(p.wait(0.25)) == [("tank-high", "UNACK")]


def test_values_after_a_clock_was_put_back_are_judged(plant):
    p = plant(HIGH)
    p.say("press.level", 1.0)
    p.clock.jump_wall(-3600 * SECOND_NS)
    assert told(p.say("press.level", 9.7)) == [("tank-high", "UNACK")]


def test_late_samples_that_held_long_enough_are_told_with_their_own_times(plant):
    p = plant(SLOW)
    (up,) = p.say("press.level", 9.7, 9.7, 9.7, 1.0, 1.0, 1.0, 1.0, 1.0, behind_s=600, every_s=5)
    now_ns = p.clock.wall_ns()
    (down,) = p.wait(0.25)
    assert (up.state, down.state) == ("UNACK", "RTNUN")
    assert up.at_ns == now_ns - 630 * SECOND_NS
    assert down.at_ns == now_ns - 610 * SECOND_NS


def test_sample_older_than_the_newest_changes_nothing(plant):
    p = plant(HIGH)
    p.say("press.level", 1.0)
    assert p.say("press.level", 9.7, behind_s=60) == []


def test_value_of_bad_quality_changes_nothing(plant):
    p = plant(HIGH)
    p.say("press.level", 9.7)
    assert p.say("press.level", 1.0, quality=bad(QualityReason.OUT_OF_RANGE)) == []
    assert told(p.say("press.level", 1.0, quality=uncertain(QualityReason.CLOCK))) == [("tank-high", "RTNUN")]


def test_outer_limit_covers_the_inner_one(plant):
    p = plant("tank: {on: press.level, low: 1, high: 9, high_high: 9.8}")
    assert told(p.say("press.level", 9.1)) == [("tank.high", "UNACK")]
    (outer, inner) = p.say("press.level", 9.9)
    assert (outer.alarm, outer.state, outer.severity) == ("tank.high_high", "UNACK", 700)
    assert (inner.alarm, inner.state, inner.cause) == ("tank.high", "SUPPRESSED", "tank.high_high")
    assert told(p.say("press.level", 9.5)) == [("tank.high_high", "RTNUN"), ("tank.high", "UNACK")]
    assert told(p.say("press.level", 0.5)) == [("tank.low", "UNACK"), ("tank.high", "RTNUN")]


def test_both_limits_crossed_at_once_are_one_line(plant):
    p = plant("tank: {on: press.level, high: 9, high_high: 9.8}")
    assert told(p.say("press.level", 9.9)) == [("tank.high_high", "UNACK")]


def test_latched_alarm_stays_until_it_is_reset(plant):
    p = plant("trip: {on: press.mode, is: tripped, latch: true}")
    (record,) = p.say("press.mode", 2)
    assert (record.value, record.text) == ("tripped", "press.mode is tripped")
    assert told(p.say("press.mode", 1)) == [("trip", "UNACK")]
    assert told(p.ask("ack", "trip")) == [("trip", "NORM")]


def test_alarm_that_nobody_must_acknowledge_goes_by_itself(plant):
    p = plant("stopped: {on: press.running, is: false, ack: false}")
    assert told(p.say("press.running", False, True)) == [("stopped", "UNACK"), ("stopped", "NORM")]


def test_text_is_compared_as_it_is(plant):
    p = plant("word: {on: press.word, is: [FAULT, STOP]}")
    assert told(p.say("press.word", "RUN", "STOP", "FAULT", "RUN")) == [("word", "UNACK"), ("word", "RTNUN")]


def test_change_that_is_too_fast_is_told_in_either_direction(plant):
    p = plant("jump: {on: press.level, rate: 2/min}")
    up, down, again = p.say("press.level", 1.0, 1.1, 2.1, 2.1, 1.1, every_s=10)
    assert [r.state for r in (up, down, again)] == ["UNACK", "RTNUN", "UNACK"]
    assert (up.value, again.value) == (pytest.approx(0.1), pytest.approx(0.1))


def test_doubtful_signal_is_told_after_its_delay(plant):
    p = plant("dead: {on: press.level, quality: stale, delay: 30s}")
    p.doubt("press.level", bad(QualityReason.DECODE))
    assert p.wait(40) == []
    p.doubt("press.level", bad(QualityReason.STALE))
    (record,) = p.wait(31)
    assert (record.state, record.quality, record.value) == ("UNACK", "bad(STALE)", None)
    p.say("press.level", 1.0)
    assert told(p.wait(0.25)) == [("dead", "RTNUN")]


def test_rule_for_many_signals_makes_an_alarm_of_each(plant):
    p = plant("deep: {on: 'press.level*', low: 1}")
    assert told(p.say("press.level2", 0.5)) == [("deep:press.level2", "UNACK")]
    assert sorted(p.engine.alarms) == ["deep:press.level", "deep:press.level2"]


def test_suppressed_by_design_is_seen_only_while_it_would_stand(plant):
    p = plant("low: {on: press.level, low: 1, unless: press.running == 0}")
    p.say("press.running", False)
    assert p.state("low") == "SUPPRESSED"
    (record,) = p.say("press.level", 0.5)
    assert (record.state, record.active, record.cause) == ("SUPPRESSED", True, "")
    assert told(p.say("press.running", True)) == [("low", "UNACK")]
    assert told(p.say("press.running", False)) == [("low", "SUPPRESSED")]
    assert told(p.say("press.level", 5.0)) == [("low", "SUPPRESSED")]
    assert told(p.say("press.running", True)) == [("low", "NORM")]


def test_condition_for_an_alarm_must_hold(plant):
    p = plant("low: {on: press.level, low: 1, when: [press.level2 > 3, press.mode == on]}")
    assert told(p.say("press.level", 0.5)) == [("low", "UNACK")]
    assert told(p.say("press.level2", 1.0)) == [("low", "SUPPRESSED")]
    assert p.say("press.mode", 1) == []
    assert told(p.say("press.level2", 4.0)) == [("low", "UNACK")]
