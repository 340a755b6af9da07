"""Estimates of a real pipeline are computed again from what its coordinator stores: bit for bit, or with a reason."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cloud.replay.edge import GATEWAY, T0, TANK, Edge, S, package
from tests.cloud.replay.tier import TIER
from twincloud.replay.chains import _marks
from twincloud.replay.replay import Replayer
from twincloud.replay.verdict import Reason
from twincloud.storage.kept import Kept
from twincloud.storage.tracks import KNOWN_ALL
from twinedge.ports import Delivery
from twinmodel.clock import ManualClock
from twinmodel.errors import MissingError
from twinmodel.lineage import lineage_signal, of_text, to_text
from twinmodel.quality import QualityReason, good, uncertain
from twinmodel.signal import Batch, Kind
from twinmodel.stride import StridingEstimator

pytestmark = pytest.mark.usefixtures("often")


def spans_of(store, clock):
    return Replayer(store, tier=TIER).spans(TANK, T0 - 60 * S, clock.wall_ns() + 60 * S)


def verdicts(spans):
    return [(s.verdict, s.proof) for s in spans]


async def test_ticks_are_exact_and_proven_by_the_next_checkpoint(store, clock, rng):
    edge = await Edge(store, clock).start()
    await edge.run(75, rng=rng)
    await edge.end()
    edge.deliver()
    spans = spans_of(store, clock)
    assert verdicts(spans) == [("exact", "kernel"), ("exact", "outputs")]
    assert spans[0].ticks == 60
    assert sum(s.ticks for s in spans) == edge.runner.steps


async def test_late_and_missing_samples_leave_ticks_exact_and_late_ones_say_so(store, clock, rng):
    edge = await Edge(store, clock).start()
    late = {(k, n) for k in range(10, 60, 7) for n in (0, 1)}
    await edge.run(75, rng=rng, late=late, skip={(k, 0) for k in range(20, 26)})
    await edge.end()
    edge.deliver()
    assert edge.runner.late > 10
    stamped = store.tracks(GATEWAY, ["d.hot_out"], T0, clock.wall_ns())["d.hot_out"].quality == good(QualityReason.LATE)
    assert stamped.sum() >= 7
    assert {s.verdict for s in spans_of(store, clock)} == {"exact"}


async def test_late_samples_that_were_doubted_already_keep_their_reason_and_are_named(store, clock, rng):
    edge = await Edge(store, clock).start()
    await edge.run(40, rng=rng)
    batch = Batch.of(
        Kind.FLOAT, [1], [377.0], [uncertain(QualityReason.RATE)], [clock.wall_ns() - 20 * S - 400_000_000]
    )
    await edge.pipeline.put(Delivery("d", (batch,), None, urgent=True))
    await edge.run(30, rng=rng)
    await edge.end()
    edge.deliver()
    assert {s.verdict for s in spans_of(store, clock)} == {"exact"}


async def test_restart_swap_and_new_alignment_begin_spans_that_are_exact(store, clock, rng):
    first = await Edge(store, clock).start()
    await first.run(20, rng=rng)
    await first.swap("1.1.0")
    await first.run(20, rng=rng)
    first.runner.start_over()
    await first.run(20, rng=rng)
    await first.end()
    first.deliver()
    clock.advance(5 * S)
    second = await Edge(store, clock, 2, (first.boot,), "1.1.0").start()
    await second.run(20, rng=rng)
    await second.end()
    second.deliver()
    spans = spans_of(store, clock)
    assert {s.verdict for s in spans} == {"exact"}
    assert {s.model for s in spans} == {"exchanger@1.0.0", "exchanger@1.1.0"}
    assert sum(s.ticks for s in spans) == first.runner.steps + second.runner.steps


async def test_declared_loss_is_not_replayable_from_its_first_tick_to_the_next_checkpoint(store, clock, rng):
    edge = await Edge(store, clock).start()
    await edge.run(100, rng=rng)
    await edge.end()
    edge.lose(4)  # of the seconds 40 to 49
    edge.deliver()
    spans = spans_of(store, clock)
    lost = [s for s in spans if s.reason is not None]
    assert [(s.reason, s.detail) for s in lost] == [(Reason.INPUT_LOST, "GAP STORE_FULL")]
    gap = edge.items[4].content
    assert lost[0].from_ns - S < gap.from_ns <= lost[0].from_ns
    starts = [m.checkpoint.next_ns for m in marks(store)]
    assert lost[0].to_ns + S in starts
    told = [verdict for verdict, _ in groupby(s.verdict for s in spans)]
    assert told == ["exact", "NOT_REPLAYABLE(INPUT_LOST)", "exact"]


def marks(store):
    return _marks(store, GATEWAY, "tank", T0, T0 + 3_600 * S, KNOWN_ALL)


async def test_altered_measurement_is_found(store, clock, rng):
    edge = await Edge(store, clock).start()
    await edge.run(75, rng=rng)
    await edge.end()
    edge.alter(4, "d.hot_out", lambda v: v + 0.01)
    edge.deliver()
    reasons = {s.reason for s in spans_of(store, clock)}
    assert reasons == {None, Reason.OUTPUT_DIFFERS}


async def test_altered_estimate_is_found_at_its_tick_alone(store, clock, rng):
    edge = await Edge(store, clock).start()
    await edge.run(75, rng=rng)
    await edge.end()
    edge.alter(3, "tank/cold_out#estimate", lambda v: round(v + 0.000001, 6))
    edge.deliver()
    spans = spans_of(store, clock)
    wrong = [s for s in spans if s.reason is not None]
    assert {s.reason for s in wrong} == {Reason.OUTPUT_DIFFERS}
    assert sum(s.ticks for s in wrong) <= 10
    assert spans[0].proof == "kernel"


async def test_altered_checkpoint_is_found(store, clock, rng):
    edge = await Edge(store, clock).start()
    await edge.run(75, rng=rng)
    await edge.end()
    other = StridingEstimator(package("1.0.0"), tier=TIER)

    def altered(text):
        found = of_text(text)
        if found.number != 2:
            return text
        other.restore(found.state)
        other._state[0] += 1e-12
        return to_text(replace(found, state=other.checkpoint()))

    for place in range(len(edge.items)):
        edge.alter(place, lineage_signal("tank"), altered)
    edge.deliver()
    spans = spans_of(store, clock)
    assert [s.reason for s in spans] == [None, Reason.CHECKPOINT_MISMATCH, None]


async def test_model_that_is_gone_and_ticks_before_any_checkpoint_are_told(store, clock, rng, monkeypatch):
    edge = await Edge(store, clock).start()
    await edge.run(40, rng=rng)
    await edge.end()
    edge.alter(0, lineage_signal("tank"), lambda text: "torn" + text)
    edge.deliver()
    replayer = Replayer(store, tier=TIER)
    spans = replayer.spans(TANK, T0, clock.wall_ns())
    assert [s.reason for s in spans] == [Reason.NO_CHECKPOINT, None]
    monkeypatch.setattr(type(store), "artifact", lambda *_: (_ for _ in ()).throw(MissingError("NOT_FOUND", "gone")))
    spans = Replayer(store, tier=TIER).spans(TANK, T0, clock.wall_ns())
    assert [s.reason for s in spans] == [Reason.NO_CHECKPOINT, Reason.MODEL_UNKNOWN]


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_any_order_of_arrival_is_exact(open_prepared, seed):
    asyncio.run(any_order(open_prepared, seed))


async def any_order(open_prepared, seed):
    """Samples late or lost at random, blocks of two starts of the agent delivered the later one first."""
    rng, clock = np.random.default_rng(seed), ManualClock(T0)
    store = open_prepared(clock)
    edges = []
    for counter in (1, 2):
        edge = await Edge(store, clock, counter, tuple(e.boot for e in edges)).start()
        late = {(k, n) for k in range(40) for n in (0, 1) if rng.random() < 0.2}
        await edge.run(40, rng=rng, late=late, skip={(k, 0) for k in range(40) if rng.random() < 0.1})
        await edge.end()
        edges.append(edge)
    edges[0].session = edges[1].session
    for edge in reversed(edges):
        edge.deliver()
    spans = spans_of(store, clock)
    assert {s.verdict for s in spans} == {"exact"}
    assert sum(s.ticks for s in spans) == sum(edge.runner.steps for edge in edges)


async def test_ticks_whose_inputs_retention_has_let_go_say_so(store, clock, rng, monkeypatch):
    edge = await Edge(store, clock).start()
    await edge.run(75, rng=rng)
    await edge.end()
    edge.deliver()
    first, second = spans_of(store, clock)
    since = Kept(first.to_ns)  # within the first span: none of its ticks can be computed without those before

    def kept(_gateway, signals):
        return since if "d.hot_out" in signals else Kept()

    monkeypatch.setattr(store, "kept_of_signals", kept)
    assert verdicts(spans_of(store, clock)) == [("NOT_REPLAYABLE(HISTORY_EXPIRED)", ""), ("exact", "outputs")]
    assert spans_of(store, clock)[0].ticks == first.ticks
    # Where checkpoints and estimates are gone as well, nobody can say how many ticks there were.
    monkeypatch.setattr(store, "kept_of_signals", lambda *_: Kept(second.to_ns + S))
    assert spans_of(store, clock)[0].reason is Reason.HISTORY_EXPIRED
