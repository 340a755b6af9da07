"""The change from one model to the next."""

from __future__ import annotations

import numpy as np
import pytest

from tests.edge.downlink.packages import NEW, OLD, estimator, package
from twinedge.slot import Slot
from twinmodel.errors import ConflictError


def test_an_empty_slot_runs_nothing_and_takes_the_first_model_as_it_is():
    slot = Slot("tank")
    assert slot.current() is None
    assert slot.running() is None
    first = estimator(OLD)
    slot.offer(first)
    assert slot.current() is first
    assert slot.swaps == 0
    assert slot.running().name == "two-tanks@1.0.0"
    assert slot.running().digest == package(OLD).digest


def test_a_new_model_takes_over_the_state_and_the_old_one_stays_as_last_good():
    slot = Slot("tank")
    old, new = estimator(OLD), estimator(NEW)
    slot.offer(old)
    for tick in range(1, 20):
        old.step(tick * old.dt_ns, np.full(len(old.inputs), 5.0), np.full(len(old.outputs), 0.1))
    slot.offer(new)
    assert slot.current() is new
    assert slot.last_good is old
    assert slot.swaps == 1
    np.testing.assert_allclose(new.state, old.state)
    assert slot.fall_back("a test")
    assert slot.current() is old
    assert not slot.fall_back("a test")


def test_after_its_soak_a_model_is_believed_and_the_one_before_it_goes():
    slot = Slot("tank", soak_ticks=3)
    for plant in (OLD, NEW):
        slot.offer(estimator(plant))
    assert slot.soaking
    for _ in range(3):
        slot.stepped()
    assert not slot.soaking
    assert not slot.failed(ValueError("late"))
    assert slot.running().name == "two-tanks@1.1.0"


def test_a_model_that_diverges_in_its_soak_gives_way_and_it_is_told():
    slot, told = Slot("tank"), []
    slot.on_fall_back = lambda *about: told.append(about)
    old, new = estimator(OLD), estimator(NEW)
    slot.offer(old)
    slot.offer(new)
    slot.stepped()
    assert slot.current() is new
    new.divergences = 1
    slot.stepped()
    assert slot.current() is old
    assert (slot.swaps, slot.fallbacks) == (2, 1)
    assert told == [("tank", new, "it diverged in its soak")]


def test_a_model_replaced_in_its_soak_is_no_last_good_one():
    slot = Slot("tank")
    old, trial, third = estimator(OLD), estimator(NEW), estimator(NEW)
    for one in (old, trial, third):
        slot.offer(one)
    assert slot.last_good is old


def test_a_model_that_cannot_take_over_leaves_the_present_one_running(monkeypatch):
    slot = Slot("tank")
    old, new = estimator(OLD), estimator(NEW)
    slot.offer(old)

    def refuse(previous):
        raise ValueError("shapes")

    monkeypatch.setattr(new, "adopt", refuse)
    with pytest.raises(ConflictError, match="MODEL_UNFIT"):
        slot.offer(new)
    assert slot.current() is old
    assert slot.swaps == 0
