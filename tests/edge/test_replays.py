"""Replays: the same signal, time and value is one sample; everything else passes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from twinedge.replays import REMEMBERED, REMEMBERED_ALL, REMEMBERED_LEAST, Replays, source_stamped
from twinmodel.signal import Batch, Catalogue, Kind, Signal


def batch(signal: int, *pairs: tuple[int, float]) -> Batch:
    return Batch.of(Kind.FLOAT, [signal] * len(pairs), [v for _, v in pairs], [0] * len(pairs), [t for t, _ in pairs])


def test_a_repeated_sample_is_taken_once():
    replays = Replays({1: REMEMBERED})
    assert len(replays.fresh(batch(1, (10, 1.0), (11, 1.0)))) == 2
    assert replays.fresh(batch(1, (10, 1.0), (11, 1.0), (12, 1.0))).t_ns.tolist() == [12]
    assert replays.found == 2


def test_another_value_at_the_same_time_is_another_sample():
    replays = Replays({1: REMEMBERED})
    replays.fresh(batch(1, (10, 1.0)))
    assert len(replays.fresh(batch(1, (10, 2.0)))) == 1


def test_a_repeated_nan_is_a_repeat():
    replays = Replays({1: REMEMBERED})
    replays.fresh(batch(1, (10, math.nan)))
    assert len(replays.fresh(batch(1, (10, math.nan)))) == 0


def test_signals_stamped_by_the_gateway_pass_untouched():
    replays = Replays({1: REMEMBERED})
    twice = batch(2, (10, 1.0), (10, 1.0))
    assert replays.fresh(twice) is twice


def test_memory_is_bounded_and_keeps_the_newest():
    replays = Replays({1: REMEMBERED})
    replays.fresh(batch(1, *((t, 0.0) for t in range(3 * REMEMBERED))))
    again = replays.fresh(batch(1, *((t, 0.0) for t in range(3 * REMEMBERED))))
    assert len(again) == 3 * REMEMBERED, "the oldest were forgotten, and push out what follows"
    assert len(replays.fresh(batch(1, (3 * REMEMBERED - 1, 0.0)))) == 0


def test_another_quality_of_the_same_value_and_time_is_news():
    replays = Replays({1: REMEMBERED})
    replays.fresh(batch(1, (10, 1.0)))
    doubted = batch(1, (10, 1.0)).with_quality(np.array([0x100], np.uint16))
    assert len(replays.fresh(doubted)) == 1
    assert len(replays.fresh(doubted)) == 0
    assert len(replays.fresh(batch(1, (10, 1.0)))) == 1


def test_what_an_earlier_boot_stored_is_a_repeat_whatever_the_gate_made_of_its_quality():
    replays = Replays({1: REMEMBERED})
    replays.recall(batch(7, (10, 1.0)).with_quality(np.array([0x201], np.uint16)), {7: 1})
    assert len(replays.fresh(batch(1, (10, 1.0)))) == 0


def test_thousands_of_variables_are_remembered_in_bounds():
    profiles = {name: SimpleNamespace(protocol=name) for name in ("opcua", "mqtt", "modbus")}
    signals = [Signal(n, f"{('opcua', 'mqtt', 'modbus')[n % 3]}.p{n}") for n in range(9000)]
    counts = source_stamped(SimpleNamespace(profiles=profiles), Catalogue(tuple(signals)))
    assert (counts[0], counts[1], counts.get(2)) == (REMEMBERED_LEAST, REMEMBERED_ALL // 3000, None)
    assert sum(counts.values()) <= REMEMBERED_ALL + 3000 * REMEMBERED_LEAST
    few = source_stamped(SimpleNamespace(profiles=profiles), Catalogue(tuple(signals[:30])))
    assert few[1] == REMEMBERED
