"""Raw samples of named signals with all that is known of where each came from: what replays and back-tests read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, RowMapping, bindparam, select

from twincloud.storage import schema as t
from twincloud.storage.contract import GatewayKey
from twincloud.storage.part import Part
from twincloud.storage.span import WIDE_NS
from twincloud.twins.history import Decoded
from twincloud.twins.state import Origin
from twinmodel.errors import InputError
from twinmodel.signal import DTYPES, Batch, Kind

KNOWN_ALL: Final = 2**63 - 1
"""Commit number that knows everything there is."""
BLOCKS_MAX: Final = 40_960
"""Blocks one answer looks at, at most: two weeks of blocks of a minute."""
_FETCH = 500


@dataclass(frozen=True, slots=True)
class Track:
    """Samples of one signal by event time; arrays of shape (n,). Of one time the one that came first stands first.

    Attributes:
        signal: name.
        kind: type of the values.
        unit: their unit.
        commit_no: number of the commit each came with.
        origin: place of its block in `origins`.
    """

    signal: str
    kind: Kind
    unit: str
    t_ns: NDArray[np.int64]
    value: NDArray[np.generic]
    quality: NDArray[np.uint16]
    commit_no: NDArray[np.int64]
    origin: NDArray[np.int32]
    origins: tuple[Origin, ...]

    def __len__(self) -> int:
        return len(self.t_ns)

    def take(self, index: NDArray[np.generic]) -> Track:
        """The samples that an index array or a boolean mask names."""
        return Track(
            self.signal, self.kind, self.unit, self.t_ns[index], self.value[index], self.quality[index],
            self.commit_no[index], self.origin[index], self.origins,
        )  # fmt: skip


def no_track(signal: str) -> Track:
    """A track without samples."""
    return _joined(signal, "", (), (), ())


class TrackStore(Part):
    """Reads raw samples; see `Tracks`."""

    def tracks(
        self, gateway: GatewayKey, signals: Sequence[str], from_ns: int, to_ns: int, known: int = KNOWN_ALL
    ) -> Mapping[str, Track]:
        """See `Tracks.tracks`; event times in [from_ns, to_ns)."""
        with self._database.read(gateway.tenant) as connection:
            asked = {
                "gateway_id": self._gateway_id(connection, gateway),
                "from_ns": from_ns, "to_ns": to_ns, "since_ns": from_ns - WIDE_NS, "known": known,
                "limit": BLOCKS_MAX + 1,
            }  # fmt: skip
            rows = [*connection.execute(_WIDE, asked).mappings(), *connection.execute(_NARROW, asked).mappings()]
            if len(rows) > BLOCKS_MAX:
                raise InputError(
                    "LIMIT_EXCEEDED", f"more than {BLOCKS_MAX} blocks lie in this span", hint="ask for a shorter span"
                )
            decoded = self._blocks(connection, rows)
            # In the order in which a state takes blocks, so that samples of one time stay in it.
            rows.sort(key=lambda row: (row["counter"], row["boot"], row["stream"], row["first_seq"]))
            return {name: self._track(connection, name, rows, decoded, (from_ns, to_ns)) for name in signals}

    def _track(
        self,
        connection: Connection,
        name: str,
        rows: Sequence[RowMapping],
        decoded: Mapping[int, Decoded],
        span_ns: tuple[int, int],
    ) -> Track:
        parts, origins, commits, unit = [], [], [], ""
        for row in rows:
            signal = self._catalogue_by_id(connection, row["schema_id"]).by_name.get(name)
            if signal is None:
                continue
            unit = signal.unit
            for batch in decoded[row["id"]].batches:
                if batch.kind is not signal.kind:
                    continue
                mine = (batch.signal == signal.id) & (batch.t_ns >= span_ns[0]) & (batch.t_ns < span_ns[1])
                if mine.any():
                    parts.append(batch.take(mine))
                    origins.append(Origin(*(row[column] for column in Origin._fields)))
                    commits.append(row["commit_no"])
        return _joined(name, unit, parts, origins, commits)

    def _blocks(self, connection: Connection, rows: Sequence[RowMapping]) -> Mapping[int, Decoded]:
        found = self._decoded.take([row["id"] for row in rows])
        missing = [row for row in rows if row["id"] not in found]
        for start in range(0, len(missing), _FETCH):
            some = {row["id"]: row for row in missing[start : start + _FETCH]}
            for block, payload in connection.execute(_PAYLOADS, {"ids": list(some)}):
                row = some[block]
                catalogue = self._catalogue_by_id(connection, row["schema_id"])
                order = (row["counter"], row["boot"], row["stream"], row["first_seq"])
                found[block] = Decoded(order, row["schema_id"], tuple(self._decode(payload, catalogue)))
                self._decoded.put(block, found[block])
        return found


def _joined(name: str, unit: str, parts: Sequence[Batch], origins: Sequence[Origin], commits: Sequence[int]) -> Track:
    if not parts:
        none = np.empty(0, np.int64)
        return Track(name, Kind.FLOAT, unit, none, np.empty(0), np.empty(0, np.uint16), none, none.astype(np.int32), ())
    kind = parts[-1].kind
    # A point that was given another type keeps both; a text among numbers is no number.
    same = all(part.kind is kind for part in parts)
    counts = [len(part) for part in parts]
    t_ns = np.concatenate([part.t_ns for part in parts])
    order = np.argsort(t_ns, kind="stable")
    values = [part.value if same else part.value.astype(object) for part in parts]
    return Track(
        name,
        kind if same else Kind.STRING,
        unit,
        t_ns[order],
        np.concatenate(values).astype(DTYPES[kind] if same else object)[order],
        np.concatenate([part.quality for part in parts])[order],
        np.repeat(np.array(commits, np.int64), counts)[order],
        np.repeat(np.arange(len(parts), dtype=np.int32), counts)[order],
        tuple(origins),
    )


_IN_RANGE = (
    select(
        t.blocks.c.id, t.blocks.c.schema_id, t.blocks.c.commit_no, t.blocks.c.stream, t.blocks.c.first_seq,
        t.blocks.c.received_ns, t.blocks.c.committed_ns, t.boots.c.boot, t.boots.c.counter,
    )
    .join(t.boots, t.boots.c.id == t.blocks.c.boot_id)
    .where(
        t.blocks.c.gateway_id == bindparam("gateway_id"),
        t.blocks.c.t_max_ns >= bindparam("from_ns"),
        t.blocks.c.t_min_ns < bindparam("to_ns"),
        t.blocks.c.commit_no <= bindparam("known"),
    )
    .limit(bindparam("limit"))
)  # fmt: skip
_WIDE = _IN_RANGE.where(t.blocks.c.wide.is_(True))
_NARROW = _IN_RANGE.where(t.blocks.c.wide.is_(False), t.blocks.c.t_min_ns >= bindparam("since_ns"))
_PAYLOADS = select(t.blocks.c.id, t.blocks.c.payload).where(t.blocks.c.id.in_(bindparam("ids", expanding=True)))
