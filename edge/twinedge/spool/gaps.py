"""Gaps over numbers whose items went away; neighbours become one. No two items of a lane share a number."""

from __future__ import annotations

import apsw

from twinedge.spool.rows import Lane, RowKind, insert, packed_gap, set_gap
from twinedge.spool.schema import run
from twinsync.item import Gap


def put_gap(
    db: apsw.Connection,
    lane: Lane,
    first_seq: int,
    last_seq: int,
    gap: Gap,
    now_ns: int,
    *,
    row: int | None = None,
) -> None:
    """Lets a gap occupy these numbers, in the place of `row` when one is given.

    It widens the gap before it when that has the same reason and cannot have left this machine.
    """
    before = run(
        db,
        "SELECT row, first_seq, from_ns, to_ns, payload FROM items WHERE boot = ? AND stream = ? AND last_seq = ?"
        " AND first_seq < ? AND first_seq >= ? AND kind = ? ORDER BY first_seq DESC LIMIT 1",
        (lane.boot, lane.stream, first_seq - 1, first_seq, lane.handed_seq, int(RowKind.GAP)),
    )
    if before and before[0][4] == packed_gap(gap):
        if row is not None:
            run(db, "DELETE FROM items WHERE row = ?", (row,))
        row, first_seq, from_ns, to_ns, _ = before[0]
        gap = Gap(gap.reason, last_seq - first_seq + 1, min(from_ns, gap.from_ns), max(to_ns, gap.to_ns))
    if row is None:
        insert(db, lane.boot, lane.stream, first_seq, last_seq, gap, 0, now_ns)
    else:
        set_gap(db, row, lane, first_seq, last_seq, gap)


def drop_overlaps(db: apsw.Connection, lane: Lane) -> None:
    """Deletes items that share numbers with another one, gaps first: what a damaged file may hold of two moments."""
    sql = "SELECT row, first_seq, last_seq, kind FROM items WHERE boot = ? AND stream = ? ORDER BY first_seq, last_seq"
    before, end, gap = 0, 0, False
    for row, first_seq, last_seq, kind in run(db, sql, (lane.boot, lane.stream)):
        if first_seq < end and (kind == RowKind.GAP or not gap):
            run(db, "DELETE FROM items WHERE row = ?", (row,))
            continue
        if first_seq < end:
            run(db, "DELETE FROM items WHERE row = ?", (before,))
        before, end, gap = row, last_seq + 1, kind == RowKind.GAP
