"""Why a twin said what it said at a moment: the value, what its model saw, who put that model there, and the proof.

estimate at the tick ─▶ its agent's checkpoint ─▶ samples the tick held ─▶ blocks they came in
                                 └▶ model ─▶ signer, directive          └▶ verdict of the replay
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from twincloud.replay.chains import Segment, segments_of
from twincloud.replay.replay import CHECKPOINT_NS, Replayer, ReplayStore
from twincloud.replay.segment import Reader, Work
from twincloud.replay.verdict import WORDS, Reason, Span
from twincloud.storage.contract import Directive, Gateway, GatewayKey, Loss, ModelVersion, Page, TwinKey
from twincloud.storage.tracks import KNOWN_ALL, Track
from twinmodel.align import NEVER_NS
from twinmodel.clock import SECOND_NS
from twinmodel.errors import MissingError, TwinError
from twinmodel.lineage import lineage_signal
from twinmodel.quality import QualityReason, class_of, describe
from twinmodel.signal import OUTPUT_ROLES

NEAR_NS: Final = 600 * SECOND_NS
"""Losses this close to a value are told with it."""
LOSSES_MAX: Final = 20
LOOK_BACK_NS: Final = (60 * SECOND_NS, 3_600 * SECOND_NS, 86_400 * SECOND_NS, 40 * 86_400 * SECOND_NS)
"""How far back the newest value is looked for, in steps."""
QUALITY_WORDS: Final = {
    QualityReason.NONE: "",
    QualityReason.OUT_OF_RANGE: "outside the range its point can have",
    QualityReason.RATE: "changed faster than its point can",
    QualityReason.FROZEN: "has not changed for suspiciously long",
    QualityReason.SPIKE: "jumped and is not believed",
    QualityReason.STALE: "is too old",
    QualityReason.ABSENT: "there is none",
    QualityReason.NOT_CONNECTED: "the device is not connected",
    QualityReason.DEVICE_FAULT: "the device says it is faulty",
    QualityReason.CLOCK: "its time cannot be trusted",
    QualityReason.DECODE: "could not be read as a number",
    QualityReason.SUBSTITUTED: "stands in for a measurement that is missing",
    QualityReason.BACKFILLED: "was read later from the device's memory",
    QualityReason.LATE: "came too late for its tick: stored, but no model has seen it",
    QualityReason.SETTLING: "the model settles after a start, a swap or a gap",
    QualityReason.REGIME: "the model is outside the range it is valid in",
}


class ExplainStore(ReplayStore, Protocol):
    """The part of the store this reads."""

    def gateway(self, key: GatewayKey) -> Gateway:
        """One gateway; raises UNKNOWN_GATEWAY."""
        ...

    def model(self, tenant: str, reference: str) -> ModelVersion:
        """`name@version`; raises UNKNOWN_MODEL."""
        ...

    def models(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[ModelVersion]:
        """Model versions by name and version."""
        ...

    def directives(self, tenant: str, *, target: str = "", limit: int = 100) -> tuple[Directive, ...]:
        """Directives, newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """One stored sample and how it came here.

    Attributes:
        port: the model's input or output it feeds, "" for none.
        signal: its name.
        value: None when it is no number or text to be shown.
        quality: code.
        t_ns: event time.
        age_ns: how long before the explained moment that was.
        block: `boot/stream/first_seq`, "" when the sample itself is kept no more.
    """

    port: str
    signal: str
    value: float | int | bool | str | None
    unit: str
    quality: int
    t_ns: int
    age_ns: int
    block: str = ""
    received_ns: int = 0
    committed_ns: int = 0

    @property
    def words(self) -> str:
        """Quality in words."""
        return quality_words(self.quality)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one property at one moment; parts that do not exist are None or empty.

    Attributes:
        t_ns: tick of the estimate, else time of the measurement.
        said: role (`measured`, and those of `OUTPUT_ROLES`) -> the sample.
        inputs: what the model saw at the tick.
        model: the version that ran, None when the coordinator does not hold it.
        running: `name@version` that ran, "" when nobody told.
        directive: who put it there, None when it was the gateway's own first choice.
        checkpoint_ns, checkpoint_cause: the checkpoint the tick stands on, 0 and "" for none.
        verdict: of the replay of this tick, None where nothing was estimated.
        losses: holes declared near it, the nearest first.
        gateway: where it was measured or computed.
    """

    key: TwinKey
    prop: str
    unit: str
    t_ns: int
    said: Mapping[str, Seen]
    inputs: tuple[Seen, ...]
    model: ModelVersion | None
    running: str
    directive: Directive | None
    checkpoint_ns: int
    checkpoint_cause: str
    verdict: Span | None
    losses: tuple[Loss, ...]
    gateway: Gateway | None


def explain(replayer: Replayer, store: ExplainStore, key: TwinKey, prop: str, at_ns: int) -> Explanation:
    """The newest value of a property up to `at_ns`, explained.

    Raises:
        MissingError: UNKNOWN_TWIN; NOT_FOUND when the twin has no such property, or it had no value by then.
    """
    twin = store.twin(key)
    known = {p.name: p for p in twin.properties}
    if prop not in known:
        has = ", ".join(sorted(known)) or "none yet"
        raise MissingError("NOT_FOUND", f"twin {key.twin} has no property {prop!r}", hint=f"it has {has}")
    names = {role: f"{key.twin}/{prop}#{role}" for role in OUTPUT_ROLES}
    if known[prop].signal:
        names["measured"] = known[prop].signal
    gateways = store.gateways_of(key)
    gateway, said = _said(store, gateways, names, at_ns)
    if gateway is None:
        since_ns = max((store.kept_of_signals(one, sorted(set(names.values()))).raw_ns for one in gateways), default=0)
        if at_ns < since_ns:
            detail = f"{prop} of {key.twin}: retention has let go of that time"
            raise MissingError("HISTORY_EXPIRED", detail, kept_from_ns=since_ns)
        raise MissingError("NOT_FOUND", f"{prop} of {key.twin} has no value at that time")
    estimate = said.get("estimate")
    t_ns = (estimate or said["measured"]).t_ns
    segment, span = None, None
    inputs: tuple[Seen, ...] = ()
    if estimate is not None:
        segment, span, inputs = _replayed(replayer, store, key, gateway, estimate, t_ns)
    stands = None if segment is None else segment.checkpoint
    running = twin.model.running if stands is None else stands.model
    digest = twin.model.running_digest if stands is None else stands.digest.hex()
    return Explanation(
        key=key,
        prop=prop,
        unit=known[prop].unit,
        t_ns=t_ns,
        said=said,
        inputs=inputs,
        model=_model(store, key.tenant, running, digest),
        running=running,
        directive=_directive(store, key, digest, t_ns),
        checkpoint_ns=0 if stands is None else stands.next_ns,
        checkpoint_cause="" if stands is None else stands.cause,
        verdict=span,
        losses=_near(store.losses(gateway), t_ns),
        gateway=store.gateway(gateway),
    )


def quality_words(code: int) -> str:
    """A quality in words: `good`, `bad: is too old`."""
    reason = code & 0xFF
    words = QUALITY_WORDS.get(QualityReason(reason), "") if reason in QualityReason._value2member_map_ else ""
    return f"{class_of(code).name.lower()}: {words}" if words else describe(code)


def verdict_words(span: Span) -> str:
    """A verdict in words."""
    if span.reason is not None:
        return WORDS[span.reason] + (f" ({span.detail})" if span.detail else "")
    if span.proof == "kernel":
        return "computed again from history, every bit is proven by the next checkpoint"
    return "computed again from history, equal to what is stored; the next checkpoint will prove its bits"


def _said(
    store: ExplainStore, gateways: Sequence[GatewayKey], names: Mapping[str, str], at_ns: int
) -> tuple[GatewayKey | None, dict[str, Seen]]:
    """The newest samples of each role, those of the model of one tick."""
    for back_ns in LOOK_BACK_NS:
        for gateway in reversed(gateways):
            tracks = store.tracks(gateway, sorted(set(names.values())), at_ns - back_ns, at_ns + 1, KNOWN_ALL)
            found = {}
            estimate = _with_sigma(tracks[names["estimate"]], tracks[names["sigma"]])
            tick_ns = int(estimate.t_ns[-1]) if len(estimate) else NEVER_NS
            for role, name in names.items():
                track = tracks[name]
                if role != "measured":
                    track = track.take(track.t_ns == tick_ns)
                if len(track):
                    found[role] = _seen("", track, len(track) - 1, at_ns)
            if "estimate" in found or ("measured" in found and back_ns > LOOK_BACK_NS[0]):
                return gateway, found
    return None, {}


def _with_sigma(estimate: Track, sigma: Track) -> Track:
    """Estimates with a sigma of their tick: without it nobody could tell what they are worth."""
    value = np.asarray(sigma.value, np.float64)
    return estimate.take(np.isin(estimate.t_ns, sigma.t_ns[np.isfinite(value) & (value >= 0)]))


def _replayed(
    replayer: Replayer, store: ExplainStore, key: TwinKey, gateway: GatewayKey, estimate: Seen, t_ns: int
) -> tuple[Segment | None, Span, tuple[Seen, ...]]:
    boot = estimate.block.partition("/")[0]
    segments = segments_of(store, [gateway], key.twin, t_ns, t_ns + 1, KNOWN_ALL)
    mine = [s for s in segments if s.mark.boot.hex() == boot and s.checkpoint.next_ns <= t_ns]
    told_ns = store.kept_of_signals(gateway, [lineage_signal(key.twin)]).raw_ns
    gone = told_ns > 0 and t_ns < told_ns + CHECKPOINT_NS
    bare = Span(t_ns, t_ns, 1, Reason.HISTORY_EXPIRED if gone else Reason.NO_CHECKPOINT)
    if not mine:
        return None, bare, ()
    segment, reader = mine[-1], Reader(store, t_ns + 1, KNOWN_ALL)
    spans = replayer.compute(key, segment, reader, (t_ns, t_ns + 1)).spans
    work = Work(segment, key.twin, reader, (t_ns, t_ns + 1))
    return segment, spans[0] if spans else bare, tuple(_inputs(store, work, t_ns))


def _inputs(store: ExplainStore, work: Work, t_ns: int) -> Iterable[Seen]:
    """What each port saw at the tick: a sample of its segment, else what the checkpoint says it held."""
    checkpoint, wires = work.checkpoint, work.wires
    tracks = work.inputs(checkpoint.base_ns, t_ns)
    for port, source in (*wires.inputs.items(), *wires.outputs.items()):
        track = tracks[source.signal]
        track = track.take(work.counts(track))
        if len(track):
            yield _seen(port, track, len(track) - 1, t_ns)
        elif (held := checkpoint.held.get(source.signal)) is not None:
            found = store.tracks(source.gateway, [source.signal], held[0], held[0] + 1, KNOWN_ALL)[source.signal]
            if len(found):
                yield _seen(port, found, len(found) - 1, t_ns)
            else:
                value = None if np.isnan(held[1]) else held[1]
                yield Seen(port, source.signal, value, source.unit, 0, held[0], t_ns - held[0])


def _seen(port: str, track: Track, at: int, now_ns: int) -> Seen:
    origin = track.origins[track.origin[at]]
    value = track.value[at]
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not np.isfinite(plain):
        plain = None
    t_ns = int(track.t_ns[at])
    block = f"{origin.boot.hex()}/{origin.stream}/{origin.first_seq}"
    return Seen(
        port, track.signal, plain, track.unit, int(track.quality[at]), t_ns, now_ns - t_ns,
        block, origin.received_ns, origin.committed_ns,
    )  # fmt: skip


def _model(store: ExplainStore, tenant: str, reference: str, digest: str) -> ModelVersion | None:
    try:
        found = store.model(tenant, reference) if reference else None
    except TwinError:
        return None
    return found if found is not None and digest in ("", found.digest) else None


def _directive(store: ExplainStore, key: TwinKey, digest: str, t_ns: int) -> Directive | None:
    """The newest directive that had put this model there by then."""
    mine = (d for d in store.directives(key.tenant, target=key.twin) if d.gateway.site == key.site)
    return next((d for d in mine if d.digest == digest and d.created_ns <= t_ns), None)


def _near(losses: Sequence[Loss], t_ns: int) -> tuple[Loss, ...]:
    def away(loss: Loss) -> int:
        return max(loss.from_ns - t_ns, t_ns - (loss.to_ns or t_ns), 0)

    return tuple(sorted((loss for loss in losses if away(loss) <= NEAR_NS), key=away)[:LOSSES_MAX])
