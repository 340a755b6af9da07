"""Each rule by itself: what it lets through, what it refuses, and with which value and limit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.edge.commands.test_guard_machine import Facts
from twinedge.commands import guard
from twinedge.commands.desk import Desk
from twinedge.commands.guard import Reading
from twinedge.commands.ledger import Ledger
from twinedge.commands.rules import Bound, Condition, Rule, commandables_of
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.errors import TwinError
from twinmodel.quality import QualityReason, bad, uncertain
from twinmodel.signal import Kind
from twinsync.command import Command, Commandable, CommandKind
from twinsync.command_wire import commandables_from_proto, commandables_to_proto

S = SECOND_NS
NOW = 100 * S
VALUE = Bound("d.x", Kind.FLOAT, "bar", 0.0, 10.0)
RULE = Rule("d.x", "d", "x", VALUE, two_persons=False, fresh_ns=5 * S)
CALL = Rule("d.m", "d", "m", None, (Bound("d.m: n", Kind.INT, "", 1, 9), Bound("d.m: on", Kind.BOOL)), two_persons=True)


def facts(twin=(), frozen="", **signals):
    known = Facts()
    known.known = {f"d.{name}": reading for name, reading in signals.items()}
    known.states, known.forked = frozenset(twin), frozen
    return known


def reading(value, quality=0, age_s=0.0):
    return Reading(value, quality, round(NOW - age_s * S))


def command(value=5.0, target="d.x", kind=CommandKind.WRITE, left_s=10.0, by="ann", approved=()):
    return Command("c", 1, kind, target, value, round(left_s * S), 0, by, tuple(approved))


def judged(rule, known, told=None, sent=None, ages=()):
    """Reason of the refusal, or "" when it passes."""
    try:
        order = guard.admit({"d.x": rule, "d.m": CALL}, sent or command(), known, NOW, 60 * S)
        guard.begin(order, known, NOW, ages, told)
    except TwinError as refused:
        return refused.reason if refused.hint else f"{refused.reason} without a hint"
    return ""


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (command(), ""),
        (command(0), ""),
        (command(10.1), "COMMAND_OUT_OF_RANGE"),
        (command(True), "COMMAND_INVALID"),
        (command([1.0]), "COMMAND_INVALID"),
        (command(float("inf")), "COMMAND_INVALID"),
        (command(target="d.y"), "COMMAND_NOT_ALLOWED"),
        (command(kind=CommandKind.CALL), "COMMAND_INVALID"),
        (command(kind=CommandKind.UNSPECIFIED), "COMMAND_INVALID"),
        (command(kind=CommandKind.HOLD), "COMMAND_NOT_ALLOWED"),
        (command(left_s=0), "COMMAND_LATE"),
        (command(left_s=61), "COMMAND_INVALID"),
        (command(by=" "), "COMMAND_UNAPPROVED"),
        (command([3, True], "d.m", CommandKind.CALL, approved=["bob"]), ""),
        (command([3, True], "d.m", CommandKind.CALL, approved=["Ann", " ann"]), "COMMAND_UNAPPROVED"),
        (command([0, True], "d.m", CommandKind.CALL, approved=["bob"]), "COMMAND_OUT_OF_RANGE"),
        (command([3, 2], "d.m", CommandKind.CALL, approved=["bob"]), "COMMAND_INVALID"),
        (command([3], "d.m", CommandKind.CALL, approved=["bob"]), "COMMAND_INVALID"),
    ],
)
def test_what_a_command_says_is_judged_when_it_comes(sent, reason):
    assert judged(RULE, facts(), sent=sent) == reason


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (reading(1), ""),
        (reading(0), "COMMAND_INTERLOCKED"),
        (reading(1, uncertain(QualityReason.SPIKE)), "COMMAND_INTERLOCKED"),
        (reading(1, bad(QualityReason.NOT_CONNECTED)), "COMMAND_INTERLOCKED"),
        (reading(1, age_s=5.1), "COMMAND_INTERLOCKED"),
        (None, "COMMAND_INTERLOCKED"),
    ],
)
def test_an_interlock_needs_a_value_that_is_good_and_fresh(shown, reason):
    rule = replace(RULE, conditions=(Condition("d.run", wanted=True, fresh_ns=5 * S),))
    known = facts() if shown is None else facts(run=shown)
    assert judged(rule, known) == reason
    contrary = replace(RULE, conditions=(Condition("d.run", wanted=False, fresh_ns=0),))
    if shown is not None and not shown.quality:
        assert (judged(contrary, known) == "") is (not shown.value)


def test_quality_of_the_point_and_states_of_a_model_are_interlocks_of_the_site():
    rule = replace(RULE, needs_good=True, twin="tank", forbidden=frozenset({"drifting", "silent"}))
    assert judged(rule, facts(x=reading(5.0))) == ""
    assert judged(rule, facts(x=reading(5.0), twin=["settling"])) == ""
    for states in (["drifting"], ["silent"], ["settling", "drifting"]):
        assert judged(rule, facts(x=reading(5.0), twin=states)) == "COMMAND_INTERLOCKED"
    assert judged(rule, facts(x=reading(5.0, bad(QualityReason.STALE)))) == "COMMAND_INTERLOCKED"


def test_steps_count_from_what_is_shown_and_from_what_was_told_since():
    rule = replace(RULE, step=2.0)
    assert judged(rule, facts(x=reading(4.0))) == ""
    assert judged(rule, facts(x=reading(2.9))) == "COMMAND_STEP_TOO_LARGE"
    assert judged(rule, facts(x=reading(4.0)), told=8.0) == "COMMAND_STEP_TOO_LARGE"
    assert judged(rule, facts()) == "COMMAND_STEP_TOO_LARGE"


def test_a_rate_counts_what_began_within_its_time():
    rule = replace(RULE, rate=(2, 60 * S))
    assert judged(rule, facts(), ages=[10 * S, 61 * S]) == ""
    assert judged(rule, facts(), ages=[10 * S, 59 * S]) == "COMMAND_RATE_EXCEEDED"


def test_a_gateway_with_a_double_is_frozen():
    assert judged(RULE, facts(frozen="another gateway has this identity")) == "COMMAND_FROZEN"


def test_a_refusal_carries_value_and_limit():
    with pytest.raises(TwinError) as refused:
        guard.admit({"d.x": RULE}, command(99.0), facts(), NOW, 60 * S)
    assert (refused.value.facts["value"], refused.value.facts["limit"]) == ("99.0", "0 .. 10 bar")
    assert refused.value.message == "d.x takes 0 .. 10 bar; 99 was sent"


def test_coordinator_is_told_of_class_unit_and_range_and_again_only_where_that_changed():
    desk = Desk(Ledger(Path("/nonexistent")), Facts(), SystemClock(), machine="", report=print, reach=print)
    desk._readings = SimpleNamespace(want=lambda _signals: None)
    desk.use({"d.x": RULE, "d.m": CALL}, queue=1, longest_ns=S)
    told = (Commandable("d.x", False, "bar", 0.0, 10.0), Commandable("d.m", True))
    assert (desk.commandables(), desk.commandables()) == (told, None)
    desk.use({"d.x": replace(RULE, step=2.0), "d.m": CALL}, queue=1, longest_ns=S)
    assert desk.commandables() is None, "the step is no concern of the coordinator's"
    desk.use({"d.x": replace(RULE, two_persons=True)}, queue=1, longest_ns=S)
    assert desk.commandables() == (Commandable("d.x", True, "bar", 0.0, 10.0),)
    desk.states()
    assert desk.commandables() is not None, "another session has begun"


def test_range_that_is_open_on_one_side_is_told_as_one_the_coordinator_takes():
    open_above = replace(RULE, value=replace(RULE.value, high=math.inf))
    told = commandables_of({"d.x": open_above})
    assert told == (Commandable("d.x", False, "bar", 0.0, None),)
    assert commandables_from_proto(commandables_to_proto(told)) == told
