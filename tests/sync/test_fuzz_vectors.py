"""Inputs that were once a bug of what reads foreign bytes, and a little of what the fuzzer of the campaign tries."""

from __future__ import annotations

from random import Random

import pytest

from tests.campaign.fuzz import TARGETS, mutate, seeds

TRIES = 12


@pytest.mark.parametrize("target", TARGETS)
def test_sound_inputs_old_bugs_and_their_mutations_are_read_or_refused_by_a_typed_error(target):
    rng = Random(5)
    corpus = seeds(target)
    for data in corpus:
        TARGETS[target](data)
    for _ in range(TRIES):
        TARGETS[target](mutate(rng.choice(corpus), rng))
