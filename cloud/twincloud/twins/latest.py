"""The newest readings of one gateway's signals as columns: a block is folded in by arrays, not sample by sample.

    blocks of a gateway, any order ─▶ fold ─▶ slots: one per signal, two per estimate and sigma

It is a cache of history: `through` names the last block that is in it, so whoever holds an older one goes on from
there. A `Latest` that others can see is never changed; `draft` gives one that may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TypeAlias

import msgpack
import numpy as np
from numpy.typing import NDArray

from twincloud.twins.state import FUTURE_NS, Origin, Reading, State, depth_of, fold
from twinmodel.signal import Batch, Kind

I64: TypeAlias = NDArray[np.int64]
NONE_NS: Final = np.iinfo(np.int64).min
ORIGINS_MAX: Final = 512
"""Origins held before those that no reading refers to any more are let go."""


@dataclass(frozen=True)
class Layout:
    """Where the readings of each signal lie: its first slot, the second one behind it."""

    names: tuple[str, ...]

    @cached_property
    def depth(self) -> NDArray[np.uint8]:
        """Slots of each name, shape (names,)."""
        return np.fromiter(map(depth_of, self.names), np.uint8, len(self.names))

    @cached_property
    def slot(self) -> Mapping[str, int]:
        """First slot of each name."""
        ends = np.cumsum(self.depth, dtype=np.int64)
        return dict(zip(self.names, (ends - self.depth).tolist(), strict=True))

    @cached_property
    def size(self) -> int:
        """Slots in all."""
        return int(self.depth.sum(dtype=np.int64))

    @cached_property
    def held(self) -> dict[int, NDArray[np.int64]]:
        """Slots by signal id of the catalogues seen so far, by their id in the database."""
        return {}


@dataclass(slots=True)
class Latest(Mapping[str, Sequence[Reading]]):
    """Newest readings by signal name, newest first; arrays of shape (slots,).

    Attributes:
        layout: where they lie.
        through: number of the last block of the gateway that is folded in.
        unsaved: blocks folded in since it was last written to the database.
        t_ns: event times, `NONE_NS` in an empty slot.
        seq: sequence numbers.
        bits: values: bits of a float, or a whole number.
        kind: what `bits` are.
        quality: quality codes.
        origin: place in `origins`.
        origins: the blocks they came in.
        texts: values of text by slot.
        changed: twin -> number and time of the commit that changed it last.
    """

    layout: Layout = field(default_factory=lambda: Layout(()))
    through: int = 0
    unsaved: int = 0
    t_ns: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    seq: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    bits: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    kind: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    quality: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    origin: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    origins: list[Origin] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    changed: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Sequence[Reading]:
        first = self.layout.slot[name]
        found = [self._reading(slot) for slot in range(first, first + depth_of(name)) if self.t_ns[slot] != NONE_NS]
        if not found:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        slot = self.layout.slot.get(str(name))
        return slot is not None and bool(self.t_ns[slot] != NONE_NS)

    def __iter__(self) -> Iterator[str]:
        return (name for name, slot in self.layout.slot.items() if self.t_ns[slot] != NONE_NS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def draft(self) -> Latest:
        """A copy that may be changed."""
        columns = {name: getattr(self, name).copy() for name in _COLUMNS}
        return replace(self, **columns, origins=list(self.origins), texts=dict(self.texts), changed=dict(self.changed))

    def slots_of(self, schema_id: int, names: Sequence[str]) -> NDArray[np.int64]:
        """First slots of a catalogue's signals, by signal id; makes room for names that are new. Of a draft only."""
        known = self.layout.held.get(schema_id)
        if known is None:
            fresh = tuple(name for name in names if name not in self.layout.slot)
            if fresh:
                self._grow(Layout(self.layout.names + fresh))
            slot = self.layout.slot
            known = self.layout.held[schema_id] = np.fromiter((slot[name] for name in names), np.int64, len(names))
        return known

    def fold(
        self, batches: Iterable[Batch], slots: NDArray[np.int64], depth: NDArray[np.uint8], origin: Origin
    ) -> NDArray[np.uint32]:
        """Takes the samples of one block into a draft; gives the ids of the signals whose newest readings changed.

        Args:
            batches: samples in canonical order.
            slots: first slot by signal id.
            depth: readings to keep by signal id, 0 for signals of no twin.
            origin: the block.
        """
        if len(self.origins) >= ORIGINS_MAX:
            self._forget_origins()
        self.origins.append(origin)
        place, seq = len(self.origins) - 1, origin.first_seq
        changed = []
        for batch in batches:
            chosen = newest_positions(batch, depth, origin.received_ns + FUTURE_NS)
            signal = batch.signal[chosen]
            last = np.append(signal[1:] != signal[:-1], True)[: len(signal)]
            turns = (chosen,) if last.all() else (chosen[~last], chosen[last])
            changed += [self._merge(batch, some, slots, depth, (seq, place)) for some in turns]
            seq += len(batch)
        return np.concatenate(changed) if changed else np.empty(0, np.uint32)

    def state(self) -> State:
        """All readings by name."""
        return {name: list(self[name]) for name in self}

    def pack(self) -> bytes:
        """All of it as one blob but `through`."""
        self._forget_origins()
        columns = [getattr(self, name).tobytes() for name in _COLUMNS]
        changed = [[twin, *change] for twin, change in self.changed.items()]
        content = [self.layout.names, self.origins, columns, list(self.texts.items()), changed]
        packed: bytes = msgpack.packb(content, use_bin_type=True)
        return packed

    @classmethod
    def unpack(cls, blob: bytes, through: int) -> Latest:
        """What `pack` packed."""
        names, origins, columns, texts, changed = msgpack.unpackb(blob)
        made = cls(Layout(tuple(names)), through, origins=[Origin(*origin) for origin in origins], texts=dict(texts))
        for (name, dtype), column in zip(_COLUMNS.items(), columns, strict=True):
            setattr(made, name, np.frombuffer(column, dtype).copy())
        made.changed = {twin: (commit_no, committed_ns) for twin, commit_no, committed_ns in changed}
        return made

    def _merge(
        self,
        batch: Batch,
        chosen: NDArray[np.intp],
        slots: NDArray[np.int64],
        depth: NDArray[np.uint8],
        source: tuple[int, int],
    ) -> NDArray[np.uint32]:
        """Takes at most one sample of each signal; ids of the signals that changed."""
        signal, t_ns = batch.signal[chosen], batch.t_ns[chosen]
        slot, two = slots[signal], depth[signal] > 1
        now_ns = self.t_ns[slot]
        later = t_ns > now_ns
        pushed = slot[later & two]
        if len(pushed):
            self._move(pushed)
        self._set(slot[later], batch, chosen[later], source)
        if later.all():
            return signal
        behind = np.where(two, slot + 1, slot)
        second_ns = self.t_ns[behind]
        second = two & (t_ns < now_ns) & (t_ns > second_ns)
        self._set(behind[second], batch, chosen[second], source)
        changed = later | second
        # Equal times are rare: boots and sequence numbers decide, one by one.
        for k in np.flatnonzero(~later & ((t_ns == now_ns) | (two & (t_ns == second_ns)))):
            changed[k] = self._decide(int(slot[k]), int(depth[signal[k]]), batch, int(chosen[k]), source)
        return signal[changed]

    def _decide(self, slot: int, depth: int, batch: Batch, at: int, source: tuple[int, int]) -> bool:
        seq, place = source
        value = batch.value[at]
        plain = value if batch.kind is Kind.STRING else value.item()
        reading = Reading(int(batch.t_ns[at]), seq + at, plain, int(batch.quality[at]), self.origins[place])
        kept = [self._reading(s) for s in range(slot, slot + depth) if self.t_ns[s] != NONE_NS]
        state = {"": kept}
        if not fold(state, "", reading, depth):
            return False
        self._write(slot, state[""])
        return True

    def _set(self, slot: NDArray[np.int64], batch: Batch, at: NDArray[np.intp], source: tuple[int, int]) -> None:
        if not len(slot):
            return
        seq, place = source
        self.t_ns[slot] = batch.t_ns[at]
        self.seq[slot] = at + seq
        self.quality[slot] = batch.quality[at]
        self.kind[slot] = batch.kind
        self.origin[slot] = place
        if batch.kind is Kind.STRING:
            self.texts.update(zip(slot.tolist(), batch.value[at].tolist(), strict=True))
            return
        values = batch.value[at]
        self.bits[slot] = values.view(np.int64) if batch.kind is Kind.FLOAT else values

    def _move(self, slot: NDArray[np.int64]) -> None:
        """The newest readings become the ones before."""
        for name in _COLUMNS:
            column = getattr(self, name)
            column[slot + 1] = column[slot]
        if self.texts:
            for s in slot.tolist():
                if s in self.texts:
                    self.texts[s + 1] = self.texts[s]

    def _reading(self, slot: int) -> Reading:
        kind, bits = Kind(int(self.kind[slot])), self.bits[slot : slot + 1]
        value: float | int | bool | str
        if kind is Kind.STRING:
            value = self.texts[slot]
        elif kind is Kind.FLOAT:
            value = float(bits.view(np.float64)[0])
        else:
            value = bool(bits[0]) if kind is Kind.BOOL else int(bits[0])
        origin = self.origins[int(self.origin[slot])]
        return Reading(int(self.t_ns[slot]), int(self.seq[slot]), value, int(self.quality[slot]), origin)

    def _write(self, slot: int, readings: Sequence[Reading]) -> None:
        """Puts readings one by one."""
        known = {origin: place for place, origin in enumerate(self.origins)}
        for s, reading in enumerate(readings, slot):
            if reading.origin not in known:
                known[reading.origin] = len(self.origins)
                self.origins.append(reading.origin)
            self.t_ns[s], self.seq[s], self.quality[s] = reading.t_ns, reading.seq, reading.quality
            self.origin[s] = known[reading.origin]
            self.kind[s] = kind = _kind_of(reading.value)
            if kind is Kind.STRING:
                self.texts[s] = str(reading.value)
            elif kind is Kind.FLOAT:
                self.bits[s] = np.float64(reading.value).view(np.int64)
            else:
                self.bits[s] = int(reading.value)

    def _grow(self, layout: Layout) -> None:
        """Makes room for more names; slots that are there stay where they are."""
        more = layout.size - len(self.t_ns)
        for name in _COLUMNS:
            column = getattr(self, name)
            empty = np.full(more, NONE_NS if name == "t_ns" else 0, column.dtype)
            setattr(self, name, np.concatenate([column, empty]))
        self.layout = layout

    def _forget_origins(self) -> None:
        filled = self.t_ns != NONE_NS
        used = np.zeros(len(self.origins), bool)
        used[self.origin[filled]] = True
        self.origin[filled] = (np.cumsum(used) - 1)[self.origin[filled]]
        self.origins = [self.origins[n] for n in np.flatnonzero(used).tolist()]


