"""One step of one cloud twin: from what was committed since its last look to what its model says about it.

    commits since `through` ─▶ newest time by feed ─▶ watermark ─▶ frames as known by then ─▶ kernel ─▶ one commit
                          └▶ something for ticks that are done: back to the checkpoint before it ─┘

Ticks close by event time alone: when every feed has come so far, or when the one that is furthest has gone on for
`wait`. A step reads no more than was committed up to the number it then keeps as `through`, so what it says follows
from that number, whoever computes it and however often: estimates, state and number are kept in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from twincloud.estimate.publishing import EXPONENT, EXPONENT_MAX, Member, Voice, arrivals_of, batch_of, open_voice
from twincloud.estimate.wiring import load_package, resolve
from twincloud.replay.frames import Frames, Source, Wires, frames_of
from twincloud.storage.contract import GatewayKey, Store, TwinKey
from twincloud.storage.records_cloud import CloudTwin, Feed
from twincloud.storage.tracks import KNOWN_ALL, Track
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError
from twinmodel.signal import Catalogue
from twinmodel.stride import Strides, StridingEstimator

TICKS_MAX: Final = 2_000
CHECKPOINT_NS: Final = 600 * SECOND_NS
AHEAD_MAX_NS: Final = 60 * SECOND_NS
"""A sample further ahead of the clock has a wrong time: it would close ticks that nothing else has reached."""
ESTIMATORS_MAX: Final = 256
BEHIND_MAX: Final = 500
"""Commits that are looked at again, rather than written down as seen."""


class Newest:
    """Samples as cloud twins see them: of what a model said twice about one time, what it said last."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def tracks(
        self, gateway: GatewayKey, signals: Sequence[str], from_ns: int, to_ns: int, known: int = KNOWN_ALL
    ) -> Mapping[str, Track]:
        """See `replay.frames.Tracks`."""
        found = dict(self._store.tracks(gateway, signals, from_ns, to_ns, known))
        for name, track in found.items():
            if "#" in name and len(track):
                found[name] = track.take(np.append(track.t_ns[1:] != track.t_ns[:-1], [True]))
        return found


@dataclass(slots=True)
class _Running:
    """An estimator with the checkpoint it began with."""

    estimator: StridingEstimator
    blank: bytes


@dataclass(frozen=True, slots=True)
class Look:
    """What a step found new.

    Attributes:
        reached: newest event time by feed.
        through: the commit up to which it has looked.
        late_ns: event time of the earliest sample for ticks that are done, None for none.
    """

    reached: dict[Feed, int]
    through: int
    late_ns: int | None


