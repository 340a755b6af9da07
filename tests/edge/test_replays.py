"""Replays: the same signal, time and value is one sample; everything else passes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from twinedge.replays import REMEMBERED_LAST, Replays, source_stamped
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.quality import QualityReason, uncertain
from twinmodel.signal import Batch, Catalogue, Kind, Signal


def batch(signal: int, *pairs: tuple[int, float]) -> Batch:
    return Batch.of(Kind.FLOAT, [signal] * len(pairs), [v for _, v in pairs], [0] * len(pairs), [t for t, _ in pairs])


def test_a_repeated_sample_is_taken_once():
    replays = Replays([1])
    assert len(replays.fresh(batch(1, (10, 1.0), (11, 1.0)))) == 2
    assert replays.fresh(batch(1, (10, 1.0), (11, 1.0), (12, 1.0))).t_ns.tolist() == [12]
    assert replays.found == 2


def test_another_value_at_the_same_time_is_another_sample():
    replays = Replays([1])
    replays.fresh(batch(1, (10, 1.0)))
    assert len(replays.fresh(batch(1, (10, 2.0)))) == 1


def test_a_repeated_nan_is_a_repeat():
    replays = Replays([1])
    replays.fresh(batch(1, (10, math.nan)))
    assert len(replays.fresh(batch(1, (10, math.nan)))) == 0


def test_signals_stamped_by_the_gateway_pass_untouched():
    replays = Replays([1])
    twice = batch(2, (10, 1.0), (10, 1.0))
    assert replays.fresh(twice) is twice


def test_memory_is_bounded_and_keeps_the_newest(monkeypatch):
    monkeypatch.setattr("twinedge.replays.REMEMBERED", 100)
    replays = Replays([1, 2])
    replays.fresh(batch(1, *((t, 0.0) for t in range(300))))
    again = replays.fresh(batch(1, *((t, 0.0) for t in range(300))))
    assert len(again) == 300, "the oldest were forgotten, and push out what follows"
    assert len(replays.fresh(batch(1, (299, 0.0)))) == 0
    assert len(replays.fresh(batch(2, (299, 0.0)))) == 1


def test_all_that_a_broker_may_have_in_flight_is_known_again_however_few_signals_it_is_of():
    replays = Replays([1])
    replays.fresh(batch(1, *((t, 0.0) for t in range(3000))))
    assert len(replays.fresh(batch(1, *((t, 0.0) for t in range(1000, 3000))))) == 0


def test_thousands_of_variables_of_a_server_are_remembered_in_bounds_and_push_out_nothing_of_brokers():
    replays = Replays([0], range(1, 3))
    replays.fresh(batch(0, (1, 0.0)))
    for signal in (1, 2):
        replays.fresh(batch(signal, *((t, 0.0) for t in range(2 * REMEMBERED_LAST))))
        assert len(replays._memories[signal]._known) == REMEMBERED_LAST
        assert len(replays.fresh(batch(signal, (2 * REMEMBERED_LAST - 1, 0.0)))) == 0
    assert len(replays.fresh(batch(0, (1, 0.0)))) == 0


def test_another_quality_of_the_same_value_and_time_is_news():
    replays = Replays([1])
    replays.fresh(batch(1, (10, 1.0)))
    doubted = batch(1, (10, 1.0)).with_quality(np.array([0x100], np.uint16))
    assert len(replays.fresh(doubted)) == 1
    assert len(replays.fresh(doubted)) == 0
    assert len(replays.fresh(batch(1, (10, 1.0)))) == 1


def test_what_an_earlier_boot_stored_is_a_repeat_whatever_the_gate_made_of_its_quality():
    replays = Replays([1])
    replays.recall(batch(7, (10, 1.0)).with_quality(np.array([0x201], np.uint16)), {7: 1})
    assert len(replays.fresh(batch(1, (10, 1.0)))) == 0


def test_equal_values_that_the_gateway_dates_in_one_moment_are_all_stored():
    replays = Replays([1])
    undated = batch(1, (10, 1.0), (10, 1.0)).with_quality(np.array([uncertain(QualityReason.CLOCK)] * 2, np.uint16))
    assert len(replays.fresh(undated)) == 2


def test_signals_are_sorted_by_who_repeats_them_and_those_without_a_time_repeat_nothing():
    dated = {"defaults": {"topic": "x", "time": "$.t"}, "points": {"p": {"at": "$.v"}}}
    undated = {"defaults": {"topic": "x"}, "points": {"p": {"at": "$.v"}, "q": {"at": "$.v", "time": "$.t"}}}
    sparkplug = {"defaults": {"payload": "sparkplug"}, "points": {"p": {"at": "a"}}}
    said = {
        "a": {"protocol": "mqtt"} | dated,
        "b": {"protocol": "mqtt"} | undated,
        "c": {"protocol": "mqtt"} | sparkplug,
        "d": {"protocol": "opcua", "namespace": "urn:a", "points": {"p": {"at": "a"}}},
        "e": {"protocol": "modbus", "base": 0, "points": {"p": {"at": "holding 0"}}},
    }
    profiles = {name: FirmwareProfile.model_validate({"profile": "t/d"} | text) for name, text in said.items()}
    names = [f"{name}.{point}" for name, profile in profiles.items() for point in profile.points]
    catalogue = Catalogue(tuple(Signal(n, name) for n, name in enumerate(names)))
    found = source_stamped(SimpleNamespace(profiles=profiles), catalogue.signals)
    assert [[names[s] for s in ids] for ids in found] == [["a.p", "b.q", "c.p"], ["d.p"]]