_COLUMNS: Final = {"t_ns": "<i8", "seq": "<i8", "bits": "<i8", "kind": "u1", "quality": "<u2", "origin": "<i4"}


def newest_positions(batch: Batch, depth: NDArray[np.uint8], latest_ns: int) -> NDArray[np.intp]:
    """Positions of the samples that may become newest, by signal and time; at most `depth` of each signal."""
    wanted = depth[batch.signal]
    eligible = wanted.astype(bool)
    eligible &= batch.t_ns <= latest_ns
    index = np.flatnonzero(eligible)
    if not len(index):
        return index
    signal = batch.signal[index]
    if (signal[1:] > signal[:-1]).all():  # one sample of each signal, as in most blocks of a second
        return index
    t_ns = batch.t_ns[index]
    ascending = (signal[1:] > signal[:-1]) | ((signal[1:] == signal[:-1]) & (t_ns[1:] >= t_ns[:-1]))
    if not ascending.all():
        # Stable: among equal times of a signal the later position, which has the larger seq, comes last.
        order = np.lexsort((t_ns, signal))
        index, signal = index[order], signal[order]
    ends = np.append(signal[1:] != signal[:-1], True)
    chosen = ends.copy()
    # The one before the end of a run, where two readings of that signal are kept.
    chosen[:-1] |= ends[1:] & ~ends[:-1] & (depth[signal[:-1]] > 1)
    newest: NDArray[np.intp] = index[chosen]
    return newest


def _kind_of(value: object) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int):
        return Kind.INT
    return Kind.STRING if isinstance(value, str) else Kind.FLOAT
