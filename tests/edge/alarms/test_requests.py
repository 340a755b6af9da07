"""What people ask of alarms, and what a restart or another configuration leaves of it."""

from __future__ import annotations

import json

import pytest

from tests.edge.alarms.conftest import Plant, told
from twinedge.alarms.requests import ask, request_of, request_of_directive
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, InputError, MissingError

HIGH = "tank-high: {on: press.level, high: 9.5}"


@pytest.fixture
def risen(plant):
    p = plant(HIGH)
    p.wait(1)
    p.say("press.level", 9.7)
    return p


def test_acknowledgement_of_an_earlier_occurrence_is_refused(risen):
    risen.say("press.level", 1.0, 9.7)
    with pytest.raises(ConflictError, match="ALARM_CHANGED") as caught:
        risen.ask("ack", "tank-high", occurrence=1)
    assert caught.value.facts["occurrence"] == 2
    assert risen.state("tank-high") == "UNACK"


def test_second_acknowledgement_changes_nothing(risen):
    risen.ask("ack", "tank-high", by="ann")
    assert risen.ask("ack", "tank-high", by="bob") == []


def test_directive_that_finds_it_acknowledged_on_site_is_done_and_who_was_first_stays(risen):
    (record,) = risen.ask("ack", "tank-high", by="bob", comment="seen")
    request = request_of_directive("@alarm/tank-high", b'{"do":"ack","occurrence":1,"by":"ann","comment":"on it"}')
    again = ask(risen.engine, request, risen.now)
    assert (again.state, again.by, again.comment) == (record.state, "bob", "seen")
    assert risen.engine.take() == []


def test_unknown_alarm_is_refused_with_the_nearest_name(risen):
    with pytest.raises(MissingError, match="UNKNOWN_ALARM") as caught:
        risen.ask("ack", "tank-hihg")
    assert caught.value.hint == "did you mean `tank-high`?"


@pytest.mark.parametrize("for_s", [0, 86_401])
def test_shelving_for_no_time_or_too_long_is_refused(risen, for_s):
    with pytest.raises(InputError, match="VALUE_INVALID"):
        risen.ask("shelve", "tank-high", for_s=for_s)


def test_shelved_alarm_comes_back_by_itself_if_it_still_stands(risen):
    (record,) = risen.ask("shelve", "tank-high", for_s=600, by="ann")
    assert (record.state, record.until_ns) == ("SHELVED", risen.clock.wall_ns() + 600 * SECOND_NS)
    assert risen.wait(599) == []
    assert told(risen.wait(2)) == [("tank-high", "UNACK")]


def test_shelved_alarm_whose_condition_has_gone_ends_normal(risen):
    risen.ask("shelve", "tank-high", for_s=600)
    risen.say("press.level", 1.0)
    assert told(risen.wait(601)) == [("tank-high", "NORM")]


def test_clock_that_is_put_back_does_not_prolong_shelving(risen):
    risen.ask("shelve", "tank-high", for_s=600)
    risen.clock.jump_wall(-86_400 * SECOND_NS)
    assert told(risen.wait(601)) == [("tank-high", "UNACK")]


def test_alarm_out_of_service_is_told_only_when_it_is_back(risen):
    assert told(risen.ask("out_of_service", "tank-high")) == [("tank-high", "OUT_OF_SERVICE")]
    risen.say("press.level", 1.0, 9.7)
    assert told(risen.ask("in_service", "tank-high")) == [("tank-high", "UNACK")]


def test_comment_is_kept_with_the_state_it_was_made_in(risen):
    (record,) = risen.ask("comment", "tank-high", by="ann", comment="pump is being mended")
    assert (record.state, record.comment) == ("UNACK", "pump is being mended")


def test_restart_keeps_acknowledgement_and_occurrence(risen):
    risen.ask("ack", "tank-high", by="ann", comment="seen")
    after = risen.again()
    (again,) = after.engine.take()
    assert (again.state, again.occurrence, again.by, again.comment) == ("ACKED", 1, "ann", "seen")
    assert after.say("press.level", 9.8) == []
    assert told(after.say("press.level", 1.0)) == [("tank-high", "NORM")]
    (record,) = after.say("press.level", 9.8)
    assert record.occurrence == 2


def test_shelving_runs_on_over_a_restart(risen):
    risen.ask("shelve", "tank-high", for_s=600)
    risen.wait(300)
    after = risen.again()
    assert told(after.engine.take()) == [("tank-high", "SHELVED")]
    after.say("press.level", 9.8)
    assert after.wait(290) == []
    assert told(after.wait(12)) == [("tank-high", "UNACK")]


def test_shelving_that_ended_while_the_agent_was_away_has_ended(risen):
    risen.ask("shelve", "tank-high", for_s=600)
    risen.clock.advance(700 * SECOND_NS)
    after = risen.again()
    assert told(after.engine.take()) == [("tank-high", "SHELVED")]
    assert told(after.wait(1)) == [("tank-high", "UNACK")]


