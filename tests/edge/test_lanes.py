"""Lanes: what is due when, what a commit holds, who is told, and what the bound pushes out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twinedge.lanes import ENTRIES_LOOSE, RECORDS_MAX, UNACKNOWLEDGED_MAX, Lanes
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsync.item import NotAcquired

S = 1_000_000_000
CATALOGUE = Catalogue(
    (
        Signal(0, "a.alarm", stream=Stream.ALARM),
        Signal(1, "a.state", stream=Stream.STATE),
        Signal(2, "a.telemetry", stream=Stream.TELEMETRY),
    )
)
WINDOWS = {Stream.ALARM: 0, Stream.STATE: S, Stream.TELEMETRY: 10 * S, Stream.BULK: 10 * S}


def lanes(samples_max: int = 1000) -> Lanes:
    made = Lanes(WINDOWS, samples_max)
    made.use(CATALOGUE)
    return made


def batch(*signals: int, t_ns: int = 0) -> Batch:
    n = len(signals)
    return Batch.of(Kind.FLOAT, signals, [1.0] * n, [0] * n, [t_ns + i for i in range(n)])


def test_an_alarm_is_due_at_once_a_state_after_its_window():
    held = lanes()
    held.add([batch(1)], 5 * S)
    assert held.due_ns() == 6 * S
    held.add([batch(0)], 5 * S)
    assert held.due_ns() == 5 * S


def test_a_flush_takes_only_lanes_whose_window_has_passed():
    held = lanes()
    held.add([batch(0, 1, 2)], 0)
    flush = held.take(S)
    assert flush is not None
    assert [stream for stream, _ in flush.parts] == [Stream.ALARM, Stream.STATE]
    assert len(held) == 1
    assert held.due_ns() == 10 * S


def test_a_delivery_is_told_once_when_its_last_lane_is_committed():
    held, told = lanes(), []
    held.add([batch(1, 2)], 0, lambda: told.append(1))
    first = held.take(S)
    first.committed()
    assert told == []
    held.take(10 * S).committed()
    assert told == [1]


def test_many_unacknowledged_deliveries_force_an_early_commit_of_all_lanes():
    held, told = lanes(), []
    for _ in range(UNACKNOWLEDGED_MAX):
        held.add([batch(2)], 0, lambda: told.append(1))
    assert held.due_ns() == 0
    held.take(0).committed()
    assert len(told) == UNACKNOWLEDGED_MAX
    assert held.due_ns() is None


def test_an_urgent_delivery_takes_everything_along_at_once():
    held = lanes()
    held.add([batch(1, 2)], 0)
    held.hurry()
    assert held.due_ns() == 0
    assert len(held.take(0)) == 2
    held.add([batch(2)], 0)
    assert held.due_ns() == 10 * S


def test_an_empty_delivery_is_told_at_once():
    held, told = lanes(), []
    held.add([], 0, lambda: told.append(1))
    assert told == [1]


def test_what_the_disk_refused_comes_first_again():
    held = lanes()
    held.add([batch(1, t_ns=1)], 0)
    refused = held.take(S)
    held.add([batch(1, t_ns=2)], S)
    held.give_back(refused, S)
    again = held.take(2 * S)
    assert again.parts[0][1][0].t_ns.tolist() == [1, 2]


def test_the_bound_pushes_out_telemetry_first_and_declares_it():
    held = lanes(samples_max=3)
    held.add([batch(0)], 0)
    for t in range(4):
        held.add([batch(2, t_ns=100 + t)], 0)
    flush = held.take(0, everything=True)
    assert held.pushed_out == 2
    assert len(flush) == 3
    assert [(r.device, r.reason, r.from_ns, r.to_ns) for r in flush.records] == [("*", "STORE_FULL", 100, 101)]
    assert flush.parts[0][0] is Stream.ALARM


def test_what_a_broker_wants_acknowledged_is_never_pushed_out_or_the_broker_would_wait_for_ever():
    held, told = lanes(samples_max=2), []
    held.add([batch(2, t_ns=1)], 0, lambda: told.append("first"))
    for t in range(2, 6):
        held.add([batch(2, t_ns=t)], 0)
    held.add([batch(2, t_ns=9)], 0, lambda: told.append("second"))
    flush = held.take(0, everything=True)
    assert flush.parts[0][1][0].t_ns.tolist() == [1, 9]
    assert [(r.from_ns, r.to_ns) for r in flush.records] == [(2, 5)]
    flush.committed()
    assert told == ["first", "second"]
    assert held.due_ns() is None


def test_a_device_that_comes_and_goes_while_the_disk_refuses_costs_no_memory_without_bound():
    held = lanes()
    for n in range(3 * RECORDS_MAX):
        held.declare(NotAcquired(f"d{n % 2}", "DEVICE_UNREACHABLE", n, n + 1))
    records = held.take(0).records
    assert len(records) == RECORDS_MAX
    assert min(r.from_ns for r in records) == 0
    assert max(r.to_ns for r in records) == 3 * RECORDS_MAX


def test_small_batches_are_joined_while_the_disk_refuses_and_keep_their_order():
    held, told = lanes(100_000), []
    kinds = {1: Kind.FLOAT, 2: Kind.INT}
    for n in range(6 * ENTRIES_LOOSE):
        signal = 1 + n % 2
        one = Batch.of(kinds[signal], [1], [n], [0], [n])
        held.add([one], 0, (lambda: told.append(1)) if n == 5 * ENTRIES_LOOSE else None)
    assert len(held._entries[Stream.STATE]) < ENTRIES_LOOSE + 20
    flush = held.take(0, everything=True)
    assert len(flush) == 6 * ENTRIES_LOOSE
    for _, batches in flush.parts:
        for part in batches:
            assert (np.diff(part.t_ns) == 2).all()
    flush.committed()
    assert told == [1]


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=5), st.integers(0, 3)), max_size=40))
def test_every_sample_leaves_exactly_once_in_order(script: list[tuple[list[int], int]]):
    held, now, sent, seen = lanes(10_000), 0, [], {0: [], 1: [], 2: []}
    serial = 0
    for signals, seconds in script:
        parts = np.arange(serial, serial + len(signals))
        serial += len(signals)
        if signals:
            held.add([Batch.of(Kind.FLOAT, signals, parts, [0] * len(signals), parts)], now)
            sent += list(zip(signals, parts.tolist(), strict=True))
        now += seconds * S
        flush = held.take(now)
        if flush is not None and serial % 3 == 0:
            held.give_back(flush, now)
        elif flush is not None:
            collect(flush, seen)
    while (flush := held.take(now, everything=True)) is not None:
        collect(flush, seen)
    assert len(held) == 0
    for signal, found in seen.items():
        assert found == [n for s, n in sent if s == signal]


def collect(flush, seen: dict[int, list[int]]) -> None:
    for _, batches in flush.parts:
        for part in batches:
            for signal, t_ns in zip(part.signal.tolist(), part.t_ns.tolist(), strict=True):
                seen[signal].append(t_ns)
