"""Computes estimates again from checkpoints, stored samples and packages, and says of every tick whether it succeeded.

    checkpoint ─▶ estimator ─┐
    samples of its agent ────┴▶ frames ─▶ results ─┬─ equal to what is stored, at its resolution?
                                                   └─ state equal to the seal of the next checkpoint, bit for bit?

Where the seal agrees every bit of the span is proven, whatever was declared lost meanwhile: it concerned others. Where
it does not, the ticks before the first declared loss count by what is stored; the rest is NOT_REPLAYABLE.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from twincloud.replay.chains import Segment, segments_of
from twincloud.replay.frames import Tracks
from twincloud.replay.segment import Reader, Work, of_boot
from twincloud.replay.verdict import Reason, Span, joined
from twincloud.storage.contract import GatewayKey, Loss, Twin, TwinKey
from twincloud.storage.kept import Kept
from twincloud.storage.records_cloud import CLOUD
from twincloud.storage.tracks import KNOWN_ALL
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, MissingError, StorageError, TwinError
from twinmodel.lineage import Checkpoint, Trace, lineage_signal
from twinmodel.package import archive, signing
from twinmodel.stride import Strides, StridingEstimator

ESTIMATORS_MAX: Final = 8
CLOUD_WORDS: Final = "it ran in the coordinator, which tells none: its ticks follow from a commit number"
CHECKPOINT_NS: Final = 700 * SECOND_NS
"""While a model runs, no longer than this passes from one checkpoint to the next."""
_SAME_STATE: Final = frozenset({"period", "catalogue", "leap"})


class ReplayStore(Tracks, Protocol):
    """The part of the store this reads."""

    def gateways_of(self, key: TwinKey) -> tuple[GatewayKey, ...]:
        """The gateways that have spoken for a twin; raises UNKNOWN_TWIN."""
        ...

    def twin(self, key: TwinKey) -> Twin:
        """One twin; raises UNKNOWN_TWIN."""
        ...

    def kept_of_signals(self, gateway: GatewayKey, signals: Sequence[str]) -> Kept:
        """From when on all of some signals is kept; raises UNKNOWN_GATEWAY."""
        ...

    def losses(self, key: GatewayKey) -> tuple[Loss, ...]:
        """Every declared hole."""
        ...

    def artifact(self, tenant: str, digest: str) -> bytes:
        """The bytes of an artifact; raises NOT_FOUND."""
        ...

    def signers(self, tenant: str) -> Mapping[str, bytes]:
        """Trusted public keys (PEM) by key id."""
        ...


@dataclass(frozen=True, slots=True)
class Computed:
    """What came of one segment.

    Attributes:
        spans: its ticks by verdict.
        strides: what the model says at its ticks, in pieces; empty when it could not be run.
    """

    spans: tuple[Span, ...]
    strides: tuple[Strides, ...] = ()


class Replayer:
    """Replays twins of one store; safe to use from any thread.

    Args:
        store: where history is.
        cache_dir: folder of compiled kernels, see `warmup.cache_folder`.
        tier: see `Estimator`; by default the first replay of a model waits for its kernel to be compiled.
    """

    def __init__(self, store: ReplayStore, *, cache_dir: Path | None = None, tier: str = "jit") -> None:
        self.store = store
        self._cache_dir = cache_dir
        self._tier = tier
        self._idle: list[tuple[str, bytes, StridingEstimator]] = []
        self._lock = threading.Lock()

    def spans(self, key: TwinKey, from_ns: int, to_ns: int, known: int = KNOWN_ALL) -> tuple[Span, ...]:
        """Verdicts of all ticks in [from_ns, to_ns), by time; only ticks that were stored or sealed count.

        Raises:
            MissingError: UNKNOWN_TWIN.
            InputError: LIMIT_EXCEEDED when the span holds too much for one answer.
        """
        gateways = self.store.gateways_of(key)
        reader = Reader(self.store, to_ns, known)
        found: list[Span] = []
        reached: dict[tuple[GatewayKey, bytes], list[Span]] = {}
        for segment in segments_of(self.store, gateways, key.twin, from_ns, to_ns, known):
            spans = self.compute(key, segment, reader, (from_ns, to_ns)).spans
            reached.setdefault((segment.mark.gateway, segment.mark.boot), []).extend(spans)
            found += spans
        return joined([*found, *self._bare(key, gateways, reached, (from_ns, to_ns), known)])

    def compute(self, key: TwinKey, segment: Segment, reader: Reader, span_ns: tuple[int, int]) -> Computed:
        """One segment run again as a whole and judged, as far as it lies in [span_ns[0], span_ns[1])."""
        checkpoint = segment.checkpoint
        work = Work(segment, key.twin, reader, span_ns)
        if work.last_ns < checkpoint.next_ns:
            return Computed(())
        if segment.mark.t_ns != checkpoint.next_ns:
            return Computed(work.failed(Reason.CLOCK_SET))
        inputs = sorted({source.signal for source in work.wires.sources})
        if checkpoint.base_ns + 1 < self.store.kept_of_signals(segment.mark.gateway, inputs).raw_ns:
            return Computed(work.failed(Reason.HISTORY_EXPIRED))
        estimator = self._standing(key.tenant, checkpoint)
        if isinstance(estimator, tuple):
            return Computed(work.failed(*estimator))
        strides, trace = [], Trace()
        for frames in work.frames(estimator):
            trace.add(frames.t_ns, frames.u, frames.y)
            strides.append(estimator.stride(frames.t_ns, frames.u, frames.y))
        proof = estimator.state_hash(), trace.digest()
        self._give_back(key.tenant, checkpoint.digest, estimator)
        outputs = [port.name for port in estimator.outputs]
        return Computed(work.judged(outputs, strides, proof, self.store.losses(segment.mark.gateway)), tuple(strides))

    def _standing(self, tenant: str, checkpoint: Checkpoint) -> StridingEstimator | tuple[Reason, str]:
        """An estimator that stands where the checkpoint was taken, or why there is none."""
        if not checkpoint.state:
            return Reason.NO_CHECKPOINT, "its state is too large to be told"
        try:
            estimator = self._borrow(tenant, checkpoint.digest)
        except TwinError as error:
            return Reason.MODEL_UNKNOWN, error.message
        if estimator.dt_ns != checkpoint.dt_ns:
            return Reason.CHECKPOINT_UNREADABLE, f"the model ticks each {estimator.dt_ns} ns, not {checkpoint.dt_ns}"
        try:
            estimator.restore(checkpoint.state)
        except StorageError as error:
            return Reason.CHECKPOINT_UNREADABLE, error.message
        ended = checkpoint.ended
        same = checkpoint.cause in _SAME_STATE and ended is not None and ended.seal
        if ended is not None and same and ended.seal != estimator.state_hash():
            return Reason.CHECKPOINT_MISMATCH, "the checkpoint is not of the state it was taken at"
        return estimator

    def _bare(
        self,
        key: TwinKey,
        gateways: Sequence[GatewayKey],
        reached: Mapping[tuple[GatewayKey, bytes], Sequence[Span]],
        span_ns: tuple[int, int],
        known: int,
    ) -> Iterator[Span]:
        """Ticks that are stored, but that no segment of the same start of the same agent reaches."""
        names = [f"{key.twin}/{p.name}#estimate" for p in self.store.twin(key).properties]
        for gateway in gateways:
            since_ns = self.store.kept_of_signals(gateway, names).raw_ns
            if span_ns[0] < since_ns:
                # Nobody can say any more how many ticks there were.
                yield Span(span_ns[0], min(span_ns[1], since_ns) - 1, 0, Reason.HISTORY_EXPIRED)
            told_ns = self.store.kept_of_signals(gateway, [lineage_signal(key.twin)]).raw_ns + CHECKPOINT_NS
            tracks = [track for track in self.store.tracks(gateway, names, *span_ns, known).values() if len(track)]
            for boot in dict.fromkeys(origin.boot for track in tracks for origin in track.origins):
                its = (track.t_ns[of_boot(track, boot)] for track in tracks)
                ticks = np.unique(np.concatenate([np.empty(0, np.int64), *its]))
                spans = reached.get((gateway, boot), ())
                for span in spans:
                    ticks = ticks[(ticks < span.from_ns) | (ticks > span.to_ns)]
                starts = sorted(span.from_ns for span in spans)
                for part in np.split(ticks, np.unique(np.searchsorted(ticks, starts))):
                    if len(part):
                        gone = told_ns > CHECKPOINT_NS and int(part[0]) < told_ns
                        reason = Reason.HISTORY_EXPIRED if gone else Reason.NO_CHECKPOINT
                        detail = CLOUD_WORDS if gateway.gateway == CLOUD else ""
                        yield Span(int(part[0]), int(part[-1]), len(part), reason, detail=detail)

    def _borrow(self, tenant: str, digest: bytes) -> StridingEstimator:
        """An estimator of a package; raises TwinError when it cannot be had."""
        with self._lock:
            for place, (owner, known, estimator) in enumerate(self._idle):
                if (owner, known) == (tenant, digest):
                    del self._idle[place]
                    return estimator
        trusted = {one: signing.parse_public_key(pem) for one, pem in self.store.signers(tenant).items()}
        package = archive.load(self.store.artifact(tenant, digest.hex()), trusted)
        if package.digest != digest:
            raise MissingError("UNKNOWN_MODEL", f"artifact {digest.hex()} is another package")
        try:
            return StridingEstimator(package, tier=self._tier, cache_dir=self._cache_dir)
        except (StorageError, ConflictError) as error:
            if error.reason == "PARITY_FAILED":
                raise
            # No compiler, or no folder for it: a hundred times slower, with the same bits.
            return StridingEstimator(package, tier="interpreted")

    def _give_back(self, tenant: str, digest: bytes, estimator: StridingEstimator) -> None:
        with self._lock:
            self._idle.append((tenant, digest, estimator))
            del self._idle[: max(len(self._idle) - ESTIMATORS_MAX, 0)]
