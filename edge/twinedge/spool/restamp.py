"""Puts right the times of what waits, when a clock that was never set is: as little as a poll apart from the truth.

Items keep their numbers and samples their quality; only what the coordinator has not committed is touched, so that both
sides go on agreeing. A block that is on its way meanwhile may be committed with the times it had: it says CLOCK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import apsw
import numpy as np

from twinedge.spool.catalogues import catalogue_of, digests_of
from twinedge.spool.rows import Lane, Row, set_times
from twinedge.spool.schema import run
from twinmodel.errors import InputError
from twinsync.block import decode, encode

STEP_ROWS = 64
_WAITING = (
    "SELECT * FROM held WHERE boot = ? AND stream = ? AND first_seq >= ? AND first_seq < ? ORDER BY first_seq LIMIT ?"
)


def put_right(
    db: apsw.Connection, lane: Lane, start: int, span_ns: tuple[int, int], shift_ns: int
) -> tuple[int, int | None]:
    """Moves the times inside `span_ns` of some items from number `start` on, in the caller's transaction.

    Returns:
        How many samples and records were moved, and the number to go on with, None when there is no further item.
    """
    found = run(db, _WAITING, (lane.boot, lane.stream, start, lane.next_seq, STEP_ROWS))
    rows = [Row(*values) for values in found]
    digests = digests_of(db)
    moved = sum(_moved(db, row, digests, span_ns, shift_ns) for row in rows if row.intact)
    return moved, rows[-1].last_seq + 1 if len(rows) == STEP_ROWS else None


def _moved(db: apsw.Connection, row: Row, digests: Mapping[int, bytes], span_ns: tuple[int, int], shift_ns: int) -> int:
    """Moves the times of one item; what cannot be read stays as it is, for sending it is what declares it."""
    since_ns, until_ns = span_ns
    if row.from_ns > until_ns or row.to_ns < since_ns:
        return 0
    if not row.samples:
        ends = [t + shift_ns if since_ns <= t <= until_ns else t for t in (row.from_ns, row.to_ns)]
        set_times(db, row, ends[0], max(ends), row.payload)
        return 1
    digest = digests.get(row.catalogue)
    catalogue = None if digest is None else catalogue_of(db, digest)
    if catalogue is None:
        return 0
    try:
        batches = decode(row.block[1], catalogue, count_max=row.samples)
        wrong = [(b.t_ns >= since_ns) & (b.t_ns <= until_ns) for b in batches]
        right = [replace(b, t_ns=np.where(w, b.t_ns + shift_ns, b.t_ns)) for b, w in zip(batches, wrong, strict=True)]
        packed = encode(right, catalogue)
    except InputError:
        return 0
    set_times(db, row, packed.t_min_ns, packed.t_max_ns, packed.payload)
    return sum(int(np.count_nonzero(w)) for w in wrong)
