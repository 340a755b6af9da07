"""Items as rows and back, and the numbers of their lanes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import apsw
import crc32c
import msgpack

from twinedge.spool.forgotten import forget_lanes, forget_numbers
from twinedge.spool.ledger import fold_forgotten
from twinedge.spool.schema import number, run
from twinmodel.clock import ClockQuality
from twinmodel.signal import Stream
from twinsync.item import Block, Boot, Content, Gap, Item, NotAcquired, Outage


class RowKind(IntEnum):
    """What a row of `items` holds."""

    BLOCK = 0
    GAP = 1
    OUTAGE = 2
    NOT_ACQUIRED = 3
    THINNED = 4


_MASK_HEADER = struct.Struct("<I")
_BOOTS_KEPT = 256
CONFIRMED = "confirmed_boot"
"""Setting that names the boot up to which the coordinator has accepted the chain."""
_BOOTS = "SELECT * FROM boots ORDER BY counter"
_LANES = "SELECT * FROM lanes ORDER BY stream, boot"
_INSERT = (
    "INSERT INTO items(boot, stream, first_seq, last_seq, kind, from_ns, to_ns, catalogue, crc32c, size, seal, payload,"
    " at_ns, kept, level) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the view `held`; `boot` is its counter.

    `payload` is a block, packed facts, or the mask and the block of a thinned one;
    `kept` counts the samples of a thinned block, `level` is how coarse it was tried to be thinned.
    """

    row: int
    boot: int
    stream: int
    first_seq: int
    last_seq: int
    kind: int
    from_ns: int
    to_ns: int
    catalogue: int
    crc32c: int
    size: int
    seal: int
    payload: bytes
    at_ns: int
    kept: int = 0
    level: int = 0

    @property
    def count(self) -> int:
        """How many sequence numbers it occupies."""
        return self.last_seq - self.first_seq + 1

    @property
    def samples(self) -> int:
        """How many samples its payload holds."""
        return self.count if self.kind == RowKind.BLOCK else self.kept if self.kind == RowKind.THINNED else 0

    @property
    def block(self) -> tuple[bytes, bytes]:
        """Mask and payload of a block; the mask is empty when all of its numbers were kept."""
        if self.kind != RowKind.THINNED:
            return b"", self.payload
        end = _MASK_HEADER.size + _MASK_HEADER.unpack_from(self.payload)[0]
        return self.payload[_MASK_HEADER.size : end], self.payload[end:]

    @property
    def intact(self) -> bool:
        """Whether numbers and payload are the ones that were written."""
        numbers: tuple[int, ...] = (self.boot, self.stream, self.first_seq, self.last_seq, self.kind, self.from_ns,
                                    self.to_ns, self.catalogue, self.crc32c, self.size)  # fmt: skip
        if self.kind == RowKind.THINNED:
            numbers = (*numbers, self.kept)
        return (
            all(type(n) is int for n in (*numbers, self.at_ns, self.kept, self.level))
            and type(self.payload) is bytes
            and seal(*numbers) == self.seal
            and len(self.payload) == self.size
            and crc32c.crc32c(self.payload) == self.crc32c
        )


@dataclass(frozen=True, slots=True)
class Lane:
    """Numbers of one (boot, stream): given below `next_seq`, committed by the coordinator below `acked_seq`."""

    boot: int
    stream: int
    next_seq: int
    acked_seq: int
    handed_seq: int
    at_ns: int


def seal(*numbers: int) -> int:
    """Checksum of a row's numbers."""
    return crc32c.crc32c(struct.pack(f"<{len(numbers)}q", *numbers))


def lanes_of(db: apsw.Connection) -> list[Lane]:
    """All lanes, by stream and then in the order of boots; raises apsw.CorruptError where a seal is broken."""
    rows = run(db, _LANES)
    lanes = _sound(rows)
    if len(lanes) != len(rows):
        raise apsw.CorruptError("the numbers of a lane are damaged")
    return lanes


def sound_lanes(db: apsw.Connection) -> list[Lane]:
    """The lanes whose seals hold, by stream and then in the order of boots."""
    return _sound(run(db, _LANES))


def _sound(rows: Iterable[tuple[Any, ...]]) -> list[Lane]:
    return [Lane(*n) for *n, sealed in rows if all(type(x) is int for x in n) and seal(*n) == sealed]


