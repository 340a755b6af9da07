"""Makes waiting blocks coarser, the oldest first, in small steps that each free some of the budget.

Blocks that follow each other are thinned together, so that a minute of a signal keeps one least and one greatest value
and not one per block. A block keeps its numbers and its times; where its neighbours stand for it, it becomes a gap.
What goes is counted in the loss ledger as THINNED. A block that is on its way meanwhile may be committed whole: its
numbers are the same, so that the coordinator then has more than this ledger says, never less.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

import apsw
import numpy as np

from twinedge.spool.catalogues import catalogue_of, digests_of
from twinedge.spool.gaps import put_gap
from twinedge.spool.ledger import THINNED, count_loss
from twinedge.spool.rows import Lane, Row, lanes_of, set_thinned
from twinedge.spool.schema import run
from twinedge.spool.thinning import Mask, kept_of
from twinedge.spool.wishes import Wishes
from twinmodel.errors import InputError
from twinmodel.signal import Batch, Catalogue, Stream
from twinsync.block import decode, encode
from twinsync.item import Boot, Gap
from twinsync.kept import pack_kept, unpack_kept

PLAN = (
    (1, Stream.BULK), (1, Stream.TELEMETRY), (2, Stream.BULK), (2, Stream.TELEMETRY), (1, Stream.STATE),
    (2, Stream.STATE), (3, Stream.BULK), (3, Stream.TELEMETRY), (3, Stream.STATE),
)  # fmt: skip
"""Levels in the order they are gone through: what models read stays whole for long, alarms always."""
STEP_SAMPLES_MAX = 200_000
_BYTES_SPARED_MIN = 64
_CANDIDATES = (
    "SELECT * FROM held WHERE boot = ? AND stream = ? AND first_seq >= ? AND kind IN (0, 4)"
    " AND level < ? ORDER BY first_seq LIMIT ?"
)
_STORED = "SELECT * FROM held WHERE boot = ? AND stream = ? AND first_seq = ?"
_Decoded = list[tuple[Row, list[Batch]]]


class Coarser:
    """Remembers how far each level has come, so that no block is looked at twice for one.

    Args:
        rows_max: blocks of one step; each changes a page or two of the database.
    """

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._done: dict[tuple[int, int, int], int] = {}

    def step(self, db: apsw.Connection, boots: Mapping[int, bytes], now_ns: int) -> bool:
        """Looks at some blocks and thins them in one transaction; False when all are as thin as they get."""
        lanes = [lane for lane in lanes_of(db) if lane.acked_seq < lane.next_seq]
        for level, stream in PLAN:
            for lane in lanes:
                if lane.stream == stream and self._thin(db, lane, level, boots, now_ns):
                    return True
        return False

    def restart(self) -> None:
        """Looks at everything again: lanes went back, or the file is another."""
        self._done.clear()

    def _thin(self, db: apsw.Connection, lane: Lane, level: int, boots: Mapping[int, bytes], now_ns: int) -> bool:
        key = (lane.boot, lane.stream, level)
        start = max(self._done.get(key, 0), lane.acked_seq)
        found = run(db, _CANDIDATES, (lane.boot, lane.stream, start, level, self._rows_max))
        rows = _bounded([Row(*values) for values in found])
        if rows:
            self._thin_rows(db, lane, rows, level, boots[lane.boot], now_ns)
            self._done[key] = rows[-1].last_seq + 1
        return bool(rows)

    def _thin_rows(
        self, db: apsw.Connection, lane: Lane, rows: list[Row], level: int, boot: bytes, now_ns: int
    ) -> None:
        digest = digests_of(db).get(rows[0].catalogue)
        catalogue = None if digest is None else catalogue_of(db, digest)
        decoded = [] if catalogue is None else _decoded(rows, catalogue)
        if catalogue is None or not decoded:
            # Not readable: reading it to send it is what declares it.
            return
        masks = kept_of([batches for _, batches in decoded], catalogue, level)
        with db:
            for (row, batches), mask in zip(decoded, masks, strict=True):
                lost = len(mask) - int(mask.sum())
                if not mask.any():
                    # Its neighbours stand for its minutes.
                    gap = Gap(THINNED, row.count, row.from_ns, row.to_ns)
                    put_gap(db, lane, row.first_seq, row.last_seq, gap, now_ns, row=row.row)
                elif not lost or not _rewrite(db, row, batches, mask, catalogue, level):
                    lost = 0
                    run(db, "UPDATE items SET level = ? WHERE row = ?", (level, row.row))
                if lost:
                    count_loss(db, boot, row.stream, Gap(THINNED, lost, row.from_ns, row.to_ns), now_ns)


def thin_as_wished(
    db: apsw.Connection, wishes: Wishes, boot: Boot, item: tuple[Stream, int], catalogue: Catalogue, now_ns: int
) -> None:
    """Thins a block that was just stored, `item` being its stream and first number; in the caller's transaction."""
    row = Row(*run(db, _STORED, (boot.counter, *item))[0])
    batches = decode(row.block[1], catalogue, count_max=row.samples)
    mask = wishes.mask(item[0], batches, catalogue, now_ns)
    if mask is not None and _rewrite(db, row, batches, mask, catalogue, row.level):
        lost = len(mask) - int(mask.sum())
        count_loss(db, boot.id, row.stream, Gap(THINNED, lost, row.from_ns, row.to_ns), now_ns)


def _bounded(rows: list[Row]) -> list[Row]:
    """The first rows of one catalogue, as many as memory is given for; at least one."""
    alike = list(takewhile(lambda row: row.catalogue == rows[0].catalogue, rows))
    total = np.cumsum([row.samples for row in alike])
    return alike[: max(1, int(np.searchsorted(total, STEP_SAMPLES_MAX, "right")))] if alike else []


def _decoded(rows: list[Row], catalogue: Catalogue) -> _Decoded:
    found: _Decoded = []
    for row in rows:
        if not row.intact:
            continue
        try:
            batches = decode(row.block[1], catalogue, count_max=row.samples)
        except InputError:
            continue
        if sum(map(len, batches)) == row.samples:
            found.append((row, batches))
    return found


def _rewrite(db: apsw.Connection, row: Row, batches: list[Batch], mask: Mask, catalogue: Catalogue, level: int) -> bool:
    """Stores the chosen samples in the place of all; False, and nothing changes, when that spares too little."""
    edges = np.cumsum([len(batch) for batch in batches])[:-1]
    packed = encode([b.take(m) for b, m in zip(batches, np.split(mask, edges), strict=True)], catalogue)
    before, _ = row.block
    whole = np.ones(row.count, np.bool_) if not before else unpack_kept(before, row.count)
    whole[whole] = mask
    kept = pack_kept(whole)
    if len(kept) + len(packed.payload) + _BYTES_SPARED_MIN > row.size:
        return False
    set_thinned(db, row, kept, packed.payload, packed.count, level)
    return True
