"""The loss ledger: one line per boot, stream and reason, which sums to every number that was dropped.

    samples of a line = what gaps and thinned blocks of this file still declare + what is settled

What is settled was committed by the coordinator and then pruned here, so that the sum can be proved at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from twinedge.spool.schema import run
from twinmodel.signal import Stream
from twinsync.item import Gap

THINNED = "THINNED"
"""Reason of samples that went out of blocks whose other samples were kept."""

_ADD = (
    "INSERT INTO ledger(boot, stream, reason, samples, from_ns, to_ns, at_ns) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET samples = samples + excluded.samples,"
    " from_ns = min(from_ns, excluded.from_ns), to_ns = max(to_ns, excluded.to_ns), at_ns = excluded.at_ns"
)
_DECLARED = (
    "SELECT boots.id, stream, reason, sum(samples) FROM declared JOIN boots ON boots.counter = declared.boot"
    " GROUP BY 1, 2, 3"
)
# A line of no boot holds what boots lost that are forgotten by now.
_FOLD = (
    "INSERT INTO ledger SELECT x'', stream, reason, sum(samples), min(from_ns), max(to_ns), max(at_ns), sum(settled)"
    " FROM ledger WHERE boot <> x'' AND boot NOT IN (SELECT id FROM boots) GROUP BY stream, reason"
    " ON CONFLICT DO UPDATE SET samples = samples + excluded.samples, settled = settled + excluded.settled,"
    " from_ns = min(from_ns, excluded.from_ns), to_ns = max(to_ns, excluded.to_ns),"
    " at_ns = max(at_ns, excluded.at_ns)"
)


@dataclass(frozen=True, slots=True)
class Loss:
    """One line of the loss ledger: what was dropped of a boot and stream for one reason.

    `boot` is empty for the sum over boots that are forgotten; `settled` is the part of `samples` whose declaration
    the coordinator has committed and that is pruned here.
    """

    boot: bytes
    stream: Stream
    reason: str
    samples: int
    from_ns: int
    to_ns: int
    at_ns: int
    settled: int = 0


def count_loss(db: apsw.Connection, boot: bytes, stream: int, gap: Gap, at_ns: int) -> None:
    """Adds a gap."""
    run(db, _ADD, (boot, stream, gap.reason, gap.count, gap.from_ns, gap.to_ns, at_ns))


def settle_loss(db: apsw.Connection, boot: bytes, row: int) -> None:
    """Notes that an item is about to be pruned, what it declares being committed."""
    sql = "UPDATE ledger SET settled = settled + ? WHERE boot = ? AND stream = ? AND reason = ?"
    for stream, reason, samples in run(db, "SELECT stream, reason, samples FROM declared WHERE row = ?", (row,)):
        run(db, sql, (samples, boot, stream, reason))


def recount(db: apsw.Connection) -> None:
    """Makes each line what is settled and declared, after items were undone or could not be read."""
    declared = declared_of(db)
    now_ns = 0
    for line in losses_of(db):
        now_ns = max(now_ns, line.at_ns)
        samples = line.settled + declared.pop((line.boot, line.stream, line.reason), 0)
        sql = "UPDATE ledger SET samples = ? WHERE boot = ? AND stream = ? AND reason = ?"
        run(db, sql, (samples, line.boot, line.stream, line.reason))
    for (boot, stream, reason), samples in declared.items():
        run(db, _ADD, (boot, stream, reason, samples, 0, 0, now_ns))


def fold_forgotten(db: apsw.Connection) -> None:
    """Sums up the lines of boots that are forgotten: the ledger stays small however often an agent starts."""
    run(db, _FOLD)
    run(db, "DELETE FROM ledger WHERE boot <> x'' AND boot NOT IN (SELECT id FROM boots)")


def declared_of(db: apsw.Connection) -> dict[tuple[bytes, Stream, str], int]:
    """What gaps and thinned blocks of this file declare, by boot, stream and reason; reads every one of them."""
    rows = run(db, _DECLARED)
    return {(boot, Stream(stream), reason): int(samples) for boot, stream, reason, samples in rows}


def losses_of(db: apsw.Connection) -> list[Loss]:
    """All lines, the one that grew last at the end."""
    rows = run(
        db,
        "SELECT boot, stream, reason, samples, from_ns, to_ns, at_ns, settled FROM ledger"
        " ORDER BY at_ns, boot, stream, reason",
    )
    return [Loss(boot, Stream(stream), *rest) for boot, stream, *rest in rows]
