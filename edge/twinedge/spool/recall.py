"""What was stored last, decoded: a new boot learns from it what a broker or a server may send again."""

from __future__ import annotations

import apsw

from twinedge.spool.catalogues import catalogue_of, digests_of
from twinedge.spool.rows import Row, RowKind
from twinedge.spool.schema import run
from twinmodel.errors import InputError
from twinmodel.signal import Batch, Catalogue
from twinsync.block import decode

BLOCKS_MAX = 2000


def recent_of(db: apsw.Connection, since_ns: int) -> list[tuple[Catalogue, list[Batch]]]:
    """Blocks stored since a wall time, acknowledged or not, in the order they were stored; the newest 2,000.

    A damaged block is passed over here: reading it to send it is what declares it.
    """
    sql = "SELECT * FROM items WHERE kind = ? AND at_ns >= ? ORDER BY row DESC LIMIT ?"
    rows = [Row(*values) for values in run(db, sql, (RowKind.BLOCK, since_ns, BLOCKS_MAX))]
    digests = digests_of(db)
    catalogues = {n: catalogue_of(db, digests[n]) for n in {row.catalogue for row in rows} if n in digests}
    found = []
    for row in reversed(rows):
        catalogue = catalogues.get(row.catalogue)
        if catalogue is None or not row.intact:
            continue
        try:
            found.append((catalogue, decode(row.payload, catalogue)))
        except InputError:
            continue
    return found
