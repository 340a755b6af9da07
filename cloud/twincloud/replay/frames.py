"""Stored samples on a model's grid, many ticks at once: the frames an edge would have made of them.

    tracks of each signal ─▶ those that count ─▶ settled ─▶ held at every tick ─▶ units of the ports ─▶ u, y

The same rules as in `twinmodel.align`, by arrays: a long span costs about a microsecond a tick and signal. A span is
read in chunks, so that memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from twincloud.storage.contract import GatewayKey
from twincloud.storage.tracks import KNOWN_ALL, Track
from twinmodel.align import as_float, held, settled
from twinmodel.clock import SECOND_NS
from twinmodel.importers.dataset import Named, Ports
from twinmodel.quality import QualityReason, bad
from twinmodel.signal import Catalogue, TwinBinding
from twinmodel.units import conversion

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
CHUNK_TICKS: Final = 20_000
AGE_DEFAULT_NS: Final = 3 * SECOND_NS
AGE_PERIODS: Final = 3
LOOK_BACK_NS: Final = 86_400 * SECOND_NS
"""How far before a span a value is looked for that does not age."""
_CLOCK: Final = bad(QualityReason.CLOCK)


class Tracks(Protocol):
    """The part of the store this reads."""

    def tracks(
        self, gateway: GatewayKey, signals: Sequence[str], from_ns: int, to_ns: int, known: int = KNOWN_ALL
    ) -> Mapping[str, Track]:
        """Samples of signals in [from_ns, to_ns) that were committed up to `known`, with their origins.

        Raises UNKNOWN_GATEWAY; LIMIT_EXCEEDED when the span holds too much.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """The signal that feeds a port.

    Attributes:
        gateway: whose signal it is; a twin may span gateways.
        signal: its name.
        unit: its unit, values are converted to that of the port; "" when they are the same.
        age_limit_ns: age beyond which its last value is too old, 0 for none.
    """

    gateway: GatewayKey
    signal: str
    unit: str
    age_limit_ns: int


@dataclass(frozen=True, slots=True)
class Wires:
    """What feeds the ports of a model, by their names; outputs that nothing measures are not named."""

    inputs: Mapping[str, Source]
    outputs: Mapping[str, Source]

    @property
    def sources(self) -> tuple[Source, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.inputs.values(), *self.outputs.values())))


@dataclass(frozen=True, slots=True)
class Frames:
    """A run of ticks.

    Attributes:
        t_ns: times, shape (ticks,).
        u: inputs, shape (ticks, m), NaN where there is none to use.
        y: measured outputs, shape (ticks, p), NaN where there is none.
    """

    t_ns: I64
    u: F64
    y: F64

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True)
class Run:
    """Samples of one signal ready to be held: times strictly rising, values NaN where they are bad."""

    t_ns: I64
    value: F64
    quality: NDArray[np.uint16]


Counts = Callable[[Track], NDArray[np.bool_]]
"""Which samples of a track count."""


def wires_of(gateway: GatewayKey, binding: TwinBinding, catalogue: Catalogue, ports: Ports) -> Wires:
    """What feeds a model by the binding of its twin; ages are three periods of the signals, as the edge has them."""

    def source(port: Named) -> Source | None:
        signal = catalogue.by_name.get(binding.properties.get(port.name, ""))
        if signal is None:
            return None
        return Source(gateway, signal.name, signal.unit, AGE_PERIODS * signal.period_ns or AGE_DEFAULT_NS)

    def sources(some: Sequence[Named]) -> Mapping[str, Source]:
        return {port.name: found for port in some if (found := source(port)) is not None}

    return Wires(sources(ports.inputs), sources(ports.outputs))