def fresh_lane(boot: Boot, stream: Stream, at_ns: int) -> Lane:
    """A lane in which no number was given yet."""
    return Lane(boot.counter, stream, 0, 0, 0, at_ns)


def set_lane(db: apsw.Connection, lane: Lane) -> None:
    """Writes the numbers of a lane."""
    values = (lane.boot, lane.stream, lane.next_seq, lane.acked_seq, lane.handed_seq, lane.at_ns)
    run(db, "INSERT OR REPLACE INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, seal(*values)))


def insert(
    db: apsw.Connection,
    boot: int,
    stream: int,
    first_seq: int,
    last_seq: int,
    content: Content,
    catalogue: int,
    at_ns: int,
) -> None:
    """Adds an item; its lane's numbers are the caller's."""
    if isinstance(content, Block):
        kind, payload, checksum = RowKind.BLOCK, content.payload, content.crc32c
        from_ns, to_ns = content.t_min_ns, content.t_max_ns
    else:
        kind, payload = _packed(content)
        checksum, from_ns, to_ns = crc32c.crc32c(payload), content.from_ns, content.to_ns
    numbers = (boot, stream, first_seq, last_seq, int(kind), from_ns, to_ns, catalogue, checksum, len(payload))
    run(db, _INSERT, (*numbers, seal(*numbers), payload, at_ns, 0, 0))


def set_thinned(db: apsw.Connection, row: Row, mask: bytes, payload: bytes, kept: int, level: int) -> None:
    """Makes a row the thinned block it became; its numbers and times stay."""
    packed = _MASK_HEADER.pack(len(mask)) + mask + payload
    checksum = crc32c.crc32c(packed)
    numbers = (row.boot, row.stream, row.first_seq, row.last_seq, int(RowKind.THINNED), row.from_ns, row.to_ns,
               row.catalogue, checksum, len(packed), kept)  # fmt: skip
    run(
        db,
        "UPDATE items SET kind = ?, crc32c = ?, size = ?, seal = ?, payload = ?, kept = ?, level = ? WHERE row = ?",
        (int(RowKind.THINNED), checksum, len(packed), seal(*numbers), packed, kept, level, row.row),
    )


def set_times(db: apsw.Connection, row: Row, from_ns: int, to_ns: int, payload: bytes) -> None:
    """Gives a row other times; `payload` is its block with these times, of anything else what it was."""
    mask, _ = row.block
    if row.kind == RowKind.THINNED:
        payload = _MASK_HEADER.pack(len(mask)) + mask + payload
    checksum = crc32c.crc32c(payload)
    numbers = (row.boot, row.stream, row.first_seq, row.last_seq, row.kind, from_ns, to_ns, row.catalogue, checksum,
               len(payload), *((row.kept,) if row.kind == RowKind.THINNED else ()))  # fmt: skip
    run(
        db,
        "UPDATE items SET from_ns = ?, to_ns = ?, crc32c = ?, size = ?, seal = ?, payload = ? WHERE row = ?",
        (from_ns, to_ns, checksum, len(payload), seal(*numbers), payload, row.row),
    )


def set_gap(db: apsw.Connection, row: int, lane: Lane, first_seq: int, last_seq: int, gap: Gap) -> None:
    """Makes a row the gap over these numbers, whatever it was."""
    _, payload = _packed(gap)
    checksum = crc32c.crc32c(payload)
    numbers = (lane.boot, lane.stream, first_seq, last_seq, int(RowKind.GAP), gap.from_ns, gap.to_ns, 0, checksum)
    run(
        db,
        "UPDATE items SET boot = ?, stream = ?, first_seq = ?, last_seq = ?, kind = ?, from_ns = ?, to_ns = ?,"
        " catalogue = ?, crc32c = ?, size = ?, seal = ?, payload = ?, kept = 0, level = 0 WHERE row = ?",
        (*numbers, len(payload), seal(*numbers, len(payload)), payload, row),
    )


def item_of(row: Row, boots: Mapping[int, bytes], digests: Mapping[int, bytes]) -> Item | None:
    """The item of an intact row, None when what it refers to is gone."""
    boot = boots.get(row.boot)
    if boot is None:
        return None
    content: Content
    if row.kind in {RowKind.BLOCK, RowKind.THINNED}:
        digest = digests.get(row.catalogue)
        if digest is None:
            return None
        mask, payload = row.block
        checksum = crc32c.crc32c(payload) if mask else row.crc32c
        content = Block(digest, checksum, payload, row.from_ns, row.to_ns, mask)
    elif row.kind == RowKind.GAP:
        content = Gap(reason_of(row.payload), row.last_seq - row.first_seq + 1, row.from_ns, row.to_ns)
    elif row.kind == RowKind.OUTAGE:
        content = Outage(row.payload, row.from_ns, row.to_ns)
    else:
        device, reason = msgpack.unpackb(row.payload)
        content = NotAcquired(device, reason, row.from_ns, row.to_ns)
    return Item(boot, Stream(row.stream), row.first_seq, row.last_seq, content)


def boots_of(db: apsw.Connection) -> list[Boot]:
    """All boots that are kept, oldest first; raises apsw.CorruptError where a seal is broken."""
    rows = run(db, _BOOTS)
    boots = _sound_boots(rows)
    if len(boots) != len(rows):
        raise apsw.CorruptError("a boot is damaged")
    return boots


def sound_boots(db: apsw.Connection) -> list[Boot]:
    """The boots whose seals hold, oldest first."""
    return _sound_boots(run(db, _BOOTS))


def _sound_boots(rows: Iterable[tuple[Any, ...]]) -> list[Boot]:
    boots = []
    for counter, id_, previous, started_ns, clock, sealed in rows:
        typed = type(id_) is bytes and type(previous) is bytes and type(counter) is int and type(started_ns) is int
        if typed and clock in ClockQuality._value2member_map_:
            boot = Boot(id_, previous, counter, started_ns, ClockQuality(clock))
            if _boot_seal(boot) == sealed:
                boots.append(boot)
    return boots


def insert_boot(db: apsw.Connection, boot: Boot) -> None:
    """Adds a boot to the chain."""
    values = (boot.counter, boot.id, boot.previous, boot.started_ns, int(boot.clock), _boot_seal(boot))
    run(db, "INSERT INTO boots VALUES (?, ?, ?, ?, ?, ?)", values)


def forget_boots(db: apsw.Connection) -> None:
    """Deletes lanes that hold nothing any more, see `forgotten`, and boots far back of which nothing is left.

    The chain has no hole from the boot the coordinator knows, or any that holds something, to the present one: without
    the one it knows it would take this disk for a fork.
    """
    forget_lanes(db)
    run(
        db,
        "DELETE FROM boots WHERE counter < min("
        " ifnull((SELECT min(boot) FROM lanes), 1 << 62),"
        " ifnull((SELECT counter FROM boots WHERE id = (SELECT value FROM settings WHERE name = ?)), 1 << 62))"
        " AND counter NOT IN (SELECT counter FROM boots ORDER BY counter DESC LIMIT ?)",
        (CONFIRMED, _BOOTS_KEPT),
    )
    forget_numbers(db)
    fold_forgotten(db)


def _boot_seal(boot: Boot) -> int:
    return crc32c.crc32c(boot.id + boot.previous, seal(boot.counter, boot.started_ns, int(boot.clock)))


def setting(db: apsw.Connection, name: str) -> bytes:
    """A stored setting, empty when it was never set or is damaged."""
    value: Any = number(db, "SELECT value FROM settings WHERE name = ?", (name,))
    return value if type(value) is bytes else b""


def set_setting(db: apsw.Connection, name: str, value: bytes) -> None:
    """Stores a setting."""
    run(db, "INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))


def insert_row(db: apsw.Connection, row: Row) -> None:
    """Adds a row of another file as it is."""
    numbers = (row.boot, row.stream, row.first_seq, row.last_seq, row.kind, row.from_ns, row.to_ns, row.catalogue)
    run(db, _INSERT, (*numbers, row.crc32c, row.size, row.seal, row.payload, row.at_ns, row.kept, row.level))


def packed_gap(gap: Gap) -> bytes:
    """A gap's payload; equal for equal reasons."""
    return _packed(gap)[1]


def reason_of(payload: bytes) -> str:
    """The reason in a gap's payload."""
    reason: str = msgpack.unpackb(payload)[0]
    return reason


def _packed(content: Gap | Outage | NotAcquired) -> tuple[RowKind, bytes]:
    if isinstance(content, Gap):
        return RowKind.GAP, msgpack.packb([content.reason])
    if isinstance(content, Outage):
        return RowKind.OUTAGE, content.previous_boot
    return RowKind.NOT_ACQUIRED, msgpack.packb([content.device, content.reason])