class Stepper:
    """Steps cloud twins; for one thread, under a lease.

    Args:
        store: history, registry and cloud twins.
        on_commit: told of twins that have said something.
        cache_dir: folder of compiled kernels.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_commit: Callable[[Sequence[TwinKey]], None] = lambda _twins: None,
        cache_dir: Path | None = None,
        tier: str = "auto",
    ) -> None:
        self._store = store
        self._newest = Newest(store)
        self._on_commit = on_commit
        self._cache_dir = cache_dir
        self._tier = tier
        self._running: dict[tuple[TwinKey, int], _Running] = {}
        self._voices: dict[tuple[str, str], tuple[tuple[tuple[str, int], ...], Voice]] = {}

    def step(self, twin: CloudTwin, peers: Sequence[CloudTwin], now_ns: int) -> bool:
        """Advances a twin as far as its feeds allow, at most `TICKS_MAX` ticks.

        Args:
            twin: as the store has it.
            peers: all cloud twins of its site, itself included.
            now_ns: server time.

        Returns:
            Whether there may be more to do at once.

        Raises:
            TwinError: what the registry, the store or a feed raise; FENCED when another replica was faster.
        """
        running = self._estimator(twin)
        wires, sources = resolve(self._store, twin.key.tenant, twin.wiring)
        look = self._look(twin, sources, now_ns)
        base_ns, state, gone = twin.tick_ns, twin.state, 0
        if look.late_ns is not None:
            found = self._store.cloud_checkpoint(twin, look.late_ns)
            if found is None:
                gone = 1
            else:
                base_ns, state = found
        new = replace(
            twin, reached=look.reached, through=look.through, too_late=twin.too_late + gone, reason="", detail=""
        )
        if base_ns != twin.tick_ns:
            new = replace(new, revised=twin.revised + 1)
        frames = self._frames(running, wires, twin, base_ns, look)
        if not len(frames):
            behind = look.through - twin.through
            if behind < BEHIND_MAX and new == replace(twin, through=look.through):
                return False  # nothing that concerns it: the number is kept with the next step that says something
            self._store.keep_cloud_step(twin, replace(new, tick_ns=base_ns, state=state), None, {}, now_ns)
            return False
        self._advance(twin, new, (base_ns, state), frames, peers, running, now_ns)
        return len(frames) >= TICKS_MAX

    def forget(self, tenant: str, site: str) -> None:
        """The session of a site's gateway is not ours any more; the next step opens another."""
        self._voices.pop((tenant, site), None)

    def _look(self, twin: CloudTwin, sources: Mapping[Feed, Source], now_ns: int) -> Look:
        by_gateway: dict[GatewayKey, dict[str, list[Feed]]] = {}
        for feed, source in sources.items():
            by_gateway.setdefault(source.gateway, {}).setdefault(source.signal, []).append(feed)
        asked = {gateway: tuple(signals) for gateway, signals in by_gateway.items()}
        fresh, through = self._store.fresh(asked, twin.through)
        reached, late_ns = dict(twin.reached), None
        for one in fresh:
            times = one.t_ns[one.t_ns <= now_ns + AHEAD_MAX_NS]
            if not len(times):
                continue
            for feed in by_gateway[one.gateway][one.signal]:
                reached[feed] = max(reached.get(feed, 0), int(times.max()))
            earliest = int(times.min())
            if earliest <= twin.tick_ns:
                late_ns = earliest if late_ns is None else min(late_ns, earliest)
        return Look(reached, through, late_ns)

    def _frames(self, running: _Running, wires: Wires, twin: CloudTwin, base_ns: int, look: Look) -> Frames:
        """Ticks that have closed, without those at which nothing at all is known."""
        model = running.estimator
        from_ns = base_ns + model.dt_ns if base_ns else twin.since_ns
        to_ns = min(watermark_ns(twin, look.reached), from_ns + TICKS_MAX * model.dt_ns - 1) + 1
        # Ticks that were done stay done, though a watermark has not come back to them after a change of feeds.
        to_ns = max(to_ns, min(twin.tick_ns, from_ns + TICKS_MAX * model.dt_ns - 1) + 1)
        parts = list(frames_of(self._newest, wires, model, from_ns, to_ns, look.through, chunk_ticks=TICKS_MAX))
        if not parts:
            return Frames(np.empty(0, np.int64), np.empty((0, len(model.inputs))), np.empty((0, len(model.outputs))))
        t_ns, u, y = (np.concatenate(part) for part in zip(*((f.t_ns, f.u, f.y) for f in parts), strict=True))
        told = np.isfinite(u).any(axis=1) | np.isfinite(y).any(axis=1)
        return Frames(t_ns[told], u[told], y[told])

    def _advance(
        self,
        twin: CloudTwin,
        new: CloudTwin,
        base: tuple[int, bytes],
        frames: Frames,
        peers: Sequence[CloudTwin],
        running: _Running,
        now_ns: int,
    ) -> None:
        estimator, state = running.estimator, base[1]
        estimator.restore(state or running.blank)
        checkpoints: dict[int, bytes] = {}
        if not state:
            checkpoints[int(frames.t_ns[0]) - estimator.dt_ns] = b""
        said: list[Strides] = []
        # A checkpoint each ten minutes, at the same ticks whoever computes them.
        parts = np.flatnonzero(np.diff(frames.t_ns // CHECKPOINT_NS)) + 1
        for part in np.split(np.arange(len(frames)), parts):
            said.append(estimator.stride(frames.t_ns[part], frames.u[part], frames.y[part]))
            if part[-1] + 1 < len(frames):
                checkpoints[int(frames.t_ns[part[-1]])] = estimator.checkpoint()
        last_ns = int(frames.t_ns[-1])
        ended = replace(new, tick_ns=last_ns, state=estimator.checkpoint(), ticks=new.ticks + len(frames))
        voice = self._voice(twin, peers, now_ns)
        outputs = [port.name for port in estimator.outputs]
        # In pieces that a block holds; all of them are one commit.
        arrivals, start = [], voice.next_seq
        try:
            for one in said:
                arrivals += arrivals_of(voice, batch_of(twin.key.twin, outputs, one, voice.catalogue))
                voice.next_seq = arrivals[-1].item.last_seq + 1
            commit = self._store.keep_cloud_step(
                twin, ended, (voice.gateway, voice.session, arrivals), checkpoints, now_ns
            )
        except BaseException:
            voice.next_seq = start
            self.forget(twin.key.tenant, twin.key.site)
            raise
        if commit is not None:
            self._on_commit(commit.twins)

    def _estimator(self, twin: CloudTwin) -> _Running:
        known = self._running.get((twin.key, twin.version))
        if known is None:
            if len(self._running) >= ESTIMATORS_MAX:
                self._running.pop(next(iter(self._running)))
            package = load_package(self._store, twin.key.tenant, twin.digest)
            estimator = StridingEstimator(package, tier=self._tier, cache_dir=self._cache_dir)
            known = self._running[twin.key, twin.version] = _Running(estimator, estimator.checkpoint())
        return known

    def _voice(self, twin: CloudTwin, peers: Sequence[CloudTwin], now_ns: int) -> Voice:
        place = (twin.key.tenant, twin.key.site)
        mine = tuple(sorted((peer.key.twin, peer.version) for peer in peers))
        known = self._voices.get(place)
        if known is not None and known[0] == mine:
            return known[1]
        members = [self._member(peer) for peer in sorted(peers, key=lambda one: one.key.twin)]
        voice = open_voice(self._store, *place, members, now_ns)
        if not any(binding.twin == twin.key.twin for binding in voice.catalogue.twins):
            raise ConflictError("FENCED", f"cloud twin {twin.key.twin!r} was changed by somebody else")
        self._voices[place] = (mine, voice)
        return voice

    def _member(self, twin: CloudTwin) -> Member:
        package = self._estimator(twin).estimator.package
        exponents = {}
        for output, feed in twin.wiring.outputs.items():
            catalogue, signal = self._sensor(twin.key.tenant, feed)
            sensor = catalogue.by_name.get(signal)
            # As a gateway has it: one digit finer than the sensor.
            exponents[output] = min(sensor.exponent + 1, EXPONENT_MAX) if sensor and sensor.exponent > 0 else EXPONENT
        return Member(twin.key.twin, "", package, exponents)

    def _sensor(self, tenant: str, feed: Feed) -> tuple[Catalogue, str]:
        _, binding, catalogue = self._store.binding(TwinKey(tenant, feed.site, feed.twin))
        return catalogue, binding.properties.get(feed.prop, "")


def watermark_ns(twin: CloudTwin, reached: Mapping[Feed, int]) -> int:
    """Ticks up to here are closed: all feeds have come so far, or the furthest has gone on for the twin's patience."""
    if not reached:
        return 0
    slowest = min(reached.get(feed, 0) for feed in twin.wiring.feeds)
    return max(slowest, max(reached.values()) - twin.wait_ns)
