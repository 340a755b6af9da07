"""The states of twins: every pair of them, and the page that shows them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from twincloud.twins.lifecycle import MEANING, TRANSITIONS, State, check_assignable, check_transition, table
from twinmodel.errors import ConflictError

DOCS = Path(__file__).resolve().parents[3] / "docs" / "twins.md"
ALLOWED = {
    "draft": {"commissioned", "retired"},
    "commissioned": {"draft", "active", "retired"},
    "active": {"suspended", "retired"},
    "suspended": {"active", "retired"},
    "retired": {"commissioned"},
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_a_state_follows_another_exactly_as_the_table_says(before, after):
    if after == before or after in ALLOWED[before]:
        check_transition("P-1", before, after)
        return
    with pytest.raises(ConflictError) as refused:
        check_transition("P-1", before, after)
    assert refused.value.reason == "TRANSITION_FORBIDDEN"
    assert all(state in refused.value.hint for state in ALLOWED[before])


def test_every_state_is_in_both_tables_can_be_left_and_can_be_reached():
    assert set(TRANSITIONS) == set(MEANING) == set(State)
    assert all(TRANSITIONS.values())
    assert set(itertools.chain(*TRANSITIONS.values())) == set(State)


def test_models_are_assigned_in_every_state_but_suspended_and_retired():
    for state in State:
        if state in ("suspended", "retired"):
            with pytest.raises(ConflictError):
                check_assignable("P-1", state)
        else:
            check_assignable("P-1", state)


def test_the_page_shows_the_table_as_it_is():
    assert table() in DOCS.read_text()
