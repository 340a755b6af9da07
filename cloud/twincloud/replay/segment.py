"""One segment of a replay: its frames from stored samples, and the verdict over what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twincloud.replay.chains import Segment
from twincloud.replay.frames import CHUNK_TICKS, Frames, Run, Source, Tracks, Wires, grid, newest, run_of
from twincloud.replay.verdict import Reason, Span
from twincloud.storage.contract import GatewayKey, Loss
from twincloud.storage.tracks import Track
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.importers.dataset import Ports
from twinmodel.lineage import EVERY_NS, Checkpoint, follows_rule
from twinmodel.signal import OUTPUT_ROLES, Kind
from twinmodel.stride import Strides

I64 = NDArray[np.int64]
BOOL = NDArray[np.bool_]
READ_AHEAD_NS: Final = 4 * 3_600 * SECOND_NS
"""History that is read at once for many short segments."""
TICKS_MAX: Final = 1_000_000
"""Ticks of one segment."""
LANES: Final = frozenset({"STORE_FULL", "INTERNAL"})
"""Reasons under which an agent declares what its models saw, but what it could not keep."""


_WHY: Final = {"THINNED": Reason.INPUT_COARSENED, "EXPIRED": Reason.HISTORY_EXPIRED}
_Held = tuple[GatewayKey, frozenset[str], int, int, Mapping[str, Track]]


class Reader:
    """Reads tracks ahead of the segments that ask for them.

    Args:
        store: where they are.
        until_ns: time behind which no segment is asked for; its own samples are read whatever it is.
        known: number of the last commit to know of.
    """

    def __init__(self, store: Tracks, until_ns: int, known: int) -> None:
        self._store = store
        self._until_ns = until_ns
        self.known = known
        self._held: _Held | None = None

    def tracks(
        self, gateway: GatewayKey, signals: frozenset[str], wanted: frozenset[str], span_ns: tuple[int, int]
    ) -> Mapping[str, Track]:
        """Samples of the wanted ones of some signals, which are read together, in [span_ns[0], span_ns[1])."""
        held, (from_ns, to_ns) = self._held, span_ns
        if held is None or held[:2] != (gateway, signals) or from_ns < held[2] or to_ns > held[3]:
            end_ns = max(to_ns, min(from_ns + READ_AHEAD_NS, self._until_ns))
            try:
                found = self._store.tracks(gateway, sorted(signals), from_ns, end_ns, self.known)
            except InputError:
                # It holds too much: no more is read than is needed now.
                end_ns = to_ns
                found = self._store.tracks(gateway, sorted(signals), from_ns, end_ns, self.known)
            held = self._held = (gateway, signals, from_ns, end_ns, found)
        return {name: _part(held[4][name], from_ns, to_ns) for name in wanted}


def _part(track: Track, from_ns: int, to_ns: int) -> Track:
    first, end = np.searchsorted(track.t_ns, (from_ns, to_ns))
    return track.take(np.arange(first, end))


class Work:
    """One segment on its way through a replay.

    Args:
        segment: which.
        twin: name of the twin.
        reader: where samples come from.
        span_ns: what is asked for, [from, to).

    Attributes:
        last_ns: its last tick, or the last one that is stored when nobody says; before its first for none.
    """

    def __init__(self, segment: Segment, twin: str, reader: Reader, span_ns: tuple[int, int]) -> None:
        self.segment = segment
        self.checkpoint: Checkpoint = segment.checkpoint
        self._twin = twin
        self._reader = reader
        self._span_ns = span_ns
        outputs = self.checkpoint.exponents
        self._inputs = frozenset(source.signal for source in self.wires.sources)
        self._said = frozenset(f"{twin}/{output}#{role}" for output in outputs for role in OUTPUT_ROLES)
        self.last_ns = self._last_ns()

    @property
    def is_sealed(self) -> bool:
        """Whether the next checkpoint tells how its ticks ended."""
        ended = self.segment.ended
        return ended is not None and bool(ended.seal) and self.segment.direct and ended.tick_ns == self.last_ns

    @property
    def wires(self) -> Wires:
        """What feeds the model."""
        c, gateway = self.checkpoint, self.segment.mark.gateway

        def sources(ports: Mapping[str, str]) -> Mapping[str, Source]:
            return {
                port: Source(gateway, signal, c.units.get(signal, ""), c.limits_ns.get(signal, 0))
                for port, signal in ports.items()
            }

        return Wires(sources(c.inputs), sources(c.outputs))

    def frames(self, ports: Ports) -> Iterator[Frames]:
        """The frames its ticks saw, in pieces."""
        c, wires = self.checkpoint, self.wires
        carried = {source: self._held(source.signal) for source in wires.sources}
        base_ns = c.base_ns
        for ticks in self.pieces():
            tracks = self.inputs(base_ns, int(ticks[-1]))
            runs = {s: _continued(carried[s], run_of(tracks[s.signal], self.counts)) for s in wires.sources}
            yield grid(wires, ports, ticks, runs)
            base_ns = int(ticks[-1])
            carried = {source: newest(run, base_ns) for source, run in runs.items()}

    def inputs(self, after_ns: int, last_ns: int) -> Mapping[str, Track]:
        """Samples of the inputs in (after_ns, last_ns]."""
        return self._tracks(self._inputs, after_ns + 1, last_ns + 1)

    def counts(self, track: Track) -> BOOL:
        """Which samples the ticks saw."""
        mine = of_boot(track, self.segment.mark.boot)
        floor_ns = max(self.checkpoint.floors_ns.get(track.signal, self.checkpoint.base_ns), self.checkpoint.base_ns)
        rule = follows_rule(track.t_ns, track.quality, floor_ns)
        for (signal, t_ns, used), count in self.segment.passed.items():
            if signal == track.signal:
                first, end = np.searchsorted(track.t_ns, (t_ns, t_ns + 1))
                # Of samples of one time those that came last are the exceptions.
                wrong = first + np.flatnonzero(mine[first:end] & (rule[first:end] != used))[-count:]
                rule[wrong] = used
        return mine & rule

    def pieces(self) -> Iterator[I64]:
        """Its ticks, in pieces."""
        first, dt_ns = self.checkpoint.next_ns, self.checkpoint.dt_ns
        while first <= self.last_ns:
            end = min(self.last_ns + 1, first + CHUNK_TICKS * dt_ns)
            ticks = np.arange(first, end, dt_ns, dtype=np.int64)
            yield ticks
            first = int(ticks[-1]) + dt_ns

    def failed(self, reason: Reason, detail: str = "") -> tuple[Span, ...]:
        """The verdict over all of it when it cannot be run."""
        pieces = ((ticks, np.ones(len(ticks), np.bool_)) for ticks in self.pieces())
        return tuple(span for ticks, every in pieces for span in self._spans(ticks, every, reason, detail))

    def judged(
        self, outputs: Sequence[str], strides: Sequence[Strides], proof: tuple[bytes, bytes], losses: Sequence[Loss]
    ) -> tuple[Span, ...]:
        """The verdict over its ticks.

        Args:
            outputs: names of the outputs, in the order of the columns of `strides`.
            strides: what the model said at them.
            proof: hash of its state after the last, and of all that it was given.
            losses: what the gateway declared.
        """
        ended = self.segment.ended
        ticks = np.concatenate([one.t_ns for one in strides])
        foreign = np.isin(ticks, ended.foreign if ended is not None else ())
        compared = [self._compared(outputs, one) for one in strides]
        differs, told = (np.concatenate(column) & ~foreign for column in zip(*compared, strict=True))
        spans = [*self._spans(ticks, foreign, Reason.FELL_BACK)]
        proven = self.is_sealed and ended is not None and (ended.seal, ended.trace) == proof
        if proven:
            spans += self._spans(ticks, ~foreign & differs, Reason.OUTPUT_DIFFERS)
            return (*spans, *self._spans(ticks, ~foreign & ~differs, None, proof="kernel"))
        lost = self._lost(losses)
        before = ticks < (lost[0] if lost is not None else ticks[-1] + 1)
        if (self.is_sealed and lost is None) or (differs & before).any():
            # Where it began nobody can say.
            return (*spans, *self._spans(ticks, ~foreign, *self._unexplained(ticks, differs)))
        # Nothing but what is stored can be compared: where nothing is, nothing is known.
        spans += self._spans(ticks, before & told, None, proof="outputs")
        bare = before & ~told & ~foreign
        spans += self._spans(ticks, bare, Reason.NO_ESTIMATE, "none is stored that could be compared")
        return (*spans, *self._spans(ticks, ~before & ~foreign, *(lost[1:] if lost is not None else (None,))))

    def _unexplained(self, ticks: I64, differs: BOOL) -> tuple[Reason, str]:
        """Why ticks differ for which no loss is declared."""
        segment = self.segment
        if segment.next_ns is not None and not segment.direct:
            return Reason.NO_CHECKPOINT, "a checkpoint within these ticks is missing"
        if segment.ended is not None and not segment.complete:
            return Reason.INPUT_DROPPED, ""
        if not any(len(track) for track in self.inputs(self.checkpoint.base_ns, self.last_ns).values()):
            return Reason.HISTORY_EXPIRED, ""
        if differs.any():
            return Reason.OUTPUT_DIFFERS, f"first at tick {int(ticks[differs][0])}"
        return Reason.CHECKPOINT_MISMATCH, "what is stored of its outputs is equal"

    def _lost(self, losses: Sequence[Loss]) -> tuple[int, Reason, str] | None:
        """The first tick that a declared loss may have touched, with why."""
        found = []
        boot = self.segment.mark.boot.hex()
        for loss in losses:
            if loss.kind in {"GAP", "THINNED"} and loss.boot != boot:
                continue
            if loss.kind == "NOT_ACQUIRED" and not (loss.device == "*" and loss.reason in LANES):
                continue
            from_ns, to_ns = loss.from_ns or self.checkpoint.next_ns, loss.to_ns or self.last_ns
            if from_ns > self.last_ns or to_ns <= self.checkpoint.base_ns:
                continue
            found.append((from_ns, _WHY.get(loss.kind, Reason.INPUT_LOST), f"{loss.kind} {loss.reason}".strip()))
        return min(found) if found else None

    def _compared(self, outputs: Sequence[str], said: Strides) -> tuple[BOOL, BOOL]:
        """At which ticks something else is stored than was computed, and at which an estimate is stored at all."""
        differs, told = np.zeros(len(said), np.bool_), np.zeros(len(said), np.bool_)
        stored = self._outputs(int(said.t_ns[0]), int(said.t_ns[-1]))
        columns = (said.estimate, said.sigma, said.prediction, said.innovation, said.drift)
        for place, output in enumerate(outputs):
            digits = self.checkpoint.exponents.get(output)
            if digits is None:
                continue
            for role, column, exponent in zip(OUTPUT_ROLES, columns, digits, strict=True):
                track = stored[f"{self._twin}/{output}#{role}"]
                if track.kind is Kind.STRING or not len(track):
                    continue
                at, rest = np.divmod(track.t_ns - said.t_ns[0], self.checkpoint.dt_ns)
                expected = _rounded(column[:, place], exponent)[at]
                equal = (expected == track.value) | (np.isnan(expected) & np.isnan(track.value.astype(np.float64)))
                differs[at[(rest != 0) | ~equal]] = True
                if role == "estimate":
                    told[at] = True
        return differs, told

    def _tracks(self, wanted: frozenset[str], from_ns: int, to_ns: int) -> Mapping[str, Track]:
        return self._reader.tracks(self.segment.mark.gateway, self._inputs | self._said, wanted, (from_ns, to_ns))

    def _outputs(self, first_ns: int, last_ns: int) -> Mapping[str, Track]:
        tracks = self._tracks(self._said, first_ns, last_ns + 1)
        return {name: track.take(of_boot(track, self.segment.mark.boot)) for name, track in tracks.items()}

    def _last_ns(self) -> int:
        segment, c = self.segment, self.checkpoint
        # An agent takes one at least so often; what claims more is torn, or hostile.
        until_ns = c.next_ns + min(max(EVERY_NS, c.dt_ns), TICKS_MAX * c.dt_ns)
        if segment.ended is not None and segment.direct and segment.ended.tick_ns < until_ns:
            # Read from here on, as the frames need it.
            self._tracks(frozenset(), c.base_ns + 1, segment.ended.tick_ns + 1)
            return segment.ended.tick_ns
        end_ns = min(self._span_ns[1], until_ns)
        if segment.next_ns is not None:
            end_ns = min(end_ns, segment.next_ns)
        if end_ns <= c.next_ns:
            return c.next_ns - 1
        self._tracks(frozenset(), c.base_ns + 1, end_ns)
        ends = [int(track.t_ns[-1]) for track in self._outputs(c.next_ns, end_ns - 1).values() if len(track)]
        return max(ends, default=c.next_ns - 1)

    def _held(self, signal: str) -> Run:
        at = self.checkpoint.held.get(signal)
        if at is None:
            return Run(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint16))
        return Run(np.array([at[0]], np.int64), np.array([at[1]]), np.zeros(1, np.uint16))

    def _spans(self, ticks: I64, mask: BOOL, reason: Reason | None, detail: str = "", *, proof: str = "") -> list[Span]:
        """The ticks of a mask that are asked for, as spans."""
        c = self.checkpoint
        mask = mask & (ticks >= self._span_ns[0]) & (ticks < self._span_ns[1])
        found = []
        places = np.flatnonzero(mask)
        for part in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
            if len(part):
                first, last = int(ticks[part[0]]), int(ticks[part[-1]])
                found.append(Span(first, last, len(part), reason, proof, c.next_ns, c.model, detail, c.dt_ns))
        return found


def of_boot(track: Track, boot: bytes) -> BOOL:
    """Which samples one start of an agent has told."""
    mine = np.array([origin.boot == boot for origin in track.origins], np.bool_)
    return mine[track.origin] if len(mine) else np.zeros(len(track), np.bool_)


def _continued(before: Run, run: Run) -> Run:
    return Run(
        np.concatenate([before.t_ns, run.t_ns]),
        np.concatenate([before.value, run.value]),
        np.concatenate([before.quality, run.quality]),
    )


def _rounded(column: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """As the edge rounds what it publishes."""
    scale = 10.0**exponent
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = column * scale
    return np.where(np.isfinite(scaled), np.rint(scaled) / scale, np.nan)
