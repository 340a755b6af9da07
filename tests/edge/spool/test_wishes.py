"""Samples the coordinator can do without leave holes that are declared, and nothing a twin needs is among them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.edge.spool.conftest import Bench
from twinedge.spool.wishes import WISHES_MAX
from twinmodel.clock import SECOND_NS
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.kept import numbers_of
from twinsync.session.messages import Coarsen

CATALOGUE = Catalogue(
    (Signal(0, "d.free"), Signal(1, "d.bound"), Signal(2, "tank/level#estimate"), Signal(3, "d.other")),
    twins=(TwinBinding("tank", "d@1", "m@1", {"level": "d.bound"}, ("level",), {}),),
)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "state")


def append(bench, spool, stream=Stream.TELEMETRY, seconds=10):
    """One block: each signal each second."""
    start_ns = bench.clock.wall_ns()
    signal = np.repeat(np.arange(4, dtype=np.uint32), seconds)
    t_ns = np.tile(start_ns + np.arange(seconds) * SECOND_NS, 4)
    noise = [bench.rng.random() for _ in range(4 * seconds)]
    spool.append(stream, [Batch.of(Kind.FLOAT, signal, noise, np.zeros(4 * seconds), t_ns)], CATALOGUE)
    bench.clock.advance(seconds * SECOND_NS)


def counts(spool, stream=Stream.TELEMETRY):
    """Samples of each signal that wait, after checking that each item keeps its numbers."""
    found = [0] * 4
    for item in spool.unsent(bytes_max=1 << 20, items_max=99):
        if item.stream is stream:
            batches = block.decode(item.content.payload, CATALOGUE)
            assert len(numbers_of(item)) == sum(map(len, batches))
            for batch in batches:
                for signal in batch.signal.tolist():
                    found[signal] += 1
    return found


def test_one_sample_a_period_is_kept_of_signals_of_no_twin_and_the_rest_is_declared_as_thinned(bench):
    spool = bench.open()
    spool.wishes.take(Coarsen(Stream.TELEMETRY, 20 * SECOND_NS, 0))
    bench.clock.advance(-bench.clock.wall_ns() % (20 * SECOND_NS))
    for _ in range(6):
        append(bench, spool)
    assert counts(spool) == [3, 60, 60, 3]
    assert [(loss.reason, loss.samples) for loss in spool.ledger()] == [("THINNED", 114)]
    spool.close()
    assert counts(bench.open()) == [3, 60, 60, 3]


def test_wish_ends_by_its_time_by_another_one_and_never_touches_alarms(bench):
    spool = bench.open()
    for stream in Stream:
        spool.wishes.take(Coarsen(stream, 10 * SECOND_NS, bench.clock.wall_ns() + 10 * SECOND_NS))
    append(bench, spool, Stream.ALARM)
    assert counts(spool, Stream.ALARM) == [10] * 4
    append(bench, spool)
    assert counts(spool) == [10] * 4
    spool.wishes.take(Coarsen(Stream.BULK, 10 * SECOND_NS, 0))
    spool.wishes.take(Coarsen(Stream.BULK, 0, 0))
    append(bench, spool, Stream.BULK)
    assert counts(spool, Stream.BULK) == [10] * 4


def test_wish_for_one_signal_wins_over_that_for_its_stream_and_a_new_session_begins_without_any(bench):
    spool = bench.open()
    bench.clock.advance(-bench.clock.wall_ns() % (60 * SECOND_NS))
    spool.wishes.take(Coarsen(Stream.BULK, 20 * SECOND_NS, 0))
    spool.wishes.take(Coarsen(Stream.BULK, 5 * SECOND_NS, 0, CATALOGUE.signals[0].name))
    append(bench, spool, Stream.BULK, seconds=20)
    assert counts(spool, Stream.BULK) == [4, 20, 20, 1]
    spool.wishes.take(Coarsen(Stream.BULK, 0, 0, CATALOGUE.signals[0].name))
    append(bench, spool, Stream.BULK, seconds=20)
    assert counts(spool, Stream.BULK) == [5, 40, 40, 2]
    spool.wishes.forget()
    append(bench, spool, Stream.BULK, seconds=20)
    assert counts(spool, Stream.BULK) == [25, 60, 60, 22]


def test_wishes_beyond_the_bound_are_not_kept_and_their_signals_stay_whole(bench):
    spool = bench.open()
    for number in range(WISHES_MAX):
        spool.wishes.take(Coarsen(Stream.BULK, SECOND_NS, 0, f"other.s{number}"))
    spool.wishes.take(Coarsen(Stream.BULK, 20 * SECOND_NS, 0, CATALOGUE.signals[0].name))
    append(bench, spool, Stream.BULK)
    assert counts(spool, Stream.BULK) == [10] * 4
