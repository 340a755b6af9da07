"""Every transition of ISA-18.2, one by one and in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.alarms.states import (
    Manner,
    Standing,
    State,
    acknowledged,
    cleared,
    put_back,
    raised,
    shelved,
    suppressed,
    taken_out,
    unshelved,
    unsuppressed,
)

PLAIN = Manner()
STEPS = {
    "raise": raised,
    "clear": cleared,
    "ack": lambda s, _: acknowledged(s),
    "shelve": lambda s, _: shelved(s, 99),
    "unshelve": lambda s, _: unshelved(s),
    "suppress": lambda s, _: suppressed(s),
    "unsuppress": lambda s, _: unsuppressed(s),
    "take out": lambda s, _: taken_out(s),
    "put back": lambda s, _: put_back(s),
}


def after(steps, manner=PLAIN):
    standing = Standing()
    for step in steps.split(", ") if steps else ():
        standing = STEPS[step](standing, manner)
    return standing


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ("", "NORM"),
        ("raise", "UNACK"),
        ("raise, raise", "UNACK"),
        ("raise, ack", "ACKED"),
        ("raise, ack, clear", "NORM"),
        ("raise, clear", "RTNUN"),
        ("raise, clear, ack", "NORM"),
        ("raise, clear, raise", "UNACK"),
        ("clear", "NORM"),
        ("ack", "NORM"),
        ("raise, ack, ack", "ACKED"),
        # covers
        ("shelve", "SHELVED"),
        ("raise, shelve", "SHELVED"),
        ("raise, clear, shelve", "SHELVED"),
        ("raise, ack, shelve", "SHELVED"),
        ("shelve, raise", "SHELVED"),
        ("shelve, raise, unshelve", "UNACK"),
        ("raise, ack, shelve, unshelve", "UNACK"),
        ("raise, shelve, clear, unshelve", "NORM"),
        ("raise, clear, shelve, unshelve", "NORM"),
        ("shelve, unshelve", "NORM"),
        ("raise, ack, unshelve", "ACKED"),
        ("suppress", "SUPPRESSED"),
        ("suppress, raise, unsuppress", "UNACK"),
        ("raise, suppress, clear, unsuppress", "NORM"),
        ("take out", "OUT_OF_SERVICE"),
        ("take out, raise, put back", "UNACK"),
        ("raise, take out, clear, put back", "NORM"),
        # one cover over another
        ("shelve, suppress", "SUPPRESSED"),
        ("shelve, take out", "OUT_OF_SERVICE"),
        ("suppress, take out, put back", "SUPPRESSED"),
        ("raise, shelve, suppress, unsuppress", "SHELVED"),
        ("raise, shelve, suppress, unshelve", "SUPPRESSED"),
        ("raise, shelve, suppress, unshelve, unsuppress", "UNACK"),
    ],
)
def test_steps_lead_to_the_state_of_the_standard(steps, state):
    assert after(steps).state is State(state)


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ("raise, clear", "UNACK"),
        ("raise, ack, clear", "ACKED"),
        ("raise, ack, clear, ack", "NORM"),
        ("raise, clear, ack", "NORM"),
        ("raise, ack, clear, raise", "UNACK"),
        ("raise, clear, shelve, unshelve", "UNACK"),
        ("raise, ack, clear, shelve, unshelve, ack", "NORM"),
    ],
)
def test_latch_keeps_an_alarm_until_it_is_reset(steps, state):
    assert after(steps, Manner(latch=True)).state is State(state)


@pytest.mark.parametrize(("steps", "state"), [("raise", "UNACK"), ("raise, clear", "NORM"), ("raise, ack", "ACKED")])
def test_alarm_that_needs_no_acknowledgement_goes_with_its_condition(steps, state):
    assert after(steps, Manner(ack=False)).state is State(state)


def test_occurrence_grows_with_each_raise_alone():
    assert [after(s).occurrence for s in ("", "raise", "raise, raise", "raise, ack, clear, raise")] == [0, 1, 1, 2]


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=30), st.booleans(), st.booleans())
def test_whatever_happens_what_holds_is_told_unless_somebody_saw_or_covered_it(steps, ack, latch):
    manner, standing = Manner(ack, latch), Standing()
    for step in steps:
        before, standing = standing, STEPS[step](standing, manner)
        if standing.active and not standing.covered:
            assert standing.state in (State.UNACK, State.ACKED)
        if standing.state is State.ACKED and before.state is not State.ACKED:
            assert step == "ack"
        assert standing.occurrence >= before.occurrence
        assert standing.state is not State.NORM or not (standing.active or standing.held)
