"""Why ticks cannot be computed again, every reason of it; and what must not be called exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tests.cloud.replay.edge import GATEWAY, T0, TANK, Edge, S
from tests.cloud.replay.tier import TIER
from twincloud.replay.replay import Replayer
from twincloud.replay.verdict import Reason
from twincloud.storage.contract import GatewayKey
from twincloud.storage.tracks import no_track
from twinedge.estimate import lineage
from twinedge.ports import Delivery
from twinmodel.errors import InputError
from twinmodel.lineage import lineage_signal, of_text, to_text
from twinmodel.quality import QualityReason, good, uncertain
from twinmodel.signal import Batch, Kind

pytestmark = pytest.mark.usefixtures("often")
OTHER = GatewayKey("acme", "mill", "edge-2")
INPUTS = {"d.hot_in", "d.hot_out", "d.cold_in"}


def spans_of(store, clock):
    return Replayer(store, tier=TIER).spans(TANK, T0 - 60 * S, clock.wall_ns() + 60 * S)


def told(spans):
    return [(span.reason, span.proof) for span in spans]


class Seen:
    """A store of which something is not seen."""

    def __init__(self, store, tracks):
        self._store, self._tracks = store, tracks

    def __getattr__(self, name):
        return getattr(self._store, name)

    def tracks(self, gateway, signals, from_ns, to_ns, known):
        return self._tracks(self._store, gateway, signals, (from_ns, to_ns), known)


async def run(store, clock, rng, seconds):
    edge = await Edge(store, clock).start()
    await edge.run(seconds, rng=rng)
    return edge


async def bring(edge, count, code, *, ago_ns):
    """Samples of one point and of one time."""
    t_ns = edge.clock.wall_ns() - ago_ns
    batch = Batch.of(Kind.FLOAT, [1] * count, [340.0 + n for n in range(count)], [code] * count, [t_ns] * count)
    await edge.pipeline.put(Delivery("d", (batch,), None, urgent=True))


@pytest.mark.parametrize("raises", [False, True])
async def test_tick_at_which_the_new_model_failed_in_its_soak_is_not_its_own(store, clock, rng, monkeypatch, raises):
    edge = await run(store, clock, rng, 8)
    await edge.swap("1.1.0")
    if raises:
        monkeypatch.setattr(edge.slot.current(), "conclude", lambda: 1 / 0)
    else:
        edge.slot.current().divergences = 1
    await edge.run(8, rng=rng)
    await edge.end()
    edge.deliver()
    spans = spans_of(store, clock)
    assert [s.reason for s in spans if s.model == "exchanger@1.1.0"] == [Reason.FELL_BACK]
    assert [s.ticks for s in spans if s.reason] == [1]
    assert sum(s.ticks for s in spans) == edge.runner.steps


async def test_thinned_measurements_are_told_as_such(store, clock, rng):
    edge = await run(store, clock, rng, 40)
    await edge.end()
    edge.thin(1)
    edge.deliver()
    spans = spans_of(store, clock)
    assert told(spans) == [(None, "outputs"), (Reason.INPUT_COARSENED, ""), (None, "outputs")]
    assert spans[1].detail.startswith("THINNED")


async def test_more_exceptions_than_can_be_named_are_told(store, clock, rng, monkeypatch):
    monkeypatch.setattr(lineage, "EXCEPTIONS_MAX", 2)
    edge = await run(store, clock, rng, 20)
    for k in range(4):
        await bring(edge, 1, uncertain(QualityReason.RATE), ago_ns=(10 + k) * S)
    await edge.run(15, rng=rng)
    await edge.end()
    edge.deliver()
    assert told(spans_of(store, clock)) == [(Reason.INPUT_DROPPED, ""), (None, "outputs")]


async def test_times_that_were_put_right_are_told(store, clock, rng):
    edge = await run(store, clock, rng, 9)

    async def nothing_on_disk(_span, _shift):
        return 0

    await edge.pipeline.put_right((T0 - 60 * S, clock.wall_ns()), 3_600 * S, nothing_on_disk)
    clock.advance(3_600 * S)
    await edge.run(10, rng=rng)
    await edge.end()
    edge.deliver()
    reasons = [s.reason for s in spans_of(store, clock)]
    assert Reason.CLOCK_SET in reasons
    assert reasons[-1] is None
    assert set(reasons) <= {Reason.CLOCK_SET, Reason.NO_CHECKPOINT, None}


async def test_measurements_that_are_kept_no_more_are_told(store, clock, rng):
    edge = await run(store, clock, rng, 40)
    await edge.end()
    edge.deliver()

    def expired(store, gateway, signals, span_ns, known):
        found = store.tracks(gateway, signals, *span_ns, known)
        return {name: no_track(name) if name in INPUTS else track for name, track in found.items()}

    reasons = {s.reason for s in spans_of(Seen(store, expired), clock)}
    assert reasons == {Reason.HISTORY_EXPIRED}


async def test_ticks_of_which_nothing_is_stored_are_not_called_exact(store, clock, rng):
    edge = await run(store, clock, rng, 28)
    await edge.end()
    edge.lose(1)
    edge.deliver()
    spans = spans_of(store, clock)
    assert told(spans) == [(None, "outputs"), (Reason.INPUT_LOST, "")]
    assert spans[1].from_ns <= T0 + 10 * S


async def test_undeclared_hole_in_what_was_told_is_no_proof(store, clock, rng):
    edge = await run(store, clock, rng, 20)
    await edge.end()
    edge.deliver()

    def holed(store, gateway, signals, span_ns, known):
        found = store.tracks(gateway, signals, *span_ns, known)
        return {
            name: track if "#" not in name else track.take(abs(track.t_ns - T0 - 8 * S) > 2 * S)
            for name, track in found.items()
        }

    spans = spans_of(Seen(store, holed), clock)
    assert told(spans) == [(None, "outputs"), (Reason.NO_ESTIMATE, ""), (None, "outputs")]


async def test_state_that_agrees_is_no_proof_when_ticks_were_given_something_else(store, clock, rng):
    edge = await run(store, clock, rng, 40)
    await edge.end()

    def altered(text):
        found = of_text(text)
        return text if found.ended is None else to_text(replace(found, ended=replace(found.ended, trace=bytes(32))))

    for place in range(len(edge.items)):
        edge.alter(place, lineage_signal("tank"), altered)
    edge.deliver()
    assert told(spans_of(store, clock))[0] == (Reason.CHECKPOINT_MISMATCH, "")


async def test_of_samples_of_one_time_only_those_that_came_too_late_were_not_seen(store, clock, rng):
    edge = await Edge(store, clock).start()
    await edge.run(15, rng=rng)
    doubted = uncertain(QualityReason.RATE)
    await bring(edge, 2, doubted, ago_ns=100_000_000)  # in time, at a moment that brings more later
    t_ns = clock.wall_ns() - 100_000_000
    await edge.run(10, rng=rng)
    await bring(edge, 2, doubted, ago_ns=clock.wall_ns() - t_ns)
    await bring(edge, 30, good(QualityReason.BACKFILLED), ago_ns=12 * S)
    await edge.run(10, rng=rng)
    await edge.end()
    edge.deliver()
    spans = spans_of(store, clock)
    assert told(spans) == [(None, "kernel"), (None, "outputs")]
    mark = of_text(store.tracks(GATEWAY, [lineage_signal("tank")], T0, clock.wall_ns())["tank#lineage"].value[-1])
    assert mark.ended.passed == (("d.hot_out", t_ns, False, 2),)


async def test_what_another_gateway_said_at_that_time_is_not_proven_by_the_first(store, clock, rng):
    edge = await run(store, clock, rng, 12)
    await edge.end()
    edge.deliver()

    def two(store, gateway, signals, span_ns, known):
        found = store.tracks(GATEWAY, signals, *span_ns, known)
        return {n: no_track(n) if gateway == OTHER and n.endswith("#lineage") else t for n, t in found.items()}

    seen = Seen(store, two)
    seen.gateways_of = lambda _key: (GATEWAY, OTHER)
    seen.kept_of_signals = lambda _gateway, signals: store.kept_of_signals(GATEWAY, signals)
    spans = spans_of(seen, clock)
    ticks = {reason: sum(s.ticks for s in spans if s.reason == reason) for reason in (None, Reason.NO_CHECKPOINT)}
    assert ticks == {None: edge.runner.steps, Reason.NO_CHECKPOINT: edge.runner.steps}


async def test_history_that_is_too_dense_to_be_read_ahead_is_read_span_by_span(store, clock, rng):
    edge = await run(store, clock, rng, 70)
    await edge.end()
    edge.deliver()

    def bounded(store, gateway, signals, span_ns, known):
        if len(signals) > 5 and span_ns[1] - span_ns[0] > 80 * S:
            raise InputError("LIMIT_EXCEEDED", "too much")
        return store.tracks(gateway, signals, *span_ns, known)

    assert {s.reason for s in spans_of(Seen(store, bounded), clock)} == {None}


async def test_account_that_fails_costs_no_estimate_and_is_told_once(store, clock, rng, monkeypatch):
    edge = await run(store, clock, rng, 5)
    monkeypatch.setattr(lineage, "follows_rule", lambda *_: 1 / 0)
    before = edge.runner.steps
    with capture_logs() as logs:
        await edge.run(8, rng=rng)
    assert edge.runner.steps == before + 8
    assert [entry["event"] for entry in logs] == ["lineage of estimates ends, they go on without"]
    await edge.end()
    edge.deliver()
    assert {s.verdict for s in spans_of(store, clock)} == {"exact"}
