"""What was stored last, decoded: a new boot learns from it what a broker or a server may send again."""

from __future__ import annotations

import apsw

from twinedge.spool.catalogues import catalogue_of, digests_of
from twinedge.spool.rows import Row
from twinedge.spool.schema import run
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.signal import Batch, Catalogue
from twinsync.block import decode

BLOCKS_MAX = 2000
WINDOW_NS = 600 * SECOND_NS
_NEWEST = "SELECT * FROM held WHERE row > ? AND kind IN (0, 4) AND at_ns >= ? ORDER BY row DESC"


def recent_of(db: apsw.Connection) -> list[tuple[Catalogue, list[Batch]]]:
    """Blocks of the last ten minutes in which any were stored, acknowledged or not, in order; at most 2,000.

    The time is counted back from the newest block, not from now: a broker keeps what it was not told to forget for as
    long as the gateway is away. A damaged block is passed over here: reading it to send it is what declares it.
    """
    newest = run(db, "SELECT row, at_ns FROM items WHERE kind IN (0, 4) ORDER BY row DESC LIMIT 1")
    if not newest:
        return []
    # Rows grow with time, so that a large spool is not read to its beginning.
    last, at_ns = newest[0]
    rows = [Row(*values) for values in run(db, _NEWEST, (last - BLOCKS_MAX, at_ns - WINDOW_NS))]
    digests = digests_of(db)
    catalogues = {n: catalogue_of(db, digests[n]) for n in {row.catalogue for row in rows} if n in digests}
    found = []
    for row in reversed(rows):
        catalogue = catalogues.get(row.catalogue)
        if catalogue is None or not row.intact:
            continue
        try:
            found.append((catalogue, decode(row.block[1], catalogue)))
        except InputError:
            continue
    return found