def frames_of(
    store: Tracks,
    wires: Wires,
    ports: Ports,
    from_ns: int,
    to_ns: int,
    known: int = KNOWN_ALL,
    *,
    chunk_ticks: int = CHUNK_TICKS,
) -> Iterator[Frames]:
    """The frames of a model over a span, with all that is known of it; samples that came late are used, too.

    Args:
        store: where samples are.
        wires: what feeds the ports.
        ports: of the model: a package, a manifest or an estimator.
        from_ns: the first tick is the first multiple of its dt that is not before.
        to_ns: end, not included.
        known: number of the last commit to know of.
        chunk_ticks: most ticks in one piece.

    Raises:
        MissingError: UNKNOWN_GATEWAY.
        InputError: LIMIT_EXCEEDED when a chunk holds too much.
    """
    dt_ns = ports.dt_ns
    tick_ns = -(-from_ns // dt_ns) * dt_ns
    carried: Mapping[Source, Run] = {}
    while tick_ns < to_ns:
        ticks = np.arange(tick_ns, min(to_ns, tick_ns + chunk_ticks * dt_ns), dt_ns, dtype=np.int64)
        runs = runs_of(store, wires.sources, (tick_ns - dt_ns, int(ticks[-1])), known, carried)
        yield grid(wires, ports, ticks, runs)
        carried = {source: newest(run, int(ticks[-1])) for source, run in runs.items()}
        tick_ns = int(ticks[-1]) + dt_ns


def runs_of(
    store: Tracks,
    sources: Sequence[Source],
    span_ns: tuple[int, int],
    known: int = KNOWN_ALL,
    carried: Mapping[Source, Run] | None = None,
    counts: Counts | None = None,
) -> dict[Source, Run]:
    """Samples of sources with times in (span_ns[0], span_ns[1]], and the one before by which each begins.

    Args:
        store: where samples are.
        sources: which.
        span_ns: see above.
        known: number of the last commit to know of.
        carried: what sources held at the begin; of those that are not named it is looked for in the past.
        counts: which samples count, all by default.
    """
    found: dict[Source, Run] = {}
    carried = carried or {}
    for gateway in dict.fromkeys(source.gateway for source in sources):
        mine = [source for source in sources if source.gateway == gateway]
        backs = [s.age_limit_ns or LOOK_BACK_NS for s in mine if s not in carried]
        since_ns = span_ns[0] - max(backs, default=-1)
        tracks = store.tracks(gateway, [s.signal for s in mine], since_ns, span_ns[1] + 1, known)
        for source in mine:
            run = run_of(tracks[source.signal], counts)
            if source in carried:
                before, after = carried[source], run.t_ns > span_ns[0]
                run = Run(
                    np.concatenate([before.t_ns, run.t_ns[after]]),
                    np.concatenate([before.value, run.value[after]]),
                    np.concatenate([before.quality, run.quality[after]]),
                )
            found[source] = run
    return found


def run_of(track: Track, counts: Counts | None = None) -> Run:
    """The samples of a track as an aligner settles them."""
    # A time that is known to be wrong belongs to no tick.
    mine = track.quality != _CLOCK
    if counts is not None:
        mine &= counts(track)
    if not mine.all():
        track = track.take(mine)
    value, quality = as_float(track.kind, track.value, track.quality)
    order = settled(track.t_ns, value, quality)
    return Run(track.t_ns[order], value[order], quality[order])


def newest(run: Run, tick_ns: int) -> Run:
    """The one sample, or none, that a run holds at a tick."""
    at = int(np.searchsorted(run.t_ns, tick_ns, "right"))
    return Run(run.t_ns[:at][-1:], run.value[:at][-1:], run.quality[:at][-1:])


def grid(wires: Wires, ports: Ports, ticks_ns: I64, runs: Mapping[Source, Run]) -> Frames:
    """Frames at these ticks."""
    columns = {s: held(r.t_ns, r.value, r.quality, ticks_ns, s.age_limit_ns)[0] for s, r in runs.items()}

    def filled(some: Sequence[Named], wired: Mapping[str, Source]) -> F64:
        values = np.full((len(ticks_ns), len(some)), np.nan)
        for place, port in enumerate(some):
            source = wired.get(port.name)
            if source is not None:
                gain, shift = conversion(source.unit or port.unit, port.unit)
                values[:, place] = columns[source] * gain + shift
        return values

    return Frames(ticks_ns, filled(ports.inputs, wires.inputs), filled(ports.outputs, wires.outputs))
