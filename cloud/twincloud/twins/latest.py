"""The newest readings of one gateway's signals as columns: a block is folded in by arrays, not sample by sample.

    blocks of a gateway, any order ─▶ fold ─▶ slots: one per signal, two per estimate and sigma

It is a cache of history: `through` names the last block that is in it, so whoever holds an older one goes on from
there. A `Latest` that others can see is never changed; `draft` gives one that may be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias, TypeVar, overload

import msgpack
import numpy as np
from numpy.typing import NDArray

from twincloud.twins.state import FUTURE_NS, Origin, Reading, State, depth_of, fold
from twinmodel.signal import Batch, Kind

I64: TypeAlias = NDArray[np.int64]
T = TypeVar("T")
NONE_NS: Final = np.iinfo(np.int64).min
T_NS, SEQ, VALUE, TAG = range(4)
"""Columns of a cell."""

_BITS, _FLOAT = struct.Struct("<q"), struct.Struct("<d")

ORIGINS_MAX: Final = 512
"""Origins held before those that no reading refers to any more are let go."""


def outputs_in(names: Iterable[str]) -> frozenset[str]:
    """Outputs of models (`twin/output`) that these signals tell of."""
    return frozenset(name.rpartition("#")[0] for name in names if "#" in name)


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
    def outputs(self) -> frozenset[str]:
        """Outputs of models among the names; see `outputs_in`."""
        return outputs_in(self.names)

    @cached_property
    def held(self) -> dict[int, I64]:
        """Slots by signal id of the catalogues seen so far, by their id in the database."""
        return {}


@dataclass(slots=True)
class Latest(Mapping[str, Sequence[Reading]]):
    """Newest readings by signal name, newest first.

    Attributes:
        layout: where they lie.
        through: number of the last block of the gateway that is folded in.
        unsaved: blocks folded in since it was last written to the database.
        cells: a row per slot, shape (slots, 4): event time (`NONE_NS` when empty), sequence number, value (bits of a
            float, or a whole number), tag (place in `origins`, quality, kind of the value; see `_tag`).
        origins: the blocks they came in.
        texts: values of text by slot.
        changed: twin -> number and time of the commit that changed it last.
    """

    layout: Layout = field(default_factory=lambda: Layout(()))
    through: int = 0
    unsaved: int = 0
    cells: I64 = field(default_factory=lambda: np.empty((0, 4), np.int64))
    origins: list[Origin] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    changed: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Sequence[Reading]:
        found = self._readings(self.layout.slot[name], depth_of(name))
        if not found:
            raise KeyError(name)
        return found

    @overload
    def get(self, name: str, default: None = None, /) -> Sequence[Reading] | None: ...
    @overload
    def get(self, name: str, default: Sequence[Reading] | T, /) -> Sequence[Reading] | T: ...
    def get(self, name: str, default: Sequence[Reading] | T | None = None, /) -> Sequence[Reading] | T | None:
        """As of any mapping, without an exception for each name that is not there."""
        slot = self.layout.slot.get(name)
        return default if slot is None else self._readings(slot, depth_of(name)) or default

    @property
    def outputs(self) -> frozenset[str]:
        """Outputs (`twin/output`) that a model may have said something of."""
        return self.layout.outputs

    def __contains__(self, name: object) -> bool:
        slot = self.layout.slot.get(str(name))
        return slot is not None and bool(self.cells[slot, T_NS] != NONE_NS)

    def __iter__(self) -> Iterator[str]:
        return (name for name, slot in self.layout.slot.items() if self.cells[slot, T_NS] != NONE_NS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def draft(self) -> Latest:
        """A copy that may be changed."""
        return Latest(
            self.layout, self.through, self.unsaved, self.cells.copy(),
            list(self.origins), dict(self.texts), dict(self.changed),
        )  # fmt: skip

    def slots_of(self, schema_id: int, names: Sequence[str]) -> I64:
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
        self, batches: Iterable[Batch], slots: I64, depth: NDArray[np.uint8], origin: Origin
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
        changed = [[twin, *change] for twin, change in self.changed.items()]
        content = [self.layout.names, self.origins, self.cells.tobytes(), list(self.texts.items()), changed]
        # Texts may hold lone surrogates, as JSON and blocks do: one sample must not keep a gateway from committing.
        packed: bytes = msgpack.packb(content, use_bin_type=True, unicode_errors="surrogatepass")
        return packed

    @classmethod
    def unpack(cls, blob: bytes, through: int) -> Latest:
        """What `pack` packed."""
        names, origins, raw, texts, twins = msgpack.unpackb(blob, unicode_errors="surrogatepass")
        cells = np.frombuffer(raw, "<i8").reshape(-1, 4)
        changed = {twin: (commit_no, committed_ns) for twin, commit_no, committed_ns in twins}
        known = [Origin(*origin) for origin in origins]
        return cls(Layout(tuple(names)), through, 0, cells, known, dict(texts), changed)

    def _merge(
        self,
        batch: Batch,
        chosen: NDArray[np.intp],
        slots: I64,
        depth: NDArray[np.uint8],
        source: tuple[int, int],
    ) -> NDArray[np.uint32]:
        """Takes at most one sample of each signal; ids of the signals that changed."""
        cells, signal = self.cells, batch.signal[chosen]
        slot, two = slots[signal], depth[signal] > 1
        rows = _rows(batch, chosen, source)
        t_ns, now_ns = rows[:, T_NS], cells[slot, T_NS]
        later = t_ns > now_ns
        if later.all():
            self._push(slot[two])
            cells[slot] = rows
            self._note_texts(batch, chosen, slot)
            return signal
        self._push(slot[later & two])
        cells[slot[later]] = rows[later]
        self._note_texts(batch, chosen[later], slot[later])
        behind = np.where(two, slot + 1, slot)
        second_ns = cells[behind, T_NS]
        second = two & (t_ns < now_ns) & (t_ns > second_ns)
        cells[behind[second]] = rows[second]
        self._note_texts(batch, chosen[second], behind[second])
        changed = later | second
        # Equal times are rare: boots and sequence numbers decide, one by one.
        for k in np.flatnonzero(~later & ((t_ns == now_ns) | (two & (t_ns == second_ns)))):
            changed[k] = self._decide(int(slot[k]), int(depth[signal[k]]), batch, int(chosen[k]), source)
        hit: NDArray[np.uint32] = signal[changed]
        return hit

    def _decide(self, slot: int, depth: int, batch: Batch, at: int, source: tuple[int, int]) -> bool:
        seq, place = source
        value = batch.value[at]
        plain = value if batch.kind is Kind.STRING else value.item()
        reading = Reading(int(batch.t_ns[at]), seq + at, plain, int(batch.quality[at]), self.origins[place])
        state = {"": self._readings(slot, depth)}
        if not fold(state, "", reading, depth):
            return False
        for s, one in enumerate(state[""], slot):
            self._write(s, one)
        return True

    def _push(self, slot: I64) -> None:
        """The newest readings become the ones before."""
        self.cells[slot + 1] = self.cells[slot]
        if self.texts:
            for s in slot.tolist():
                if s in self.texts:
                    self.texts[s + 1] = self.texts[s]

    def _note_texts(self, batch: Batch, at: NDArray[np.intp], slot: I64) -> None:
        if batch.kind is Kind.STRING:
            self.texts.update(zip(slot.tolist(), batch.value[at].tolist(), strict=True))

    def _readings(self, slot: int, depth: int) -> list[Reading]:
        found = []
        for place, (t_ns, seq, bits, tag) in enumerate(self.cells[slot : slot + depth].tolist(), slot):
            if t_ns == NONE_NS:
                continue
            kind = tag & 0xFF
            value: float | int | bool | str
            if kind == Kind.FLOAT:
                (value,) = _FLOAT.unpack(_BITS.pack(bits))
            elif kind == Kind.STRING:
                value = self.texts[place]
            else:
                value = bool(bits) if kind == Kind.BOOL else bits
            found.append(Reading(t_ns, seq, value, tag >> 8 & 0xFFFF, self.origins[tag >> 32]))
        return found

    def _write(self, slot: int, reading: Reading) -> None:
        if reading.origin not in self.origins:
            self.origins.append(reading.origin)
        value, kind = reading.value, _kind_of(reading.value)
        if isinstance(value, str):
            self.texts[slot], bits = value, 0
        else:
            bits = int(np.float64(value).view(np.int64)) if kind is Kind.FLOAT else int(value)
        tag = _tag(self.origins.index(reading.origin), reading.quality, kind)
        self.cells[slot] = (reading.t_ns, reading.seq, bits, tag)

    def _grow(self, layout: Layout) -> None:
        """Makes room for more names; slots that are there stay where they are."""
        more = np.zeros((layout.size - len(self.cells), 4), np.int64)
        more[:, T_NS] = NONE_NS
        self.cells = np.concatenate([self.cells, more])
        self.layout = layout

    def _forget_origins(self) -> None:
        filled = np.flatnonzero(self.cells[:, T_NS] != NONE_NS)
        place = self.cells[filled, TAG] >> 32
        used = np.zeros(len(self.origins), bool)
        used[place] = True
        self.cells[filled, TAG] += ((np.cumsum(used) - 1)[place] - place) << 32
        self.origins = [self.origins[n] for n in np.flatnonzero(used).tolist()]


@dataclass(frozen=True, slots=True)
class Fresh:
    """A block that is to be folded in; event times of its earliest and latest sample."""

    schema_id: int
    batches: Sequence[Batch]
    origin: Origin
    t_min_ns: int
    t_max_ns: int


def not_overtaken(blocks: Sequence[Fresh]) -> list[Fresh]:
    """Those of some blocks of one gateway that can matter to its newest readings; what changes stays the same.

    A block does not when two others with the very same signals are all later than it and not from the future: no
    signal keeps more than two readings.
    """
    left: list[Fresh] = []
    later: dict[tuple[int, ...], tuple[int, int]] = {}
    for block in reversed(blocks):
        # Decoded blocks of one layout show the same arrays.
        layout = (block.schema_id, *(id(batch.signal) for batch in block.batches))
        second_ns, first_ns = later.get(layout, (NONE_NS, NONE_NS))
        if block.t_max_ns < second_ns:
            continue
        left.append(block)
        if block.t_max_ns <= block.origin.received_ns + FUTURE_NS:
            _, *latest_two = sorted((second_ns, first_ns, block.t_min_ns))
            later[layout] = (latest_two[0], latest_two[1])
    left.reverse()
    return left


def _tag(place: int, quality: int, kind: int) -> int:
    return place << 32 | quality << 8 | kind


def _rows(batch: Batch, at: NDArray[np.intp], source: tuple[int, int]) -> I64:
    """Cells of some samples."""
    seq, place = source
    rows = np.empty((len(at), 4), np.int64)
    rows[:, T_NS] = batch.t_ns[at]
    rows[:, SEQ] = at + seq
    if batch.kind is Kind.STRING:
        rows[:, VALUE] = 0
    else:
        values = batch.value[at]
        rows[:, VALUE] = values.view(np.int64) if batch.kind is Kind.FLOAT else values
    rows[:, TAG] = batch.quality[at].astype(np.int64) << 8 | _tag(place, 0, batch.kind)
    return rows


def newest_positions(batch: Batch, depth: NDArray[np.uint8], latest_ns: int) -> NDArray[np.intp]:
    """Positions of the samples that may become newest, by signal and time; at most `depth` of each signal."""
    signal, t_ns = batch.signal, batch.t_ns
    if not len(signal):
        return np.empty(0, np.intp)
    same = signal[1:] == signal[:-1]
    ordered = (signal[1:] > signal[:-1]) | (same & (t_ns[1:] >= t_ns[:-1]))
    if not ordered.all() or t_ns.max() > latest_ns:
        index = np.flatnonzero(depth[signal].astype(bool) & (t_ns <= latest_ns))
        # Stable: among equal times of a signal the later position, which has the larger seq, comes last.
        index = index[np.lexsort((t_ns[index], signal[index]))]
        return index[_last_of_runs(signal[index], depth)]
    if not same.any():  # one sample of each signal, as in most blocks of a second
        return np.flatnonzero(depth[signal])
    return _last_of_runs(signal, depth)


def _last_of_runs(signal: NDArray[np.uint32], depth: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions of the last samples of each signal, as many as are kept; equal signals stand together."""
    if not len(signal):
        return np.empty(0, np.intp)
    last = np.flatnonzero(np.append(signal[1:] != signal[:-1], True))
    kept = depth[signal[last]]
    before = last[kept > 1] - 1
    # The one before, where there is one.
    before = before[(before >= 0) & (signal[before] == signal[before + 1])]
    chosen: NDArray[np.intp] = np.concatenate([before, last[kept > 0]])
    chosen.sort()
    return chosen


def _kind_of(value: object) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int):
        return Kind.INT
    return Kind.STRING if isinstance(value, str) else Kind.FLOAT
