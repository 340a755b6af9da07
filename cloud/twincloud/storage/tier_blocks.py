"""The first tier: blocks as they came, found by their times, decoded once for all that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, select

from twincloud.storage import schema as t
from twincloud.storage.kept import since_of
from twincloud.storage.span import WIDE_NS
from twincloud.storage.tiers import Run, Wanted, canonical
from twincloud.twins.history import Decoded, DecodedBlocks
from twincloud.twins.state import Origin
from twinmodel.errors import InputError
from twinmodel.signal import DTYPES, Batch, Catalogue, Signal
from twinsync.pick import Picked, pick

BLOCKS_MAX = 40_960
"""Blocks one answer looks at, at most."""

FEW = 16
"""Signals are picked where a catalogue has so many times as many of them."""

_FETCH = 500

Head: TypeAlias = Any
"""A row of `HEADS`."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored block, its samples and what is known of it."""

    row: Head
    origin: Origin
    decoded: Decoded


class BlocksTier:
    """See `Tier`; holds the newest decoded blocks in memory."""

    name = "blocks"

    def __init__(
        self,
        catalogue_of: Callable[[Connection, int], Catalogue],
        decode: Callable[[bytes, Catalogue], Sequence[Batch]],
        held: DecodedBlocks,
    ) -> None:
        self._catalogue_of = catalogue_of
        self._decode = decode
        self._held = held

    def count(self, connection: Connection, gateways: Sequence[int], from_ns: int, to_ns: int) -> int:
        """How many blocks `read` would look at; by indexes alone."""
        span = {"gateways": list(gateways), "from_ns": from_ns, "to_ns": to_ns, "since_ns": from_ns - WIDE_NS}
        return int(connection.execute(_COUNT, span).scalar_one())

    def read(self, connection: Connection, wanted: Wanted) -> list[Run]:
        """See `Tier.read`."""
        span = {
            "gateways": list(wanted.gateways), "from_ns": wanted.from_ns, "to_ns": wanted.to_ns,
            "since_ns": wanted.from_ns - WIDE_NS, "known": wanted.known, "limit": BLOCKS_MAX + 1,
        }  # fmt: skip
        rows = [*connection.execute(_NARROW, span).all(), *connection.execute(_WIDE, span).all()]
        if len(rows) > BLOCKS_MAX:
            raise InputError(
                "LIMIT_EXCEEDED",
                f"the span holds more than {BLOCKS_MAX} blocks that are not compacted yet",
                hint="ask for a shorter span",
            )
        return self.runs(connection, rows, wanted)

    def runs(self, connection: Connection, rows: Sequence[Head], wanted: Wanted) -> list[Run]:
        """The runs of some blocks, rows of `HEADS`."""
        asked = {schema_id: self._asked(connection, schema_id, wanted) for schema_id in {row.schema_id for row in rows}}
        rows = [row for row in rows if asked[row.schema_id].signals]
        gathered: dict[tuple[int, int, str], Gathered] = {}
        held = self._held.take([row.id for row in rows])
        few = [row for row in rows if row.id not in held and asked[row.schema_id].few]
        apart = {row.id for row in few}
        for stored in self.load(connection, [row for row in rows if row.id not in apart]):
            key = (stored.row.gateway_id, stored.row.schema_id)
            for signal in asked[key[1]].signals:
                gathered.setdefault((*key, signal.name), Gathered(key[0], signal)).add(stored)
        for row, payload in self._payloads(connection, few):
            one = asked[row.schema_id]
            for signal, picked in one.pick(payload):
                key = (row.gateway_id, row.schema_id)
                gathered.setdefault((*key, signal.name), Gathered(key[0], signal)).add_picked(row, picked)
        since = since_of(connection, wanted) if gathered else {}
        runs = (
            one.run(max(wanted.from_ns, since.get((gateway, name), 0)), wanted.to_ns)
            for (gateway, _, name), one in gathered.items()
        )
        return [run for run in runs if run is not None]

    def load(self, connection: Connection, rows: Sequence[Head], *, hold: bool = True) -> list[Stored]:
        """Blocks with their samples, ordered as a state orders their samples of equal time.

        With `hold`, what is decoded is held for the next reader.
        """
        found = self._held.take([row.id for row in rows])
        missing = [row for row in rows if row.id not in found]
        for row, payload in self._payloads(connection, missing):
            catalogue = self._catalogue_of(connection, row.schema_id)
            order = (row.counter, row.boot, row.stream, row.first_seq)
            found[row.id] = Decoded(order, row.schema_id, tuple(self._decode(payload, catalogue)))
            if hold:
                self._held.put(row.id, found[row.id])
        stored = [Stored(row, origin_of(row), found[row.id]) for row in rows]
        return sorted(stored, key=lambda one: one.origin)

    def _payloads(self, connection: Connection, rows: Sequence[Head]) -> Iterator[tuple[Head, bytes]]:
        for start in range(0, len(rows), _FETCH):
            some = rows[start : start + _FETCH]
            payloads = {row.id: row.payload for row in connection.execute(_PAYLOADS, {"ids": [row.id for row in some]})}
            yield from ((row, payloads[row.id]) for row in some)

    def _asked(self, connection: Connection, schema_id: int, wanted: Wanted) -> Asked:
        catalogue = self._catalogue_of(connection, schema_id)
        by_name = catalogue.by_name
        return Asked(catalogue, tuple(by_name[name] for name in sorted(wanted.signals) if name in by_name))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of the blocks of one catalogue."""

    catalogue: Catalogue
    signals: tuple[Signal, ...]

    @property
    def few(self) -> bool:
        """Whether to pick them out of a block costs less than to decode it, which others then find done."""
        return FEW * len(self.signals) <= len(self.catalogue)

    def pick(self, payload: bytes) -> list[tuple[Signal, Picked]]:
        """Their samples in a block."""
        found = pick(payload, self.catalogue, [signal.id for signal in self.signals])
        return [(self.catalogue.signals[picked.signal], picked) for picked in found]


class Gathered:
    """The samples of one signal, block after block."""

    def __init__(self, gateway: int, signal: Signal) -> None:
        self._gateway = gateway
        self._signal = signal
        self._places: dict[int, tuple[NDArray[np.uint32], slice | NDArray[np.intp]]] = {}
        self._parts: list[tuple[Batch, slice | NDArray[np.intp], int, int, Head]] = []

    def add(self, stored: Stored) -> None:
        """Takes what a block has of it."""
        before = 0
        for batch in stored.decoded.batches:
            if batch.kind is self._signal.kind:
                place = self._place(batch)
                count = place.stop - place.start if isinstance(place, slice) else len(place)
                if count:
                    self._parts.append((batch, place, count, stored.row.first_seq + before, stored.row))
            before += len(batch)

    def add_picked(self, row: Head, picked: Picked) -> None:
        """Takes its samples of a block that was not decoded whole."""
        batch = picked.batch
        if batch.kind is self._signal.kind:
            self._parts.append((batch, slice(0, len(batch)), len(batch), row.first_seq + picked.first, row))

    def run(self, from_ns: int, to_ns: int) -> Run | None:
        """All of them in [from_ns, to_ns), None when there are none."""
        if not self._parts:
            return None
        counts = [part[2] for part in self._parts]
        seq = np.concatenate(
            [
                first + (np.arange(place.start, place.stop) if isinstance(place, slice) else place)
                for _, place, _, first, _ in self._parts
            ]
        )
        run = Run(
            self._gateway, self._signal.name, self._signal.kind, self._signal.unit,
            np.concatenate([batch.t_ns[place] for batch, place, _, _, _ in self._parts]),
            np.concatenate([batch.value[place] for batch, place, _, _, _ in self._parts]).astype(
                DTYPES[self._signal.kind], copy=False
            ),
            np.concatenate([batch.quality[place] for batch, place, _, _, _ in self._parts]),
            np.repeat(np.array([part[4].commit_no for part in self._parts], np.int64), counts),
            np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            tuple(origin_of(part[4]) for part in self._parts), seq.astype(np.int64, copy=False),
        )  # fmt: skip
        inside = (run.t_ns >= from_ns) & (run.t_ns < to_ns)
        if not inside.all():
            run = run.take(inside)
        return canonical(run) if len(run) else None

    def _place(self, batch: Batch) -> slice | NDArray[np.intp]:
        """Where its samples stand; blocks of one layout show the same array of signals, looked through once."""
        known = self._places.get(id(batch.signal))
        if known is not None:
            return known[1]
        at = np.flatnonzero(batch.signal == self._signal.id)
        together = len(at) and int(at[-1]) - int(at[0]) + 1 == len(at)
        place = slice(int(at[0]), int(at[-1]) + 1) if together else at
        self._places[id(batch.signal)] = (batch.signal, place)  # held, so that no other gets its id
        return place


def origin_of(row: Head) -> Origin:
    """Where the samples of a block came from."""
    return Origin(
        row.counter, row.boot, row.stream, row.first_seq, row.received_ns, row.committed_ns, row.schema_id
    )  # fmt: skip


HEADS = select(
    t.blocks.c.id, t.blocks.c.commit_no, t.blocks.c.gateway_id, t.blocks.c.boot_id, t.blocks.c.stream,
    t.blocks.c.first_seq, t.blocks.c.schema_id, t.blocks.c.received_ns, t.blocks.c.committed_ns,
    t.blocks.c.t_min_ns, t.blocks.c.t_max_ns, t.boots.c.boot, t.boots.c.counter,
).join(t.boots, t.boots.c.id == t.blocks.c.boot_id)  # fmt: skip
"""What is known of a block but its bytes."""

_AMONG = t.blocks.c.gateway_id.in_(bindparam("gateways", expanding=True))
_NARROW_SPAN = (
    t.blocks.c.wide.is_(False),
    t.blocks.c.t_min_ns < bindparam("to_ns"),
    t.blocks.c.t_min_ns >= bindparam("since_ns"),
)
_WIDE_SPAN = (t.blocks.c.wide.is_(True), t.blocks.c.t_min_ns < bindparam("to_ns"))
_KNOWN = (t.blocks.c.t_max_ns >= bindparam("from_ns"), t.blocks.c.commit_no <= bindparam("known"))
_NARROW = HEADS.where(_AMONG, *_NARROW_SPAN, *_KNOWN).limit(bindparam("limit"))
_WIDE = HEADS.where(_AMONG, *_WIDE_SPAN, *_KNOWN).limit(bindparam("limit"))
_COUNT = select(
    select(func.count()).select_from(t.blocks).where(_AMONG, *_NARROW_SPAN).scalar_subquery()
    + select(func.count())
    .select_from(t.blocks)
    .where(_AMONG, *_WIDE_SPAN, t.blocks.c.t_max_ns >= bindparam("from_ns"))
    .scalar_subquery()
)
_PAYLOADS = select(t.blocks.c.id, t.blocks.c.payload).where(t.blocks.c.id.in_(bindparam("ids", expanding=True)))
