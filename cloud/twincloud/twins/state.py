"""State of a twin = fold of its history: per signal the newest reading, the same for any order of arrival.

Newest is the largest (t_event, boot counter, boot, stream, seq). The fold keeps the largest keys, which is a join
of a semilattice: it does not matter in which order, how late or how often items come. Estimates and sigmas keep
their two newest readings, so that both of one tick can be paired when they come in different blocks.

What depends on the moment of arrival (times of receipt and commit) travels along but is not part of `state_hash`.
A sample from more than `FUTURE_NS` after its receipt never becomes the newest: it would hide all that follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgpack

from twinmodel.clock import SECOND_NS
from twinmodel.signal import Catalogue

FUTURE_NS = 5 * SECOND_NS
DRIFT_LIMIT = 1.0
"""A drift score at which a model counts as drifting; the edge scales the score so that 1 is its limit."""

_DEPTH = {"estimate": 2, "sigma": 2}


class Origin(NamedTuple):
    """Where and when a block came from; the readings of a block share one. `schema`: id of its catalogue, 0 unknown."""

    counter: int
    boot: bytes
    stream: int
    first_seq: int
    received_ns: int
    committed_ns: int
    schema: int = 0


class Reading(NamedTuple):
    """One sample in a state."""

    t_ns: int
    seq: int
    value: float | int | bool | str
    quality: int
    origin: Origin

    @property
    def order(self) -> tuple[int, int, bytes, int, int]:
        """What decides which of two readings is the newer one."""
        counter, boot, stream = self.origin[:3]
        return (self.t_ns, counter, boot, stream, self.seq)


State = dict[str, list[Reading]]
"""Signal name -> its newest readings, newest first."""


def depth_of(signal: str) -> int:
    """How many readings of a signal a state keeps."""
    return _DEPTH.get(signal.rpartition("#")[2], 1)


def signals_of(catalogue: Catalogue) -> dict[str, tuple[int, ...]]:
    """Twin -> ids of the signals that make it up: what measures its properties and what its model says."""
    found: dict[str, set[int]] = {binding.twin: set() for binding in catalogue.twins}
    for signal in catalogue.signals:
        twin = signal.name.partition("/")[0]
        if "#" in signal.name and twin in found:
            found[twin].add(signal.id)
    for binding in catalogue.twins:
        measured = (catalogue.by_name.get(name) for name in binding.properties.values())
        found[binding.twin].update(signal.id for signal in measured if signal is not None)
    return {twin: tuple(sorted(signals)) for twin, signals in found.items()}


def fold(state: State, signal: str, reading: Reading, depth: int) -> bool:
    """Takes one reading into a state; False when it changes nothing, as an older one or a repeated one does."""
    kept = state.get(signal)
    if kept is None:
        state[signal] = [reading]
        return True
    if reading[0] > kept[0][0]:  # a later time, as nearly always
        if depth == 1:
            kept[0] = reading
        else:
            kept.insert(0, reading)
            del kept[depth:]
        return True
    order = reading.order
    for place, other in enumerate(kept):
        if order == other.order:
            return False
        if order > other.order:
            kept.insert(place, reading)
            del kept[depth:]
            return True
    if len(kept) < depth:
        kept.append(reading)
        return True
    return False


def state_hash(state: Mapping[str, Sequence[Reading]]) -> str:
    """SHA-256 over what does not depend on the moment of arrival."""
    shared = [
        (name, [(*r.order, r.value, r.quality, r.origin.first_seq) for r in readings])
        for name, readings in sorted(state.items())
    ]
    return hashlib.sha256(msgpack.packb(shared, use_bin_type=True, unicode_errors="surrogatepass")).hexdigest()


def paired(state: Mapping[str, Sequence[Reading]], output: str) -> tuple[Reading, Reading] | None:
    """The newest estimate of an output (`twin/output`) that has a sigma of the same tick, and that sigma."""
    sigmas = {sigma.t_ns: sigma for sigma in reversed(state.get(f"{output}#sigma", ()))}
    for estimate in state.get(f"{output}#estimate", ()):
        if estimate.t_ns in sigmas:
            return estimate, sigmas[estimate.t_ns]
    return None


def drifts(state: Mapping[str, Sequence[Reading]], outputs: Iterable[str]) -> bool:
    """Whether the newest drift score of any output (`twin/output`) has reached its limit."""
    scores = (state.get(f"{output}#drift", ()) for output in outputs)
    return any(isinstance(s[0].value, (int, float)) and s[0].value >= DRIFT_LIMIT for s in scores if s)
