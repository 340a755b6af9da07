"""The checkpoints of a twin, read from its history: chains of spans, one for each start of its agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from twincloud.replay.frames import Tracks
from twincloud.storage.contract import GatewayKey
from twincloud.storage.tracks import Track
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.lineage import Checkpoint, Ended, lineage_signal, of_text

LOOK_BACK_NS: Final = (700 * SECOND_NS, 7_200 * SECOND_NS, 86_400 * SECOND_NS, 40 * 86_400 * SECOND_NS)
"""How far back a checkpoint is looked for, in steps: there is one each ten minutes while a model runs."""
LOOK_ON_NS: Final = 1_300 * SECOND_NS
"""How far on the end of a span is looked for."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A checkpoint as it is stored.

    Attributes:
        gateway: who told it.
        boot: start of the agent it belongs to.
        counter: number of that start.
        t_ns: time it is stored under.
        checkpoint: what it says, None when it cannot be read.
    """

    gateway: GatewayKey
    boot: bytes
    counter: int
    t_ns: int
    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Segment:
    """The ticks from one checkpoint to the next.

    Attributes:
        mark: the checkpoint before them, as it is stored.
        checkpoint: what it says.
        ended: how the ticks before the next known checkpoint ended, None when there is none.
        direct: whether that is the very next one; where one is missing between, a leap may hide.
        next_ns: first tick after the next known checkpoint of the same agent, None when there is none.
        passed: (signal, time, used) -> for how many of its samples the rule of `twinmodel.lineage` is wrong.
        complete: whether these are all of them.
    """

    mark: Mark
    checkpoint: Checkpoint
    ended: Ended | None
    direct: bool
    next_ns: int | None
    passed: Mapping[tuple[str, int, bool], int]
    complete: bool


def segments_of(
    store: Tracks, gateways: Iterable[GatewayKey], twin: str, from_ns: int, to_ns: int, known: int
) -> list[Segment]:
    """Segments with ticks in [from_ns, to_ns), by time; agents that spoke for the twin at one time stand side by side.

    Raises what `Tracks.tracks` raises.
    """
    found: list[Segment] = []
    for gateway in gateways:
        marks = _marks(store, gateway, twin, from_ns, to_ns, known)
        for boot in dict.fromkeys(mark.boot for mark in marks):
            found += _chain([mark for mark in marks if mark.boot == boot], from_ns, to_ns)
    return sorted(found, key=lambda s: (s.mark.t_ns, s.mark.counter))


def _marks(store: Tracks, gateway: GatewayKey, twin: str, from_ns: int, to_ns: int, known: int) -> list[Mark]:
    signal = lineage_signal(twin)
    marks: list[Mark] = []
    for back_ns in LOOK_BACK_NS:
        track = store.tracks(gateway, [signal], from_ns - back_ns, to_ns + LOOK_ON_NS, known)[signal]
        marks = [_mark(gateway, track, at) for at in range(len(track))]
        if any(mark.t_ns <= from_ns for mark in marks):
            break
    return marks


def _mark(gateway: GatewayKey, track: Track, at: int) -> Mark:
    origin = track.origins[track.origin[at]]
    try:
        checkpoint = of_text(str(track.value[at]))
    except InputError:
        checkpoint = None
    return Mark(gateway, origin.boot, origin.counter, int(track.t_ns[at]), checkpoint)


def _chain(marks: Sequence[Mark], from_ns: int, to_ns: int) -> list[Segment]:
    """Segments of one start of an agent."""
    known = [(mark.checkpoint, mark) for mark in marks if mark.checkpoint is not None]
    known.sort(key=lambda one: (one[0].number, one[1].t_ns))
    found: list[Segment] = []
    passed: Counter[tuple[str, int, bool]] = Counter()
    follower, complete = None, True
    # From the last one on: what is told with a checkpoint concerns all spans before it.
    for checkpoint, mark in reversed(known):
        ended = None if follower is None else follower.ended
        if ended is not None:
            complete = complete and ended.complete
            last = not passed and all(s.ended is None for s in found)
            # What lies ahead of a span is told again by the next one.
            now = {p[:3]: p[3] for p in ended.passed if last or p[1] <= ended.tick_ns}
            if now:
                passed = passed + Counter(now)
        found.append(
            Segment(
                mark,
                checkpoint,
                ended,
                follower is not None and follower.number == checkpoint.number + 1,
                None if follower is None else follower.next_ns,
                passed,
                ended is not None and complete,
            )
        )
        follower = checkpoint
    found.reverse()
    return [s for s in found if s.mark.t_ns < to_ns and (s.next_ns is None or s.next_ns > from_ns)]