def test_restart_before_the_clock_is_set_shelves_for_no_longer_than_allowed(plant):
    p = plant("tank-high: {on: press.level, high: 9.5, shelve_max: 10min}")
    p.say("press.level", 9.7)
    p.ask("shelve", "tank-high", for_s=300)
    p.clock.jump_wall(-p.clock.wall_ns())
    after = p.again()
    after.engine.take()
    assert told(after.wait(601)) == [("tank-high", "UNACK")]


def test_suppressed_alarm_stays_so_over_a_restart_until_its_condition_is_known(plant):
    p = plant("low: {on: press.level, low: 1, unless: press.running == 0}")
    p.wait(1)
    p.say("press.running", False)
    p.say("press.level", 0.5)
    after = p.again()
    assert told(after.engine.take()) == [("low", "SUPPRESSED")]
    assert after.wait(10) == []
    assert told(after.say("press.running", True)) == [("low", "UNACK")]


def test_suppression_that_nothing_confirms_ends_a_while_after_the_start(plant):
    p = plant("low: {on: press.level, low: 1, unless: press.running == 0}")
    p.wait(1)
    p.say("press.running", False)
    p.say("press.level", 0.5)
    after = p.again()
    after.engine.take()
    assert told(after.wait(61)) == [("low", "UNACK")]


def test_damaged_memory_of_one_alarm_does_not_hurt_the_others(risen):
    saved = risen.engine.saved()
    saved["tank-high"]["occurrence"] = "many"
    assert Plant(risen.loaded, saved, risen.clock).state("tank-high") == "NORM"


def test_other_rules_leave_an_alarm_alone_whose_rule_stays(risen, site):
    risen.ask("ack", "tank-high")
    risen.configure(site([HIGH, "other: {on: press.level, low: 1}"]))
    assert risen.engine.take() == []
    assert risen.state("tank-high") == "ACKED"
    assert told(risen.say("press.level", 0.5)) == [("tank-high", "NORM"), ("other", "UNACK")]


def test_changed_rule_is_judged_by_the_value_that_stays(risen, site):
    risen.say("press.level2", 3.0)
    risen.say("press.word", "STOP")
    risen.say("press.running", True)
    risen.configure(
        site(
            [
                "tank-high: {on: press.level, high: 20}",
                "other: {on: press.level2, high: 1}",
                "word: {on: press.word, is: STOP}",
                "runs: {on: press.running, is: true}",
            ]
        )
    )
    records = risen.engine.take()
    assert sorted(told(records)) == [("other", "UNACK"), ("runs", "UNACK"), ("tank-high", "RTNUN"), ("word", "UNACK")]
    assert {r.alarm: r.value for r in records} == {"tank-high": 9.7, "other": 3.0, "word": "STOP", "runs": True}


def test_changed_rule_waits_for_its_delay(risen, site):
    risen.configure(site(["tank-high: {on: press.level, high: 9.5}", "low: {on: press.level, low: 10, delay: 5s}"]))
    assert risen.wait(4) == []
    assert told(risen.wait(2)) == [("low", "UNACK")]


def test_rule_that_is_taken_away_ends_its_alarm(risen, site):
    risen.configure(site(["other: {on: press.level, low: 1}"]))
    (record,) = risen.engine.take()
    assert (record.alarm, record.state, record.active) == ("tank-high", "NORM", False)


def test_rule_that_was_taken_away_while_the_agent_was_stopped_ends_its_alarm(risen, site):
    after = risen.again(site(["other: {on: press.level, low: 1}"]))
    assert told(after.wait(61)) == [("tank-high", "NORM")]
    assert "tank-high" not in after.engine.saved()


def test_line_for_many_is_taken_up_again_after_a_restart(plant):
    p = plant(rest="alarm_defaults: {communication: {delay: 30s}}", devices=("a", "b"))
    p.away = {"a", "b"}
    p.wait(40)
    p.ask("ack", "communication.gateway")
    after = p.again()
    after.away = {"a", "b"}
    assert told(after.wait(5)) == [("communication.gateway", "ACKED")]
    after.away = set()
    assert told(after.wait(10)) == [("communication.gateway", "NORM")]


def test_request_of_a_directive_names_its_alarm():
    content = json.dumps({"do": "shelve", "occurrence": 3, "for_s": 1.5, "by": "ann", "comment": "x"}).encode()
    request = request_of_directive("@alarm/deep:press.level", content)
    assert (request.alarm, request.occurrence, request.for_ns) == ("deep:press.level", 3, 1_500_000_000)


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{}", b'{"do":"explode"}', b'{"do":"ack","occurrence":"1"}', b"\xff", b'{"do":"ack","by":1}'],
)
def test_directive_that_makes_no_sense_is_refused(content):
    with pytest.raises(InputError, match="VALUE_INVALID"):
        request_of_directive("@alarm/x", content)


@pytest.mark.parametrize("for_s", ["1h", True, -1, float("nan"), float("inf"), 1e30])
def test_time_that_is_none_is_refused(for_s):
    with pytest.raises(InputError, match="for_s"):
        request_of("x", {"do": "shelve", "for_s": for_s})
